package slacktest

import (
	"context"
	"slices"
	"time"
)

// Truth counts what became of the envelopes and calls so far.
type Truth struct {
	Envelopes   int // made
	Acked       int
	Pending     int // neither acked nor given up
	Lost        int // given up
	Dropped     int // by DropQueued
	Stolen      int // acked by somebody else on the same token
	Redelivered int // sent again, however often
	AckedTwice  int // which is right for one that was sent twice
	Late        int // not acked within Options.AckTimeout
	Reordered   int // acked before an envelope that was sent earlier
	Inside      int // calls inside an open Retry-After
	Strays      Strays
}

// Truth counts what became of everything so far.
func (s *Server) Truth() Truth {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.truth()
}

// AwaitTruth returns when the [Truth] is as wanted.
func (s *Server) AwaitTruth(ctx context.Context, is func(Truth) bool) error {
	return s.wait(ctx, func() bool { return is(s.truth()) })
}

func (s *Server) truth() Truth {
	t := Truth{Envelopes: len(s.order), Strays: s.stray}
	var acked []time.Time // in the order of sending
	for _, e := range s.order {
		t.Redelivered += max(0, e.sends-1)
		switch {
		case e.stolen:
			t.Stolen++
		case e.ack != nil:
			t.Acked++
			acked = append(acked, e.firstAt.Add(e.ack.After))
		case e.dropped:
			t.Dropped++
		case e.lost:
			t.Lost++
		default:
			t.Pending++
		}
		if e.acks > 1 {
			t.AckedTwice++
		}
		if e.late {
			t.Late++
		}
	}
	for i := 1; i < len(acked); i++ {
		if acked[i].Before(acked[i-1]) {
			t.Reordered++
		}
	}
	for _, c := range s.calls {
		if c.Inside {
			t.Inside++
		}
	}
	return t
}

// AckTimes is how long each ack took, counted from the first time that its envelope was sent, in the order of sending.
func (s *Server) AckTimes() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []time.Duration
	for _, e := range s.order {
		if e.ack != nil && !e.stolen {
			all = append(all, e.ack.After)
		}
	}
	return all
}

// Tally is how what came compares with what should have come.
type Tally struct {
	Lost      []string // never came
	Doubled   []string // came more than once
	Reordered []string // came after one that should have come later
	Strange   []string // should not have come
}

// Clean says that each came once and in order.
func (t Tally) Clean() bool {
	return len(t.Lost)+len(t.Doubled)+len(t.Reordered)+len(t.Strange) == 0
}

// Compare says how got differs from want, in which every item is there once.
func Compare(want, got []string) Tally {
	var t Tally
	place := map[string]int{}
	for i, w := range want {
		place[w] = i
	}
	count := map[string]int{}
	furthest := -1
	for _, g := range got {
		i, known := place[g]
		count[g]++
		switch {
		case !known:
			t.Strange = append(t.Strange, g)
		case count[g] == 2:
			t.Doubled = append(t.Doubled, g)
		case count[g] > 2: // told already
		case i < furthest:
			t.Reordered = append(t.Reordered, g)
		default:
			furthest = i
		}
	}
	for _, w := range want {
		if count[w] == 0 {
			t.Lost = append(t.Lost, w)
		}
	}
	return t
}

// Answered compares the messages of people in [Server.Channel], outside of threads, with the posts of the app in their
// threads: one to each, and in the same order. The items are the ts of the messages.
func (s *Server) Answered() Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	var want, got []string
	for _, m := range s.channels[channelID].messages {
		switch {
		case m.top() && m.clientID != "":
			want = append(want, m.TS)
		case m.bot():
			got = append(got, m.ThreadTS)
		}
	}
	return Compare(want, slices.Clip(got))
}
