package slack

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Two bots on one token, each with a store of its own: Slack gives each thing that is said to one of them. That one acts
// on it, and the other, which finds it when it reads back, does not. Both tell of each other, once, also the one that was
// there first and hears of no other connection. When one leaves, the other gets everything.
func TestTwoBotsOnOneToken(t *testing.T) {
	t.Parallel()
	o := briskly()
	o.AckTimeout = 10 * time.Second // what is acknowledged late Slack sends again, perhaps to the other, and both act
	s := newWorkspace(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patientTest)
	defer cancel()
	hurry := func(p *pace) {
		p.readBack, p.grace, p.link = 500*time.Millisecond, 3*time.Second, hastyLink
	}
	first := serveIn(t, s, nowhere, hurry)
	if err := s.AwaitSockets(ctx, 1, 0); err != nil {
		t.Fatal(err)
	}
	second := serveIn(t, s, nowhere, hurry)
	if err := s.AwaitSockets(ctx, 2, 1); err != nil {
		t.Fatal(err)
	}
	var said []string
	say := func() {
		said = append(said, first.says(t, fmt.Sprintf("devvm is frozen for the %d. time", len(said)+1)))
	}
	for len(said) < 6 || len(first.turns(t)) < 2 || len(second.turns(t)) < 2 {
		say()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("of %d things the first took %d, the second %d", len(said), len(first.turns(t)), len(second.turns(t)))
		}
	}
	for _, bot := range []*service{first, second} {
		first.until(ctx, t, "reading back", func() bool { return bot.readUpTo(ctx) > said[len(said)-1] })
	}
	const other, alone = "⚠️ Another program uses my Slack app token", "✅ No other program uses my Slack app token"
	first.until(ctx, t, "both tell of each other", func() bool { return first.tells(other) == 2 })

	left := make(chan struct{})
	go func() {
		defer close(left)
		second.stop()
	}()
	for !closed(left) {
		say()
		<-time.After(50 * time.Millisecond)
	}
	for range 3 {
		say()
	}
	first.until(ctx, t, "the all-clear", func() bool { return first.tells(alone) == 1 })
	first.until(ctx, t, "reading back", func() bool { return first.readUpTo(ctx) > said[len(said)-1] })
	first.stop()
	for _, thread := range said { // the agent fails at once, so each turn is a page of progress and an answer
		var shown []string
		for _, m := range s.Thread(thread)[1:] {
			shown = append(shown, m.Shown())
		}
		if len(shown) < 1 || len(shown) > 2 {
			t.Errorf("the thread of %s has %q", thread, shown)
		}
	}
	if n := first.tells(other); n != 2 {
		t.Errorf("people were told %d times of another program", n)
	}
	if n := first.tells("Slack had not delivered"); n != 0 {
		t.Errorf("people were told %d times that something was not delivered", n)
	}
}

// turns are the threads in which it has had its agent work.
func (s *service) turns(t *testing.T) (all []string) {
	t.Helper()
	for _, e := range s.db.Entries(t.Context(), 500) {
		if e.Act == "turn" {
			all = append(all, e.Thread)
		}
	}
	return all
}

// readUpTo is how far it has read the channel.
func (s *service) readUpTo(ctx context.Context) string {
	var l ledger
	l.load(s.db.Cursor(ctx, chatName, "read/"+s.Channel()), time.Now())
	return l.s.Mark
}

// tells counts the messages in the channel that begin so.
func (s *service) tells(begin string) (n int) {
	for _, m := range s.Messages(s.Channel()) {
		if strings.HasPrefix(m.Shown(), begin) {
			n++
		}
	}
	return n
}
