package slack

import (
	"context"

	slackgo "github.com/slack-go/slack"

	"bgbot/bot"
)

// whisper shows t to one person. Such a message has no id that could be edited, and nobody can look whether it arrived: a
// lost answer means that it is said again.
func (s *sender) whisper(ctx context.Context, p bot.Place, t bot.Text) error {
	if len(t.Files) > 0 {
		s.log.WarnContext(ctx, "files of a message for one person are left out: everybody would see them")
	}
	thread := s.hears(ctx, p)
	whole := s.try(t.Key)
	all := messages(t, whole.halved)
	for i := 0; i < len(all); i++ {
		part := s.try(followUp(t.Key, i))
		if part.ts != "" {
			continue
		}
		options := all[i].options()
		if thread != "" {
			options = append(options, slackgo.MsgOptionTS(thread))
		}
		ts, err := s.api.PostEphemeralContext(ctx, s.channel, t.Only, options...)
		if err == nil && ts == "" {
			err = errNoID
		}
		if tooLong(err) && whole.halved < 0 {
			whole.halved = i
			all = messages(t, i)
			i--
			continue
		}
		if err != nil {
			return classify("chat.postEphemeral", err)
		}
		part.ts = ts
	}
	for i := range all {
		s.forget(followUp(t.Key, i))
	}
	s.forget(t.Key)
	return nil
}

// hears is the thread to whisper in. Slack shows an ephemeral message only in a thread that has replies (docs); whoever
// has just begun one would see nothing, so theirs goes into the channel, and so it does where nobody can look just now.
func (s *sender) hears(ctx context.Context, p bot.Place) (thread string) {
	if p.Thread == "" {
		return ""
	}
	s.mu.Lock()
	alive := s.alive[p.Thread]
	s.mu.Unlock()
	if alive {
		return p.Thread
	}
	found, _, _, err := s.api.GetConversationRepliesContext(ctx, &slackgo.GetConversationRepliesParameters{ChannelID: s.channel, Timestamp: p.Thread, Limit: 2})
	if err != nil || len(found) < 2 {
		return ""
	}
	s.saw(p, "")
	return p.Thread
}
