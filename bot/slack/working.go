package slack

import (
	"context"
	"slices"

	slackgo "github.com/slack-go/slack"

	"bgbot/bot"
)

// Working shows status in the thread's line of what the app does. Not every workspace has it for threads of a channel; one
// that says so once is not asked again. Slack takes it away by itself after two minutes, and with our next message (docs).
func (s *sender) Working(ctx context.Context, p bot.Place, status string) error {
	s.mu.Lock()
	mute := s.mute
	s.mu.Unlock()
	if mute || p.Thread == "" || p.Channel != s.channel {
		return nil
	}
	err := s.api.SetAssistantThreadsStatusContext(ctx, slackgo.AssistantThreadsSetStatusParameters{
		ChannelID: s.channel, ThreadTS: p.Thread, Status: shorten(status, 50),
	})
	if slices.Contains(noStatusLine, codeOf(err)) {
		s.log.InfoContext(ctx, "the workspace has no status line for threads", "code", codeOf(err))
		s.mu.Lock()
		s.mute = true
		s.mu.Unlock()
		return nil
	}
	return classify("assistant.threads.setStatus", err)
}

// noStatusLine are the refusals that mean this workspace and app, not this thread.
var noStatusLine = []string{"unknown_method", "not_allowed_token_type", "missing_scope", "feature_not_enabled", "not_enabled", "method_deprecated"}
