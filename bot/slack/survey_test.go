package slack

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

const mendScopes = "on api.slack.com/apps, your app, OAuth & Permissions (or paste `bgbot slack manifest` into App Manifest), install the app again and start bgbot again."

func TestWhatKeepsTheBotFromStarting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given func(*Options)
		slack func(*scene)
		want  string
	}{
		"tokens the wrong way round": {
			given: func(o *Options) { o.AppToken, o.BotToken = o.BotToken, o.AppToken },
			want:  "slack.app_token and slack.bot_token are the wrong way round: the app token begins with xapp-, the bot token with xoxb-.",
		},
		"a person's token": {
			given: func(o *Options) { o.BotToken = "xoxp-1" },
			want:  "slack.bot_token is no bot token, which begins with xoxb-. " + installAgain,
		},
		"no app token": {
			given: func(o *Options) { o.AppToken = "" },
			want:  "slack.app_token is no app-level token, which begins with xapp-. Make one on api.slack.com/apps, your app, Basic Information, with the scope connections:write, and put it into slack.app_token_file.",
		},
		"a channel's name": {
			given: func(o *Options) { o.Channel = "#incident" },
			want:  "slack.channel must be the channel's ID (C…), not its name: Slack shows it at the bottom of the channel's details.",
		},
		"an address without a slash": {
			given: func(o *Options) { o.APIURL = strings.TrimSuffix(o.APIURL, "/") },
			want:  "slack.api_url must end in /.",
		},
		"a token of yesterday": {
			given: func(o *Options) { o.BotToken = "xoxb-old" },
			want:  "slack.bot_token is refused (invalid_auth): Slack does not know it. " + installAgain,
		},
		"a revoked token": {
			slack: func(s *scene) { s.RefuseToken(s.BotToken(), "token_revoked") },
			want:  "slack.bot_token is refused (token_revoked): it was revoked. " + installAgain,
		},
		"tokens of two apps": {
			given: func(o *Options) { o.AppToken = "xapp-1-A0OTHER-1-x" },
			want:  "slack.app_token and slack.bot_token belong to two apps (A0OTHER and A0BGBOTAPP). Take both from the same app on api.slack.com/apps.",
		},
		"a missing scope": {
			slack: func(s *scene) { s.SetScopes("chat:write", "commands", "files:write", "groups:history", "users:read") },
			want:  "slack.bot_token lacks groups:read. Add the scopes " + mendScopes,
		},
		"a scope too many": {
			slack: func(s *scene) { s.SetScopes(append(wantedScopes(false), "channels:manage", "im:history")...) },
			want:  "slack.bot_token has channels:manage, im:history, which bgbot does not need; what it does not have, nobody can steal. Remove the scopes " + mendScopes,
		},
		"one missing and one too many": {
			slack: func(s *scene) { s.SetScopes(append(wantedScopes(false)[1:], "admin")...) },
			want:  "slack.bot_token lacks chat:write and has admin, which bgbot does not need. Mend the scopes " + mendScopes,
		},
		"another channel": {
			given: func(o *Options) { o.Channel = "C0NOWHERE" },
			want:  "slack.channel (C0NOWHERE) does not exist, or is private and does not have me as a member. Type /invite @bgbot in it, or mend slack.channel: it is the channel's ID (C…), which Slack shows at the bottom of the channel's details.",
		},
		"an archived channel": {
			slack: func(s *scene) { s.Archive(s.Channel(), true) },
			want:  "slack.channel (C0INCIDENT) is archived. Unarchive it, or set slack.channel to another one.",
		},
		"a shared channel": {
			slack: func(s *scene) { s.share(true) },
			want:  "slack.channel (C0INCIDENT) is shared with another workspace, or is about to be. Stop sharing it, or set slack.channel to a private channel of this workspace alone. In Slack Connect, outsiders are ordinary IDs that can press buttons.",
		},
		"a public channel that we are not in": {
			given: func(o *Options) { o.Channel = "C0PUBLIC" },
			slack: func(s *scene) {
				s.SetScopes(wantedScopes(true)...)
				s.AddChannel(slacktest.Channel{ID: "C0PUBLIC", Name: "public", Public: true})
			},
			want: "slack.channel (C0PUBLIC) does not have me as a member. Type /invite @bgbot in it.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			o := s.options()
			if c.given != nil {
				c.given(&o)
			}
			if c.slack != nil {
				c.slack(s)
			}
			_, err := Open(t.Context(), o)
			fatal, ok := errors.AsType[*bot.Fatal](err)
			if !ok {
				t.Fatalf("want a *bot.Fatal, got %v", err)
			}
			if fatal.UserMessage() != c.want {
				t.Errorf("got  %s\nwant %s", fatal.UserMessage(), c.want)
			}
			if strings.Contains(err.Error(), o.BotToken[5:]) && len(o.BotToken) > 5 {
				t.Error("the token is in the error")
			}
		})
	}
}

