package slack

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// The bot is off; people go on talking. What operators said in the channel and in threads, old and new, reaches the core
// when it is back, once and in order.
func TestWhatWasSaidWhileTheBotWasOffIsReadBack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	first := s.run(nil)
	root := s.says(operator, "", "devvm is frozen")
	s.hears("devvm is frozen")
	if err := first.stop(); err != nil && !strings.Contains(err.Error(), "canceled") {
		t.Fatal(err)
	}
	later := s.says(colleague, "", "second thread")
	s.says(colleague, later, "a reply in it")
	s.says(operator, root, "a reply in the first")
	if _, err := s.Join(s.Channel(), stranger); err != nil {
		t.Fatal(err)
	}
	s.says(stranger, "", "a stranger")
	edited := s.says(operator, "", "edited")
	if _, err := s.Edit(operator, edited, "edited to something else"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SayMarkup(operator, "", "an app as the operator", map[string]any{"bot_id": "B1", "app_id": "A1"}); err != nil {
		t.Fatal(err)
	}
	s.DropQueued() // Slack itself sends none of it again

	s.run(nil)
	s.core.await(t, "notice", func(m bot.Message) bool { return strings.HasSuffix(m.Notice, ", 3 messages recovered.") })
	want := []string{"devvm is frozen", "a reply in the first", "second thread", "a reply in it"} // what people were at comes first
	if got := slices.Compact(s.texts()); !slices.Equal(got, want) {                               // the first may come again, if its ack did not get out
		t.Errorf("the core has %q, want %q", got, want)
	}
	only := s.Ephemerals(operator)
	if len(only) != 1 || only[0].Text != "You said something that did not reach me and have changed it since; say it again." {
		t.Errorf("the operator alone reads %+v", only)
	}
	for _, m := range s.core.all()[1:] {
		if m.Notice == "" && !m.Missed && m.Text != want[0] {
			t.Errorf("%q does not say that it was missed", m.Text)
		}
	}
	if m := s.hears("a reply in the first"); m.Place.Thread != root {
		t.Errorf("it stands in %s, want %s", m.Place.Thread, root)
	}
}

// The second start finds nothing new, says nothing, and the third does not either.
func TestNothingIsReadBackTwice(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.says(operator, "", "before the bot was ever started")
	s.DropQueued()
	for range 3 {
		r := s.run(func(p *pace) { p.readBack = 10 * time.Millisecond })
		calls := len(s.Calls("conversations.history"))
		s.until("reading back", func() bool { return len(s.Calls("conversations.history")) > calls+2 })
		_ = r.stop()
	}
	if all := s.core.all(); len(all) > 0 {
		t.Errorf("the core got %+v", all)
	}
}

// The socket breaks, something is said, Slack does not send it again.
func TestWhatWasSaidInAGapIsReadBack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(nil)
	root := s.says(operator, "", "devvm is frozen")
	s.hears("devvm is frozen")
	dialled := s.Dialled()
	s.SetLink(slacktest.Link{Status: 503})
	s.Disrupt(slacktest.Hangup)
	s.says(operator, root, "stop")
	s.DropQueued()
	s.SetLink(slacktest.Link{})
	if err := s.AwaitSockets(s.deadline(), 1, dialled); err != nil {
		t.Fatal(err)
	}
	if m := s.hears("stop"); !m.Missed || m.Place.Thread != root {
		t.Errorf("got %+v", m)
	}
	s.notes("I was away for a moment, 1 message recovered.")
}

// The connection breaks again while the gap before it cannot be read back yet. What was said in the second is not left
// until the next round: it may be a stop.
func TestASecondGapIsReadBackAfterTheFirst(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(nil)
	mend := s.Inject(slacktest.Fault{Methods: []string{"conversations.history"}, Kind: slacktest.HTML502})
	for _, text := range []string{"one", "two"} {
		dialled, asked := s.Dialled(), len(s.Calls("conversations.history"))
		s.SetLink(slacktest.Link{Status: 503})
		s.Disrupt(slacktest.Hangup)
		s.says(operator, "", text)
		s.DropQueued()
		s.SetLink(slacktest.Link{})
		if err := s.AwaitSockets(s.deadline(), 1, dialled); err != nil {
			t.Fatal(err)
		}
		s.until("reading back", func() bool { return len(s.Calls("conversations.history")) > asked })
	}
	mend()
	s.hears("one")
	s.hears("two")
}

