package slack

import (
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// answerOf is the text in the acknowledgement of a command.
func answerOf(t *testing.T, answer []byte) string {
	t.Helper()
	var said struct {
		Type string `json:"response_type"`
		Text string
	}
	if err := json.Unmarshal(answer, &said); err != nil || said.Type != "ephemeral" {
		t.Fatalf("answer %s: %v", answer, err)
	}
	return said.Text
}

func TestACommandIsRefusedInWordsThatOneSees(t *testing.T) {
	t.Parallel()
	const late = "That command reached me late, and I run no late commands. Look here whether it has been answered; if not, type it again."
	for name, c := range map[string]struct {
		payload fields
		attempt int
		before  func(*intake)
		want    string
	}{
		"elsewhere":            {payload: typedCommand().with(fields{"channel_id": "C0OTHER"}), want: "I serve one channel only: type this in <#C0INCIDENT>. Nothing was done."},
		"a stranger elsewhere": {payload: typedCommand().with(fields{"channel_id": "C0OTHER", "user_id": stranger}), want: "I serve one channel only. Nothing was done."},
		"late":                 {payload: typedCommand(), attempt: 1, want: late},
		"a guest on the allowlist": {
			payload: typedCommand(), before: func(in *intake) {
				in.people.known[operator] = record{barred: "is a guest's (is_restricted)", at: time.Now()}
			},
			want: "You may not act here: your Slack account is a guest's (is_restricted). Somebody on the allowlist has to.",
		},
		"a person whom Slack did not tell of yet": {
			payload: typedCommand(), before: func(in *intake) { delete(in.people.known, operator) },
			want: "Nothing was done: I have to check your Slack account first, and Slack did not answer yet. I keep asking; say it again in a minute.",
		},
		"a person whom Slack does not tell of any more": {
			payload: typedCommand(), before: func(in *intake) { in.people.known[operator] = record{at: time.Now().Add(-34 * time.Minute)} },
			want: "Nothing was done: I have to check your Slack account now and then, and Slack has not answered that for 34 min. I keep asking; say it again in a minute, or use `bgbot console`.",
		},
		"a shared channel": {
			payload: typedCommand(), before: func(in *intake) { in.channelState.is = shared },
			want: "Nothing was done: this channel is shared with another workspace, or is about to be, and I act in none that is.",
		},
		"an archived channel": {
			payload: typedCommand(), before: func(in *intake) { in.channelState.is = archived },
			want: "Nothing was done: my channel is archived. Unarchive it.",
		},
		"a channel that the bot is out of": {
			payload: typedCommand(), before: func(in *intake) { in.channelState.is = absent },
			want: "Nothing was done: I am not in my channel any more. Type /invite @bgbot there.",
		},
		"a private channel that the bot is out of": {
			payload: typedCommand(), before: func(in *intake) { in.channelState.is = missing },
			want: "Nothing was done: I am not in my channel any more. Type /invite @bgbot there.",
		},
		"a channel that Slack does not tell of any more": {
			payload: typedCommand(), before: func(in *intake) { in.channelState.at = time.Now().Add(-31 * time.Minute) },
			want: "Nothing was done: I have to check now and then that nobody else can write here, and Slack has not answered that for 31 min. I keep asking; use `bgbot console` until then.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, r := newIntake(t)
			if c.before != nil {
				c.before(in)
			}
			answer, err := in.take(t.Context(), envelope{Type: "slash_commands", Payload: c.payload.raw(), Attempt: c.attempt})
			if err != nil || len(r.got) > 0 {
				t.Fatalf("%v, the core got %+v", err, r.got)
			}
			if got := answerOf(t, answer); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// What the core has already is not refused as late: it was done.
func TestASecondDeliveryOfWhatWasTakenIsSilent(t *testing.T) {
	t.Parallel()
	in, r := newIntake(t)
	click, command := pressedButton().raw(), typedCommand().raw()
	for attempt := range 2 {
		for kind, payload := range map[string]json.RawMessage{"slash_commands": command, "interactive": click} {
			answer, err := in.take(t.Context(), envelope{Type: kind, Payload: payload, Attempt: attempt, Received: time.Now()})
			if err != nil || answer != nil {
				t.Errorf("%s, attempt %d: %s, %v", kind, attempt, answer, err)
			}
		}
	}
	if len(r.got) != 2 {
		t.Errorf("the core got %+v", r.got)
	}
}

// A bot that was away answers a click only if the person can still mean it.
func TestALateClickIsRefusedToThePersonAlone(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	in, r := newIntake(t)
	in.web.url = s.URL()
	payload := pressedButton().with(fields{
		"response_url": strings.TrimSuffix(s.URL(), "api/") + "actions/none",
		"actions":      []fields{{"type": "button", "action_id": "choice-0", "value": "confirm:n", "action_ts": ago(61 * time.Second)}},
	})
	if _, err := in.take(t.Context(), envelope{Type: "interactive", Payload: payload.raw(), Attempt: 2}); err != nil {
		t.Fatal(err)
	}
	in.wg.Wait()
	calls := s.Calls("response_url")
	if len(r.got) > 0 || len(calls) != 1 {
		t.Fatalf("the core got %+v, Slack %+v", r.got, calls)
	}
	const want = `{"replace_original":false,"response_type":"ephemeral","text":"That click reached me late, and I run no late clicks. Look here whether it has been done; if not, press again."}`
	if got := calls[0].Args["body"]; got != want {
		t.Errorf("got %s", got)
	}
	if got := calls[0].Header.Get("Authorization"); got != "" {
		t.Error("a token went to the response_url")
	}
}

func TestAnAnswerGoesToSlackOnly(t *testing.T) {
	t.Parallel()
	in, _ := newIntake(t)
	for _, address := range []string{"", "http://hooks.slack.com/x", "https://slack.com.evil.example/x", "https://evil.example/slack.com", "http://127.0.0.1:2/x", "x"} {
		if err := in.postTo(t.Context(), address, whisper("no")); err == nil || err.Error() != "response_url is no address of Slack's" {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestAnOperatorIsToldWhyAReplyDoesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		event fields
		want  string
	}{
		"also sent to the channel": {
			typed().with(fields{"subtype": "thread_broadcast", "thread_ts": ago(time.Hour)}),
			"I do not act on a reply that is also sent to the channel. Say it again in the thread alone.",
		},
		"a photo without words": {
			typed().with(fields{"subtype": "file_share", "text": ""}),
			"I read words only, no files and no pictures. Say in words what is wrong.",
		},
		"a stranger is not": {typed().with(fields{"subtype": "file_share", "text": "", "user": stranger}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, r := newIntake(t)
			if _, err := in.take(t.Context(), envelope{Type: "events_api", Payload: wrap(c.event).raw()}); err != nil {
				t.Fatal(err)
			}
			in.wg.Wait()
			if c.want == "" && len(r.said) == 0 {
				return
			}
			if len(r.said) != 1 || r.said[0].Body != c.want || r.said[0].Only != operator {
				t.Errorf("said %+v", r.said)
			}
		})
	}
}

// Somebody shares the channel: nobody acts, everybody reads why. When it is ours alone again, what was said meanwhile
// stays unsaid.
func TestASharedChannelIsSilent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(func(p *pace) { p.look, p.readBack = 10*time.Millisecond, 10*time.Millisecond })
	s.share(true)
	s.notes("⚠️ This channel is shared with another workspace, or is about to be, so I act on nothing here, whoever says it. Stop sharing it, or set slack.channel to a private channel of this workspace alone. In Slack Connect, outsiders are ordinary IDs that can press buttons.")
	sent, err := s.Say(operator, "", "vm reset")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AwaitAck(s.deadline(), sent.Envelope); err != nil {
		t.Fatal(err)
	}
	s.share(false)
	s.notes("✅ This channel belongs to this workspace alone again: I act on what is said from now on.")
	s.says(operator, "", "vm status")
	s.hears("vm status")
	calls := len(s.Calls("conversations.history"))
	s.until("reading back", func() bool { return len(s.Calls("conversations.history")) > calls+2 })
	if got := s.texts(); slices.Contains(got, "vm reset") {
		t.Errorf("the core has %q", got)
	}
}

// An event says so before anybody asks.
func TestChannelSharedIsBelievedAtOnce(t *testing.T) {
	t.Parallel()
	in, r := newIntake(t)
	take := func(event fields) {
		if _, err := in.take(t.Context(), envelope{Type: "events_api", Payload: wrap(event).raw()}); err != nil {
			t.Fatal(err)
		}
	}
	take(fields{"type": "channel_shared", "connected_team_id": "T0OTHER", "channel": "C0OTHER", "event_ts": ago(0)})
	take(typed())
	take(fields{"type": "channel_shared", "connected_team_id": "T0OTHER", "channel": ourChannel, "event_ts": ago(0)})
	take(typed())
	in.wg.Wait()
	if len(r.got) != 2 || r.got[0].Text == "" || r.got[1].Notice == "" {
		t.Errorf("the core got %+v", r.got)
	}
	if len(in.stale) != 1 {
		t.Error("nobody was asked to look at the channel")
	}
}

// Archived, nobody can reach the bot; opened again, what was said before the bot noticed is read back.
func TestAnArchivedChannelComesBack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	r := s.run(func(p *pace) { p.look = 10 * time.Millisecond })
	s.Archive(s.Channel(), true)
	s.until("noticing it", func() bool { return r.state.bar() != nil })
	s.Archive(s.Channel(), false)
	s.until("noticing it", func() bool { return r.state.bar() == nil })
	s.says(operator, "", "still there?")
	s.hears("still there?")
	if _, err := s.Leave(s.Channel(), s.BotUserID()); err != nil {
		t.Fatal(err)
	}
	s.until("noticing it", func() bool { return r.state.bar() != nil })
	if _, err := s.Join(s.Channel(), s.BotUserID()); err != nil {
		t.Fatal(err)
	}
	s.until("noticing it", func() bool { return r.state.bar() == nil })
}

// A guest is not told apart by the message, so the record has to be read again and again.
func TestAnOperatorWhoBecomesAGuestActsNoMore(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	r := s.run(func(p *pace) { p.look = 10 * time.Millisecond })
	s.AddUser(slacktest.User{ID: operator, Name: "operator", Restricted: true})
	s.until("noticing it", func() bool { return r.people.bar(operator) != nil })
	s.AddUser(slacktest.User{ID: operator, Name: "operator"})
	s.until("noticing it", func() bool { return r.people.bar(operator) == nil })
}

// users.info fails: the bot starts, refuses whom it cannot check, and takes them as soon as it can. What was said
// meanwhile is not passed over.
func TestAPersonIsTakenAsSoonAsSlackTellsOfThem(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	mend := s.Inject(slacktest.Fault{Methods: []string{"users.info"}, Kind: slacktest.HTML502})
	r := s.run(func(p *pace) { p.readBack = 10 * time.Millisecond })
	s.says(operator, "", "vm status")
	s.until("a refusal", func() bool { return len(s.Ephemerals(operator)) > 0 })
	mend()
	s.until("knowing them", func() bool { return r.people.bar(operator) == nil })
	s.says(operator, "", "vm status, please")
	s.hears("vm status, please")
	calls := len(s.Calls("conversations.history"))
	s.until("reading back", func() bool { return len(s.Calls("conversations.history")) > calls+2 })
	if got := s.texts(); len(got) != 1 { // they were told to say it again, and have
		t.Errorf("the core has %q", got)
	}
}

func TestARevokedTokenEndsIt(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	r := s.run(func(p *pace) { p.look = 10 * time.Millisecond })
	s.RefuseToken(s.BotToken(), "account_inactive")
	s.until("the end", func() bool { return s.Sockets() == 0 })
	fatal, ok := errors.AsType[*bot.Fatal](r.stop())
	if !ok || fatal.Reason != "slack.bot_token is refused (account_inactive): the app was removed from the workspace, or the workspace is gone. "+installAgain {
		t.Errorf("got %v", fatal)
	}
}

func TestWhatSpeaksAgainstAnAccount(t *testing.T) {
	t.Parallel()
	good := fields{"id": operator, "team_id": ourTeam, "is_email_confirmed": true, "is_bot": false, "deleted": false}
	for want, user := range map[string]fields{
		"": good.with(fields{"is_app_user": true}), // who installed the app
		"is not the one that Slack answered with":                          good.with(fields{"id": colleague}),
		"belongs to another workspace":                                     good.with(fields{"team_id": "T0OTHER"}),
		"has an e-mail address that is not confirmed (is_email_confirmed)": good.with(fields{"is_email_confirmed": false}),
		"is deactivated (deleted)":                                         good.with(fields{"deleted": true}),
		"is a bot's (is_bot)":                                              good.with(fields{"is_bot": true}),
		"is a workflow's (is_workflow_bot)":                                good.with(fields{"is_workflow_bot": true}),
		"is a guest's (is_restricted)":                                     good.with(fields{"is_restricted": true}),
		"is a guest's (is_ultra_restricted)":                               good.with(fields{"is_ultra_restricted": true}),
		"is a stranger's here (is_stranger)":                               good.with(fields{"is_stranger": "yes"}),
	} {
		o, err := objectFrom(user.raw())
		if err != nil {
			t.Fatal(err)
		}
		if got := barred(o, operator, ourTeam); got != want {
			t.Errorf("%v: %q, want %q", user, got, want)
		}
	}
}

func TestWhatAChannelIs(t *testing.T) {
	t.Parallel()
	h := home{team: ourTeam, channel: ourChannel}
	good := fields{"id": ourChannel, "is_member": true, "is_private": true, "is_shared": false, "shared_team_ids": []string{ourTeam}, "context_team_id": ourTeam, "pending_shared": []string{}}
	for name, c := range map[string]struct {
		more fields
		want condition
	}{
		"ours":                    {fields{}, usable},
		"externally shared":       {fields{"is_ext_shared": true}, shared},
		"about to be":             {fields{"is_pending_ext_shared": true}, shared},
		"invited":                 {fields{"pending_shared": []string{"T0OTHER"}}, shared},
		"connected":               {fields{"connected_team_ids": []string{"T0OTHER"}}, shared},
		"in an organization":      {fields{"is_org_shared": true}, shared},
		"with two teams":          {fields{"shared_team_ids": []string{ourTeam, "T0OTHER"}}, shared},
		"of another team":         {fields{"context_team_id": "T0OTHER"}, shared},
		"a flag of another kind":  {fields{"is_shared": "maybe"}, shared},
		"archived":                {fields{"is_archived": true}, archived},
		"without us":              {fields{"is_member": false}, absent},
		"without a word about us": {fields{"is_member": nil}, absent},
		"another one":             {fields{"id": "C0OTHER"}, missing},
		"a direct message":        {fields{"is_im": true}, missing},
	} {
		o, err := objectFrom(good.with(c.more).raw())
		if err != nil {
			t.Fatal(err)
		}
		if got := conditionOf(o, h); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Whatever comes: nothing breaks, and nobody speaks but who is named at the top of the event.
func FuzzTake(f *testing.F) {
	for _, seed := range []fields{wrap(typed()), wrap(typed().with(fields{"thread_ts": ago(time.Hour)})), typedCommand(), pressedButton(), wrap(fields{"type": "app_home_opened", "user": operator, "tab": "home", "event_ts": ago(0)})} {
		for _, kind := range []string{"events_api", "slash_commands", "interactive"} {
			f.Add(kind, []byte(seed.raw()))
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		in, r := newIntake(t)
		in.log, in.people.log = quiet, quiet
		if _, err := in.take(t.Context(), envelope{Type: kind, Payload: payload, Received: time.Now()}); err != nil {
			t.Fatal(err)
		}
		in.wg.Wait()
		for _, m := range r.got {
			if m.Notice != "" {
				continue
			}
			o, _ := objectFrom(payload)
			speaker := map[string]string{"events_api": o.in("event").text("user"), "slash_commands": o.text("user_id"), "interactive": o.in("user").text("id")}[kind]
			if m.From.ID == "" || m.From.ID != speaker || m.Place.Channel != ourChannel || m.ID == "" {
				t.Errorf("%s became %+v", payload, m)
			}
		}
	})
}