// share makes the channel shared with another workspace, or its own again.
func (s *scene) share(shared bool) {
	s.AddChannel(slacktest.Channel{ID: s.Channel(), Name: "incident", ExtShared: shared})
}

func TestSlacksOwnTroubleIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, kind := range []slacktest.FaultKind{slacktest.HTML502, slacktest.Reset, slacktest.Garbage, slacktest.RateLimited} {
		s.Inject(slacktest.Fault{Methods: []string{"auth.test", "conversations.info"}, Kind: kind, Times: 1})
	}
	s.Inject(slacktest.Fault{Methods: []string{"auth.test"}, Kind: slacktest.ErrorCode, Error: "internal_error", Times: 1})
	if _, err := Open(t.Context(), s.options()); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Calls() {
		if c.Inside {
			t.Errorf("%s was asked inside a Retry-After", c.Method)
		}
	}
}

func TestItDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.Inject(slacktest.Fault{Methods: []string{"auth.test"}, Kind: slacktest.HTML503})
	look := newSurvey(s.options())
	var log strings.Builder
	_, err := insist(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), 300*time.Millisecond, look.identity)
	const want = "Slack does not answer: auth.test: HTTP 503 Service Unavailable. Look at the network, at slack.api_url and at status.slack.com, then start bgbot again."
	if got := sentence(err); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := strings.Count(log.String(), `msg="slack does not answer yet, asking on"`); n != 1 {
		t.Errorf("the log says %d times that it takes long:\n%s", n, &log)
	}
}

func TestTheDoctorExplainsEachPiece(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	check := func() []Finding {
		if err := s.AwaitSockets(s.deadline(), 0, -1); err != nil { // the one before is not counted any more
			t.Fatal(err)
		}
		return Check(t.Context(), s.options())
	}
	healthy := []Finding{
		{"configuration", "tokens and channel have the right form", Good},
		{"slack.bot_token", "bgbot in the workspace testing (T0TESTING); scopes chat:write commands files:write groups:history groups:read users:read", Good},
		{"app", "A0BGBOTAPP", Good},
		{"slack.channel", "private, and the bot is in it", Good},
		{"auth.slack", "U0COLLEAGUE colleague; U0OPERATOR operator", Good},
		{"slack.app_token", "connects; no other program uses this token", Good},
		{"clock", "right", Good},
		{"slack.readers", "nobody but the allowlist", Good},
	}
	if got := check(); !slices.Equal(got, healthy) {
		t.Errorf("got  %+v\nwant %+v", got, healthy)
	}

	s.SetLink(slacktest.Link{Foreign: 1})
	serving := slices.Clone(healthy)
	serving[5].Text = "connects; 1 other connection on this token is open. It is bgbot's own if it is serving now; any other program's takes messages away from it"
	if got := check(); !slices.Equal(got, serving) {
		t.Errorf("got  %+v\nwant %+v", got, serving)
	}

	s.AddUser(slacktest.User{ID: colleague, Name: "colleague", Restricted: true})
	if _, err := s.Join(s.Channel(), stranger); err != nil {
		t.Fatal(err)
	}
	s.SetLink(slacktest.Link{Foreign: 2})
	s.Archive(s.Channel(), true)
	sick := slices.Clone(healthy)
	sick[3] = Finding{"slack.channel", "slack.channel (C0INCIDENT) is archived. Unarchive it, or set slack.channel to another one.", Wrong}
	sick[4] = Finding{"auth.slack", "U0COLLEAGUE colleague may not act: the account is a guest's (is_restricted); U0OPERATOR operator", Doubtful}
	sick[5] = Finding{"slack.app_token", "connects; 2 other connections on this token are open. One is bgbot's own if it is serving now; more would take messages away from it", Doubtful}
	sick[7].Text = "not on the allowlist, and can read everything: stranger (U0STRANGER)"
	if got := check(); !slices.Equal(got, sick) {
		t.Errorf("got  %+v\nwant %+v", got, sick)
	}

	s.RefuseToken(s.BotToken(), "account_inactive")
	s.RefuseToken(s.AppToken(), "token_revoked")
	got := check()
	if len(got) != 3 || got[1].Level != Wrong || got[2].What != "slack.app_token" || got[2].Level != Wrong {
		t.Errorf("got %+v", got)
	}
}

func TestAPublicChannelIsServedWithAWarning(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.AddChannel(slacktest.Channel{ID: s.Channel(), Name: "incident", Public: true})
	s.SetScopes(wantedScopes(true)...)
	s.run(nil)
	s.notes("⚠️ This channel is public: everybody in the workspace can read what is said here. A private channel is better (slack.channel).")
}