// Everything looks well, and nothing arrives.
func TestADeafSocketIsNoticedByReadingBack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.SetLink(slacktest.Link{Deaf: true})
	s.run(func(p *pace) { p.readBack = 20 * time.Millisecond })
	s.says(operator, "", "can you hear me?")
	if m := s.hears("can you hear me?"); !m.Missed {
		t.Errorf("got %+v", m)
	}
	s.core.await(t, "a notice", func(m bot.Message) bool { return strings.Contains(m.Notice, "1 message") })
}

// wasHere is an earlier process that kept its ledger just now.
func (s *scene) wasHere() {
	s.kept["read/"+s.Channel()] = fmt.Sprintf(`{"mark":%q,"alive":%d}`, ago(0), time.Now().Unix())
}

// Somebody else on our tokens took a message. Whoever answers it acts on it, and it is not read back; whoever does not has
// only taken it away. And where something was said that did arrive, the answer may be ours, and to that.
func TestWhatAnotherProgramAnsweredIsNotReadBack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	running := s.run(func(p *pace) { p.readBack, p.grace = 300*time.Millisecond, 3*time.Second })
	s.SetLink(slacktest.Link{Deaf: true})
	answered, half := s.says(operator, "", "answered"), s.says(operator, "", "half heard")
	s.says(operator, "", "taken away")
	s.until("Slack gives up on all of it", func() bool { return s.Truth().Lost == 3 })
	s.SetLink(slacktest.Link{})
	s.says(operator, half, "are you there?")
	s.hears("are you there?")
	for _, thread := range []string{answered, half} {
		if _, err := running.Post(t.Context(), bot.Place{Chat: chatName, Channel: s.Channel(), Thread: thread}, bot.Text{Body: "I look."}); err != nil {
			t.Fatal(err)
		}
	}
	s.hears("taken away")
	s.hears("half heard")
	s.core.await(t, "a notice", func(m bot.Message) bool { return strings.Contains(m.Notice, "2 messages") })
	if got := s.texts(); len(got) != 3 {
		t.Errorf("the core has %q", got)
	}
}

// Reading back meets Slack's limits and faults, waits as told, and loses nothing.
func TestReadingBackOutlastsFaults(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wasHere()
	s.says(operator, "", "one")
	s.DropQueued()
	s.Inject(slacktest.Fault{Methods: []string{"conversations.history"}, Kind: slacktest.RateLimited, RetryAfter: 1, Times: 1})
	s.Inject(slacktest.Fault{Methods: []string{"conversations.history"}, Kind: slacktest.HTML502, Times: 1})
	s.run(nil)
	s.hears("one")
	for _, c := range s.Calls("conversations.history") {
		if c.Inside {
			t.Errorf("asked again inside a Retry-After: %+v", s.Calls("conversations.history"))
		}
	}
}

// A long absence is more than one page.
func TestReadingBackTurnsPages(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wasHere()
	if _, err := s.Join(s.Channel(), stranger); err != nil {
		t.Fatal(err)
	}
	root := s.says(colleague, "", "first")
	for range 205 {
		s.says(stranger, "", "noise")
	}
	s.says(colleague, root, "last")
	s.DropQueued()
	s.run(nil)
	s.core.await(t, "notice", func(m bot.Message) bool { return strings.HasSuffix(m.Notice, ", 2 messages recovered.") })
	if got := s.texts(); !slices.Equal(got, []string{"first", "last"}) {
		t.Errorf("got %q", got)
	}
}

