package agentrun

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sentence compares what a person reads.
func sentence(t *testing.T, err error, want string) {
	t.Helper()
	e, ok := errors.AsType[*Ended](err)
	if !ok {
		t.Errorf("got error %v, want one that says %q", err, want)
		return
	}
	if got := e.UserMessage(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestASessionGoesOnAfterItWasIdle(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.IdleTimeout = 50 * time.Millisecond })
	s := newSession()
	answer(t, all(t, r.Start(t.Context(), prompt(s, "[alice]: the word is xyzzy"), allow)))
	eventually(t, "the idle process is closed", func() bool { live, _ := r.Live(); return live == 0 })
	r.mu.Lock()
	if len(r.sessions) != 0 {
		t.Errorf("sessions without a process are held: %v", r.sessions)
	}
	r.mu.Unlock()
	rec := all(t, r.Start(t.Context(), prompt(s, "[alice]: and now?"), allow))
	answer(t, rec)
	if !first[Started](t, rec).Resumed {
		t.Error("the session was not resumed")
	}
	contains(t, lastAsked(t, "and now?").All, "xyzzy")
}

func TestASessionGoesOnInTheNextLifeOfTheBot(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	former := open(t, cfg)
	s := newSession()
	answer(t, all(t, former.Start(t.Context(), prompt(s, "[alice]: the word is plugh"), allow)))
	if err := former.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := open(t, cfg)
	p := prompt(s, "[alice]: in the next life?")
	p.Resume = true
	rec := all(t, r.Start(t.Context(), p, allow))
	answer(t, rec)
	if !first[Started](t, rec).Resumed {
		t.Error("the session was not resumed")
	}
	contains(t, lastAsked(t, "in the next life?").All, "plugh")
}

func TestASessionThatIsLostBeginsAnewAndSaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := prompt(newSession(), "[alice]: hello")
	p.Resume = true
	rec := all(t, r.Start(t.Context(), p, allow))
	if got := answer(t, rec); got != "You said: [alice]: hello" {
		t.Errorf("got %q", got)
	}
	if first[Started](t, rec).Resumed {
		t.Error("a session that does not exist was resumed")
	}
}

func TestASessionThatExistsUnknownToTheBotIsResumed(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	former := open(t, cfg)
	s := newSession()
	answer(t, all(t, former.Start(t.Context(), prompt(s, "[alice]: hello"), allow)))
	if err := former.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec := all(t, open(t, cfg).Start(t.Context(), prompt(s, "[alice]: again"), allow))
	answer(t, rec)
	if !first[Started](t, rec).Resumed {
		t.Error("the session was not resumed")
	}
}

func TestAMessageRunsOnlyOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.IdleTimeout = 200 * time.Millisecond })
	s := newSession()
	p := prompt(s, script(step{"text": "once"}))
	answer(t, all(t, r.Start(t.Context(), p, allow)))
	const want = "This message was handed to the agent before; it does not run twice."
	sentence(t, all(t, r.Start(t.Context(), p, allow)).err, want)
	eventually(t, "the idle process is closed", func() bool { live, _ := r.Live(); return live == 0 })
	sentence(t, all(t, r.Start(t.Context(), p, allow)).err, want) // in a process that has not seen it
	if got := answer(t, all(t, r.Start(t.Context(), prompt(s, script(step{"text": "another"})), allow))); got != "another" {
		t.Errorf("got %q", got)
	}
}

