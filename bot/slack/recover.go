package slack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
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

// recover looks whether the message is there whose answer was lost, and sets its id if it is. It gives Slack time to
// finish first. Where Slack does not let us read at all, the message is repeated: twice is better than never.
func (s *sender) recover(ctx context.Context, p bot.Place, key string, t *try) error {
	timer := time.NewTimer(time.Until(t.lost.Add(s.settle)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return classify("chat.postMessage", context.Cause(ctx))
	}
	ts, err := s.find(ctx, p, key, t.since)
	switch code := codeOf(err); {
	case err == nil:
	case code == "missing_scope", code == "not_allowed_token_type", code == "unknown_method", code == "thread_not_found":
		s.log.WarnContext(ctx, "a message whose answer was lost is sent again unseen", "err", classify("conversations.replies", err))
	default:
		return classify("conversations.replies", err)
	}
	if ts != "" {
		t.ts = ts
		s.saw(p, ts)
		s.log.InfoContext(ctx, "a message had arrived although its answer was lost", slog.String("ts", ts))
	}
	t.lost = time.Time{}
	return nil
}

// find is the id of the message with this key among those in p that are newer than since; empty if there is none.
func (s *sender) find(ctx context.Context, p bot.Place, key, since string) (string, error) {
	want := mark(key).EventPayload["key"]
	for page, cursor := 0, ""; page < 20; page++ {
		found, next, err := s.page(ctx, p, since, cursor)
		if err != nil {
			return "", err
		}
		for _, m := range found {
			if m.Metadata.EventType == markType && m.Metadata.EventPayload["key"] == want {
				return m.Timestamp, nil
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	return "", nil
}

// page reads some of a thread, the oldest first, or of the channel, the newest first.
func (s *sender) page(ctx context.Context, p bot.Place, since, cursor string) (found []slackgo.Message, next string, err error) {
	if p.Thread != "" {
		found, _, next, err = s.api.GetConversationRepliesContext(ctx, &slackgo.GetConversationRepliesParameters{
			ChannelID: s.channel, Timestamp: p.Thread, Oldest: since, Cursor: cursor, Limit: 200, IncludeAllMetadata: true,
		})
		return found, next, err
	}
	h, err := s.api.GetConversationHistoryContext(ctx, &slackgo.GetConversationHistoryParameters{
		ChannelID: s.channel, Oldest: since, Limit: 200, Cursor: cursor, IncludeAllMetadata: true,
	})
	if err != nil {
		return nil, "", err
	}
	if since == "" { // nothing that we know of was said before: the newest page is enough
		return h.Messages, "", nil
	}
	return h.Messages, h.ResponseMetaData.NextCursor, nil
}
