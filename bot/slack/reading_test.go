package slack

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// Somebody has begun many threads, so that reading them all meets Slack's limits. It takes its time, asks for nothing
// twice, and the operator's "stop" does not wait for the others.
func TestManyThreadsMakeReadingBackSlowButNotEndless(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	first := s.run(nil)
	ours := s.says(operator, "", "devvm is frozen")
	s.hears("devvm is frozen")
	s.until("its acknowledgement", func() bool { return s.Truth().Pending == 0 }) // without it Slack sends it again, rightly
	_ = first.stop()
	var last string
	for i := range 8 {
		last = s.says(colleague, "", fmt.Sprintf("thread %d", i))
		s.says(colleague, last, fmt.Sprintf("reply %d", i))
	}
	s.says(operator, ours, "stop")
	s.DropQueued()
	s.SetRates(slacktest.Rates{"conversations.replies": {PerMinute: 120, Burst: 2}})
	histories := len(s.Calls("conversations.history"))
	s.run(nil)
	s.core.await(t, "a notice", func(m bot.Message) bool { return strings.HasSuffix(m.Notice, " 17 messages recovered.") })
	if got := s.texts(); len(got) != 18 || got[1] != "stop" {
		t.Errorf("the core has %q", got)
	}
	if n := len(s.Calls("conversations.history")) - histories; n != 1 {
		t.Errorf("the history was read %d times", n)
	}
	if s.Truth().Inside > 0 {
		t.Error("Slack was asked inside a Retry-After")
	}
}

// Long posts make a page larger than what is read of an answer: it is asked for in halves.
func TestAPageOfLongPostsIsReadInParts(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wasHere()
	if _, err := s.Join(s.Channel(), stranger); err != nil {
		t.Fatal(err)
	}
	s.says(operator, "", "stop")
	for range 20 {
		s.says(stranger, "", strings.Repeat("ы", 2000))
	}
	s.DropQueued()
	s.with = func(c *Chat) { c.web.longest = 50_000 }
	s.run(nil)
	s.hears("stop")
}

// More was said than is read back. Nobody claims that nothing was missed.
func TestWhatIsTooMuchToReadBackIsSaid(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wasHere()
	if _, err := s.Join(s.Channel(), stranger); err != nil {
		t.Fatal(err)
	}
	s.says(operator, "", "stop everything")
	for range 250 {
		s.says(stranger, "", "disk ok")
	}
	s.DropQueued()
	s.run(func(p *pace) { p.most = 200 })
	m := s.core.await(t, "a notice", func(m bot.Message) bool { return m.Notice != "" })
	if !strings.HasSuffix(m.Notice, "\nMore was said than I read back: what stays unanswered, say again.") || strings.Contains(m.Notice, "nothing was missed") {
		t.Errorf("it said %q", m.Notice)
	}
}

// Slack does not answer: people hear of it, and of the end of it.
func TestPeopleAreToldThatNothingCanBeReadBack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wasHere()
	s.says(operator, "", "one")
	s.DropQueued()
	s.Inject(slacktest.Fault{Methods: []string{"conversations.history"}, Kind: slacktest.HTML502, Times: 2})
	s.run(nil)
	s.notes("⚠️ I cannot read back what was said here: conversations.history: HTTP 502 Bad Gateway.\nI keep trying. What stays unanswered, say again.")
	s.hears("one")
}

// Nothing was missed, and nobody looked whether the bot was away.
func TestTheEndOfThatClaimsNoAbsence(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.Inject(slacktest.Fault{Methods: []string{"conversations.history"}, Kind: slacktest.HTML502, Times: 2})
	s.run(nil)
	s.notes("I can read back what is said here again.")
}

// The box booted with a clock an hour slow, which is set right before anything was read back. The mark is no hour ahead,
// not even for the next process, and what is said then arrives.
func TestTheMarkIsNeverAheadOfSlacksClock(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wasHere()
	api, _ := url.Parse(s.URL())
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: api.Scheme, Host: api.Host})
	proxy.ModifyResponse = func(r *http.Response) error {
		if !strings.HasSuffix(r.Request.URL.Path, "conversations.history") {
			r.Header.Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		}
		return nil
	}
	front := httptest.NewServer(proxy)
	defer front.Close()
	s.over = func(o *Options) { o.APIURL = front.URL + api.Path }
	s.run(nil)
	s.mu.Lock()
	kept := s.kept["read/"+s.Channel()]
	s.mu.Unlock()
	var l ledger
	l.load(kept, time.Now().Add(24*time.Hour))
	if l.s.Mark > stamp(time.Now()) {
		t.Errorf("the mark is %s at %s", l.s.Mark, stamp(time.Now()))
	}
	ahead := fmt.Sprintf(`{"mark":%q,"alive":%d}`, ago(-time.Hour), time.Now().Add(-time.Minute).Unix())
	if l.load(ahead, time.Now()); l.since() > ago(time.Minute) {
		t.Errorf("a mark ahead of the clock is believed: reads since %s", l.since())
	}
}