func TestAMessageIsFoldedIntoTheRunningTurn(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	turn := r.Start(t.Context(), prompt(newSession(), script(step{"bash": "sleep 0.5"}, step{"text": "both"})), allow)
	until(t, turn, is[Tool])
	for range 2 { // the second is a redelivery
		if err := turn.Say(t.Context(), "note-1", "[bob]: mind the fsck"); err != nil {
			t.Fatal(err)
		}
	}
	rec := all(t, turn)
	if got := answer(t, rec); got != "both" {
		t.Errorf("got %q", got)
	}
	if folded := each[Folded](rec); len(folded) != 1 || folded[0].Message != "note-1" {
		t.Errorf("got %v, want one folded note-1", folded)
	}
	found := false
	for _, q := range api.Requests() {
		found = found || q.Folded == "[bob]: mind the fsck"
	}
	if !found {
		t.Error("the model was never told")
	}
	if err := turn.Say(t.Context(), "note-2", "too late"); !errors.Is(err, ErrOver) {
		t.Errorf("got %v, want ErrOver", err)
	}
}

func TestAMessageThatComesTooLateToFoldIsAnsweredInTheSameTurn(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	turn := r.Start(t.Context(), prompt(newSession(), script(step{"text": strings.Repeat("long ", 30), "pace_ms": 30})), allow)
	until(t, turn, is[Text])
	if err := turn.Say(t.Context(), "late-1", script(step{"text": "And the second."})); err != nil {
		t.Fatal(err)
	}
	rec := all(t, turn)
	want := strings.TrimSpace(strings.Repeat("long ", 30)) + "\n\nAnd the second."
	if got := answer(t, rec); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := len(each[Result](rec)); n != 1 {
		t.Errorf("got %d results, want 1", n)
	}
}

func TestAMessageSaidBeforeTheTurnBeganIsNotLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	turn := r.Start(t.Context(), prompt(newSession(), "[alice]: first thing"), allow)
	if err := turn.Say(t.Context(), "early-1", "[alice]: second thing"); err != nil {
		t.Fatal(err)
	}
	rec := all(t, turn)
	answer(t, rec)
	if folded := each[Folded](rec); len(folded) != 1 || folded[0].Message != "early-1" {
		t.Errorf("got %v, want early-1", folded)
	}
	contains(t, lastAsked(t, "second thing").All, "second thing")
}

func TestAnotherModelTakesOverTheConversation(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	answer(t, all(t, r.Start(t.Context(), prompt(s, "[alice]: the word is frotz"), allow)))
	p := prompt(s, "[alice]: who are you now?")
	p.Model = "opus"
	rec := all(t, r.Start(t.Context(), p, allow))
	answer(t, rec)
	if got := first[Started](t, rec); !got.Resumed || !strings.Contains(got.Model, "opus") {
		t.Errorf("got %+v, want the session resumed on opus", got)
	}
	asked := lastAsked(t, "who are you now?")
	contains(t, asked.All, "frotz")
	contains(t, asked.Model, "opus")
	if live, _ := r.Live(); live != 1 {
		t.Errorf("%d processes live, want 1", live)
	}
}

func TestTheSystemPromptIsThatOfToday(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	former := open(t, cfg)
	s := newSession()
	answer(t, all(t, former.Start(t.Context(), prompt(s, "[alice]: hello"), allow)))
	if err := former.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.Agent.Prompt = "You are the new breakglass agent."
	answer(t, all(t, open(t, cfg).Start(t.Context(), prompt(s, "[alice]: after the deploy"), allow)))
	contains(t, lastAsked(t, "after the deploy").System, "the new breakglass agent")
}

