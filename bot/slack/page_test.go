package slack

import (
	"errors"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// openedPage is what Slack sends when a person opens the bot's own page.
func openedPage(user string) fields {
	return wrap(fields{"type": "app_home_opened", "user": user, "channel": "D0" + user, "tab": "home", "event_ts": ago(0)})
}

// pressedOnPage is a click there. Unlike that on a message it has no response_url.
func pressedOnPage(pressed time.Duration) fields {
	return pressedButton().with(fields{
		"container": fields{"type": "view"}, "channel": nil, "message": nil, "response_url": nil,
		"view":    fields{"type": "home", "app_id": ourApp, "bot_id": ourBot, "team_id": ourTeam},
		"actions": []fields{{"type": "button", "action_id": "choice-0", "value": "verb:status", "action_ts": ago(pressed)}},
	})
}

func TestAPageSaysWhyNothingHappens(t *testing.T) {
	t.Parallel()
	const out = "Nothing was done: I am not in my channel any more. Type /invite @bgbot there."
	is := func(c condition) func(*intake) { return func(in *intake) { in.channelState.is = c } }
	opened := func(who string) func() fields { return func() fields { return openedPage(who) } }
	pressed := func(late time.Duration) func() fields { return func() fields { return pressedOnPage(late) } }
	for name, c := range map[string]struct {
		kind    string
		payload func() fields // as its time comes
		before  func(*intake)
		want    string
	}{
		"opened, out of the channel":          {"events_api", opened(operator), is(absent), out},
		"pressed, out of the channel":         {"interactive", pressed(0), is(absent), out},
		"pressed, out of the private channel": {"interactive", pressed(0), is(missing), out},
		"opened, archived":                    {"events_api", opened(operator), is(archived), "Nothing was done: my channel is archived. Unarchive it."},
		"opened, shared":                      {"events_api", opened(operator), is(shared), "Nothing was done: this channel is shared with another workspace, or is about to be, and I act in none that is."},
		"opened by a guest on the allowlist": {"events_api", opened(operator), func(in *intake) {
			in.people.known[operator] = record{barred: "is a guest's (is_restricted)", at: time.Now()}
		}, "You may not act here: your Slack account is a guest's (is_restricted). Somebody on the allowlist has to."},
		"pressed late": {"interactive", pressed(61 * time.Second), func(*intake) {}, "That click reached me too late, so nothing was done. Open this page again and press there."},
		"opened in the future": {
			"events_api", func() fields {
				return wrap(fields{"type": "app_home_opened", "user": operator, "tab": "home", "event_ts": ago(-time.Hour)})
			}, func(*intake) {},
			"Nothing was done: by my clock, this comes from the future. I ask Slack for the time; say it again in a minute.",
		},
		"opened by a stranger": {"events_api", opened(stranger), is(absent), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, r := newIntake(t)
			c.before(in)
			if _, err := in.take(t.Context(), envelope{Type: c.kind, Payload: c.payload().raw()}); err != nil {
				t.Fatal(err)
			}
			in.wg.Wait()
			if len(r.got) > 0 {
				t.Errorf("the core got %+v", r.got)
			}
			switch {
			case c.want == "" && len(r.said) > 0:
				t.Errorf("a stranger made us draw %+v", r.said)
			case c.want != "" && (len(r.said) != 1 || r.said[0].Body != c.want || r.said[0].Only != "the page of "+operator):
				t.Errorf("drew %+v\nwant %s", r.said, c.want)
			}
		})
	}
}

// Taken out of its channel, the bot still answers where Slack lets it: a command, and its own page.
func TestOutOfItsChannelItSaysSo(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	r := s.run(func(p *pace) { p.look = 10 * time.Millisecond })
	if _, err := s.Leave(s.Channel(), s.BotUserID()); err != nil {
		t.Fatal(err)
	}
	s.until("noticing it", func() bool { return r.state.bar() != nil })
	const want = "Nothing was done: I am not in my channel any more. Type /invite @bgbot there."
	sent, err := s.Slash(operator, s.Channel(), "/vm", "status")
	if err != nil {
		t.Fatal(err)
	}
	ack, err := s.AwaitAck(s.deadline(), sent.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	if got := answerOf(t, ack.Payload); got != want {
		t.Errorf("the command was answered with %s", got)
	}
	if _, err := s.OpenHome(operator); err != nil {
		t.Fatal(err)
	}
	s.until("the page", func() bool { return s.Home(operator).Shown() == want })
}

// Nothing looks at the token for minutes, but whatever Slack refuses does.
func TestACallFindsThatTheTokenWasRevoked(t *testing.T) {
	t.Parallel()
	for name, say := range map[string]func(*running) error{
		"post": func(r *running) error {
			_, err := r.Post(t.Context(), r.home.place(""), bot.Text{Body: "a result"})
			return err
		},
		"edit": func(r *running) error {
			return r.Edit(t.Context(), r.home.place(""), "1700000000.000100", bot.Text{Body: "progress"})
		},
		"page": func(r *running) error { return r.Home(t.Context(), operator, bot.Text{Body: "the state"}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			r := s.run(nil)
			s.Inject(slacktest.Fault{ // not all calls: reading back would find it too
				Methods: []string{"chat.postMessage", "chat.update", "views.publish", "conversations.info"}, Kind: slacktest.ErrorCode, Error: "token_revoked",
			})
			if err := say(r); err == nil {
				t.Fatal("it was said")
			}
			s.until("the end", func() bool { return s.Sockets() == 0 })
			fatal, ok := errors.AsType[*bot.Fatal](r.stop())
			if !ok || fatal.Reason != "slack.bot_token is refused (token_revoked): it was revoked. "+installAgain {
				t.Errorf("got %v", fatal)
			}
		})
	}
}