// What a person was told to say again is not done behind their back, and what was refused for what surrounded it does not
// come in by the history, which has nothing around it.
func TestARefusalIsFinal(t *testing.T) {
	t.Parallel()
	old := record{at: time.Now().Add(-2 * trusted)}
	for name, c := range map[string]struct {
		wrapper fields
		people  func(*people)
		told    string
	}{
		"the record of the person is too old": {nil, func(p *people) { p.known[operator] = old }, "Nothing was done: I have to check your Slack account now and then, and Slack has not answered that for 60 min. I keep asking; say it again in a minute, or use `bgbot console`."},
		"another workspace's context":         {fields{"context_team_id": "T0OTHER"}, nil, ""},
		"a shared channel":                    {fields{"is_ext_shared_channel": true}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, r := newIntake(t)
			in.ledger.load(fmt.Sprintf(`{"mark":%q}`, ago(time.Hour)), time.Now())
			if c.people != nil {
				c.people(in.people)
			}
			event := typed()
			if _, err := in.take(t.Context(), envelope{Type: "events_api", Payload: wrap(event).with(c.wrapper).raw()}); err != nil {
				t.Fatal(err)
			}
			in.wg.Wait()
			if c.told != "" && (len(r.said) != 1 || r.said[0].Body != c.told) {
				t.Errorf("said %+v", r.said)
			}
			if ts := event["ts"].(string); !in.ledger.done(ts) {
				t.Error("it would be read back")
			}
		})
	}
}

// What nobody was told stays to be read back.
func TestARefusalThatWasNotDeliveredIsNotFinal(t *testing.T) {
	t.Parallel()
	in, r := newIntake(t)
	in.ledger.load(fmt.Sprintf(`{"mark":%q}`, ago(time.Hour)), time.Now())
	in.people.known = map[string]record{}
	for range refusalsAtMost {
		in.refusals.bound(operator, "the person's record was not read yet", "Nothing was done.", time.Now())
	}
	event := typed()
	if _, err := in.take(t.Context(), envelope{Type: "events_api", Payload: wrap(event).raw()}); err != nil {
		t.Fatal(err)
	}
	in.wg.Wait()
	if ts := event["ts"].(string); len(r.said) > 0 || in.ledger.done(ts) {
		t.Errorf("said %+v, done %v", r.said, in.ledger.done(ts))
	}
}

// hear takes an event to its end, what is said of it included.
func (in *intake) hear(t *testing.T, event fields) {
	t.Helper()
	if _, err := in.take(t.Context(), envelope{Type: "events_api", Payload: wrap(event).raw()}); err != nil {
		t.Fatal(err)
	}
	in.wg.Wait()
}

// Who goes on typing is told three times why nothing happens, the last time that they are not told again, and in ten
// minutes anew.
func TestTheSameRefusalIsBoundedAndSaysSo(t *testing.T) {
	t.Parallel()
	in, r := newIntake(t)
	in.people.known[operator] = record{at: time.Now(), barred: "is a guest's"}
	for i := range 50 {
		in.hear(t, typed().with(fields{"ts": ago(time.Duration(i) * time.Millisecond)}))
	}
	if len(r.said) != 3 {
		t.Fatalf("said %d times", len(r.said))
	}
	const end = "\nFor the next 10 minutes I do not say this again, however often it happens."
	for i, said := range r.said {
		if last := i == 2; strings.HasSuffix(said.Body, end) != last {
			t.Errorf("time %d: %q", i+1, said.Body)
		}
	}
	const barred = "barred: is a guest's"
	later := time.Now().Add(11 * time.Minute)
	if in.refusals.bound(operator, barred, "no", later) != "no" || in.refusals.bound(colleague, barred, "no", time.Now()) != "no" {
		t.Error("nobody is ever told anything again")
	}
}