func TestTurnsWaitInAVisibleLine(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Live = 1 })
	ctx, leave := context.WithCancelCause(t.Context())
	busy := r.Start(t.Context(), prompt(newSession(), script(step{"bash": "sleep 617"}, step{"text": "x"})), allow)
	until(t, busy, is[Tool])
	second := r.Start(ctx, prompt(newSession(), script(step{"text": "second"})), allow)
	until(t, second, func(e Event) bool { return e == Waiting{Place: 1} })
	third := r.Start(t.Context(), prompt(newSession(), script(step{"text": "third"})), allow)
	until(t, third, func(e Event) bool { return e == Waiting{Place: 2} })
	if live, waiting := r.Live(); live != 1 || waiting != 2 {
		t.Errorf("got %d live and %d waiting, want 1 and 2", live, waiting)
	}
	gone := &Ended{Reason: "The thread was closed."}
	leave(gone)
	if rec := all(t, second); !errors.Is(rec.err, gone) {
		t.Errorf("got %v, want the cause", rec.err)
	}
	until(t, third, func(e Event) bool { return e == Waiting{Place: 1} })
	busy.Stop(t.Context())
	// The stopped process is idle now and makes room for another session.
	if got := answer(t, all(t, third)); got != "third" {
		t.Errorf("got %q", got)
	}
	if live, waiting := r.Live(); live != 1 || waiting != 0 {
		t.Errorf("got %d live and %d waiting, want 1 and 0", live, waiting)
	}
}

func TestATurnInLineCanBeStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Live = 1 })
	busy := r.Start(t.Context(), prompt(newSession(), script(step{"bash": "sleep 618"}, step{"text": "x"})), allow)
	eventually(t, "the first turn is busy", func() bool { return running(t, "618") == 1 })
	next := r.Start(t.Context(), prompt(newSession(), script(step{"text": "x"})), allow)
	until(t, next, is[Waiting])
	if got := next.Stop(t.Context()); len(got.Left) > 0 || got.Ended != 0 {
		t.Errorf("got %+v", got)
	}
	if rec := all(t, next); !errors.Is(rec.err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", rec.err)
	}
	if _, waiting := r.Live(); waiting != 0 {
		t.Errorf("%d are waiting", waiting)
	}
	if n := running(t, "618"); n != 1 {
		t.Errorf("the stop reached a turn of another session: %d of its commands run", n)
	}
	busy.Stop(t.Context())
}

func TestASecondTurnOfASessionWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	one := r.Start(t.Context(), prompt(s, script(step{"bash": "sleep 0.3"}, step{"text": "one"})), allow)
	two := r.Start(t.Context(), prompt(s, script(step{"text": "two"})), allow)
	if got := answer(t, all(t, two)); got != "two" {
		t.Errorf("got %q", got)
	}
	if got := answer(t, all(t, one)); got != "one" {
		t.Errorf("got %q", got)
	}
	if live, _ := r.Live(); live != 1 {
		t.Errorf("%d processes, want 1: two would fork the transcript", live)
	}
}

func TestCloseEndsTurnsWithTheirCause(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	turn := r.Start(t.Context(), prompt(newSession(), script(step{"bash": "sleep 619"}, step{"text": "x"})), allow)
	until(t, turn, is[Tool])
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sentence(t, all(t, turn).err, "bgbot is shutting down. The conversation is kept; send a message to go on when it is back.")
	if n := running(t, "619"); n != 0 {
		t.Errorf("%d commands run after Close", n)
	}
	if rec := all(t, r.Start(t.Context(), prompt(newSession(), "x"), allow)); !errors.Is(rec.err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", rec.err)
	}
}

func TestTwoBotsDoNotShareAFolder(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	one, two := open(t, cfg), open(t, cfg)
	if _, err := one.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := two.Sweep(t.Context())
	sentence(t, err, "Another bgbot uses the folder "+cfg.Dir+" for agent sessions: stop that one first. The verbs still work: type `vm status`.")
	if rec := all(t, two.Start(t.Context(), prompt(newSession(), "x"), allow)); rec.err == nil {
		t.Error("the second bot started a session")
	}
}

// A child that is between fork and exec has a copy of every descriptor, the lock's too. That must not keep the next
// Runner of the same process out.
func TestAChildThatIsBeingForkedDoesNotKeepTheFolder(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	former := open(t, cfg)
	if err := former.claim(); err != nil {
		t.Fatal(err)
	}
	copied, err := unix.Dup(int(former.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(copied) }()
	if err := former.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := open(t, cfg).claim(); err != nil {
		t.Error(err)
	}
}
