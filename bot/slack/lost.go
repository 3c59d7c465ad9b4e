package slack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	slackgo "github.com/slack-go/slack"

	"bgbot/bot"
)

// markType names our metadata in a message; Slack has no idempotency key, so this is what a lost post is known by.
const markType = "bgbot_post"

// mark is the metadata of the message with this key. Every member can read metadata (docs) and a key may be the nonce of a
// confirmation, hence the hash.
func mark(key string) slackgo.SlackMetadata {
	sum := sha256.Sum256([]byte(key))
	return slackgo.SlackMetadata{EventType: markType, EventPayload: map[string]any{"key": hex.EncodeToString(sum[:12])}}
}

// find looks whether the message is there whose answer was lost, and sets its id if it is.
func (s *sender) find(ctx context.Context, p bot.Place, key string, t *try) error {
	want := mark(key).EventPayload["key"]
	ts, err := s.look(ctx, p, t.lost, t.since, func(m slackgo.Message) bool {
		return m.BotID == s.bot && m.Metadata.EventType == markType && // any app can write the same metadata
			m.Metadata.EventPayload["key"] == want
	})
	if err != nil {
		return err
	}
	if ts != "" {
		s.log.InfoContext(ctx, "a message had arrived although its answer was lost", "ts", ts)
		s.saw(p, ts)
	}
	t.ts, t.lost = ts, time.Time{}
	return nil
}

// look is the id of the message in p that is newer than since and is the one; empty if none is. It first gives Slack time
// to finish what it may still be doing. Where Slack does not let us read at all, there is none: twice is better than never.
func (s *sender) look(ctx context.Context, p bot.Place, lost time.Time, since string, is func(slackgo.Message) bool) (string, error) {
	timer := time.NewTimer(time.Until(lost.Add(s.settle)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return "", classify("chat.postMessage", context.Cause(ctx))
	}
	for page, cursor := 0, ""; page < 20; page++ {
		found, next, err := s.page(ctx, p, since, cursor)
		switch codeOf(err) {
		case "missing_scope", "not_allowed_token_type", "unknown_method", "thread_not_found":
			s.log.WarnContext(ctx, "a message whose answer was lost is sent again unseen", "err", classify("conversations.replies", err))
			return "", nil
		}
		if err != nil {
			return "", classify("conversations.replies", err)
		}
		for _, m := range found {
			if is(m) {
				return m.Timestamp, nil
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	return "", nil
}

// page reads some of a thread, the oldest first, or of the channel, the newest first. Where nothing is known to be older,
// the newest page of the channel is enough.
func (s *sender) page(ctx context.Context, p bot.Place, since, cursor string) (found []slackgo.Message, next string, err error) {
	if p.Thread != "" {
		found, _, next, err = s.api.GetConversationRepliesContext(ctx, &slackgo.GetConversationRepliesParameters{
			ChannelID: s.channel, Timestamp: p.Thread, Oldest: since, Cursor: cursor, Limit: 200, IncludeAllMetadata: true,
		})
		return found, next, err
	}
	h, err := s.api.GetConversationHistoryContext(ctx, &slackgo.GetConversationHistoryParameters{
		ChannelID: s.channel, Oldest: since, Cursor: cursor, Limit: 200, IncludeAllMetadata: true,
	})
	if err != nil {
		return nil, "", err
	}
	if since != "" {
		next = h.ResponseMetaData.NextCursor
	}
	return h.Messages, next, nil
}