// An operator who has used up one reason still hears another: silence after "stop" looks like a dead bot.
func TestAnotherReasonIsAlwaysTold(t *testing.T) {
	t.Parallel()
	in, r := newIntake(t)
	for i := range 5 {
		in.hear(t, typed().with(fields{"ts": ago(time.Duration(i) * time.Millisecond), "text": ""}))
	}
	in.hear(t, typed().with(fields{"ts": ago(time.Second), "subtype": "thread_broadcast"}))
	if n := len(r.said); n != 4 || r.said[3].Body != "I do not act on a reply that is also sent to the channel. Say it again in the thread alone." {
		t.Errorf("said %+v", r.said)
	}
}

// Whoever mends a text into a command hears that edits do nothing. Nobody else is told, and of nothing else: Slack sends such
// an event also when it unfolds a link, and for each edit of ours.
func TestWhoMendsATextIntoACommandIsTold(t *testing.T) {
	t.Parallel()
	edited := func(user, from, to string) fields {
		was := typed().with(fields{"user": user, "text": from})
		is := was.with(fields{"text": to, "edited": fields{"user": user, "ts": ago(0)}})
		return fields{"type": "message", "subtype": "message_changed", "hidden": true, "channel": ourChannel, "ts": ago(0), "message": is, "previous_message": was}
	}
	const told = "I act on no edits, so your edit to `%s` did nothing.\nType it as a new message if you want it."
	for name, c := range map[string]struct {
		event fields
		typed string // "" = nothing is said
	}{
		"a verb":                     {edited(operator, "vm cylce", "Vm cycle."), "vm cycle"},
		"an answer to a card":        {edited(operator, "confirm 4F7", "confirm 4f7q"), "confirm 4F7Q"},
		"a stop":                     {edited(operator, "stip", "please stop!"), "stop"},
		"another verb":               {edited(operator, "vm start", "vm stop"), "vm stop"},
		"the same verb":              {edited(operator, "Vm stop", "vm stop"), ""},
		"a text":                     {edited(operator, "devvm is frzoen", "devvm is frozen"), ""},
		"a verb that becomes none":   {edited(operator, "vm stop", "never mind"), ""},
		"a stranger's":               {edited(stranger, "vm cylce", "vm cycle"), ""},
		"another channel's":          {edited(operator, "vm cylce", "vm cycle").with(fields{"channel": "C0OTHER"}), ""},
		"nobody's edit, but Slack's": {edited(operator, "vm cylce", "vm cycle").with(fields{"message": typed().with(fields{"text": "vm cycle"})}), ""},
		"an app's, as the operator":  {edited(operator, "vm cylce", "vm cycle").with(fields{"message": typed().with(fields{"text": "vm cycle", "app_id": "A1", "edited": fields{"user": operator}})}), ""},
		"somebody else's before":     {edited(operator, "vm cylce", "vm cycle").with(fields{"previous_message": typed().with(fields{"user": colleague})}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, r := newIntake(t)
			in.hear(t, c.event)
			var got, want string
			if len(r.said) > 0 {
				got = r.said[0].Body
			}
			if c.typed != "" {
				want = fmt.Sprintf(told, c.typed)
			}
			if got != want || len(r.said) > 1 || len(r.got) > 0 {
				t.Errorf("said %+v, the core got %+v", r.said, r.got)
			}
			if len(r.said) > 0 && r.said[0].Only != operator {
				t.Errorf("said to %q", r.said[0].Only)
			}
		})
	}
}

// A message from the future is not passed over in silence, and Slack is asked for the time.
func TestAMessageFromTheFutureIsRefusedAloud(t *testing.T) {
	t.Parallel()
	in, r := newIntake(t)
	event := typed().with(fields{"ts": ago(-time.Hour)})
	if _, err := in.take(t.Context(), envelope{Type: "events_api", Payload: wrap(event).raw()}); err != nil {
		t.Fatal(err)
	}
	in.wg.Wait()
	if len(r.said) != 1 || r.said[0].Only != operator || r.said[0].Body != "Nothing was done: by my clock, this comes from the future. I ask Slack for the time; say it again in a minute." {
		t.Errorf("said %+v", r.said)
	}
	if len(in.stale) != 1 {
		t.Error("nobody asks Slack for the time")
	}
}