// What the core did not record stays to be read back.
func TestReadingBackStopsWhereTheCoreDoes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wasHere()
	s.says(operator, "", "one")
	s.says(operator, "", "two")
	s.DropQueued()
	s.core.fail = context.Canceled
	_ = s.run(func(p *pace) { p.readBack = 10 * time.Millisecond })
	s.hears("two")
	if got := s.texts(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsToldOfAGap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		away  time.Duration
		found int
		want  string
		cut   bool
	}{
		{away: 5 * time.Second},
		{},
		{4 * time.Minute, 2, "I was away 4 min, 2 messages recovered.", false},
		{12 * time.Second, 1, "I was away 12 s, 1 message recovered.", false},
		{130 * time.Minute, 0, "I was away 2 h 10 min, nothing was missed.", false},
		{51 * time.Hour, 3, "I was away 2 d 3 h, 3 messages recovered of the last day; what was said before stays unanswered.", false},
		{51 * time.Hour, 0, "I was away 2 d 3 h, nothing was missed of the last day; what was said before stays unanswered.", false},
		{0, 2, "I was away for a moment, 2 messages recovered.", false},
		{away: -1},
		{away: -1, cut: true},
		{5 * time.Second, 0, "I was away 5 s.\nMore was said than I read back: what stays unanswered, say again.", true},
		{4 * time.Minute, 2, "I was away 4 min, 2 messages recovered.\nMore was said than I read back: what stays unanswered, say again.", true},
		{-1, 2, "Slack had not delivered 2 messages to me; recovered by reading back.", false},
	} {
		if got := recovered(c.away, c.found, !c.cut); got != c.want {
			t.Errorf("%s, %d: %q, want %q", c.away, c.found, got, c.want)
		}
	}
}

func TestTheLedgerStaysSmallAndSurvives(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var l ledger
	if !l.load("", now) || !l.load("{broken", now) || !l.load(`{"mark":"x"}`, now) {
		t.Fatal("a ledger that nobody can read is none")
	}
	at := func(d time.Duration) string { return stamp(now.Add(d)) }
	if got := l.since(); got != at(0) {
		t.Errorf("at the very first start it reads since %s, want %s", got, at(0))
	}
	l.load(`{"mark":"`+at(-time.Hour)+`"}`, now)
	for i := range 100 {
		d := -time.Duration(i) * time.Minute
		l.took(bot.Message{ID: at(d), Place: bot.Place{Thread: at(d - time.Hour)}})
	}
	l.took(bot.Message{ID: "command/1"})
	l.took(bot.Message{ID: at(-25 * time.Hour), Place: bot.Place{Thread: at(-30 * time.Hour)}})
	l.readUpTo(at(0))
	l.readUpTo(at(-time.Hour)) // the mark never moves back
	var kept string
	l.keep(t.Context(), func(_ context.Context, _, value string) { kept = value }, "key")
	var again ledger
	if again.load(kept, now.Add(time.Hour)) {
		t.Fatal("it was not kept")
	}
	if got, want := again.since(), at(-overlap); got != want {
		t.Errorf("reads since %s, want %s", got, want)
	}
	if !again.done(at(0)) || again.done(at(-2*time.Minute)) || len(again.threads()) != threadsKept || slices.Contains(again.threads(), at(-30*time.Hour)) {
		t.Errorf("kept %s", kept)
	}
	if len(kept) > 2000 {
		t.Errorf("it takes %d bytes", len(kept))
	}
	l.keep(t.Context(), func(context.Context, string, string) { t.Error("kept again without a change") }, "key")
}

// While nobody may act in the channel, nothing is read, and nobody is told that nothing was missed.
func TestAGapWaitsForTheChannel(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	r := s.run(func(p *pace) { p.look, p.readBack = 10*time.Millisecond, 10*time.Millisecond })
	if _, err := s.Leave(s.Channel(), s.BotUserID()); err != nil {
		t.Fatal(err)
	}
	s.until("noticing it", func() bool { return r.state.bar() != nil })
	s.says(operator, "", "where are you?")
	if _, err := s.Join(s.Channel(), s.BotUserID()); err != nil {
		t.Fatal(err)
	}
	if m := s.hears("where are you?"); !m.Missed {
		t.Errorf("got %+v", m)
	}
	s.core.await(t, "a notice", func(m bot.Message) bool { return strings.Contains(m.Notice, "1 message") })
	for _, m := range s.core.all() {
		if strings.Contains(m.Notice, "nothing was missed") {
			t.Errorf("it said %q", m.Notice)
		}
	}
}

// Slack promises no order over sockets. Each message arrives once, whatever came before it.
func TestMessagesOutOfOrderArriveOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(nil)
	s.SetLink(slacktest.Link{Swap: true})
	root := s.says(operator, "", "devvm is frozen")
	s.says(operator, root, "stop")
	s.hears("devvm is frozen")
	if m := s.hears("stop"); m.Place.Thread != root {
		t.Errorf("it stands in %s, want %s", m.Place.Thread, root)
	}
	if got := s.texts(); len(got) != 2 {
		t.Errorf("the core has %q", got)
	}
}
