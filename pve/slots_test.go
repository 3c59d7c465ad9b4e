package pve_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/pve"
)

const (
	// cannotEnd gives its result and then hangs, as a gate with a thread stuck in the host's disk does.
	cannotEnd = `echo '{"result":{"exit":0,"text":"VM 102 is running."}}'
case $SSH_ORIGINAL_COMMAND in status) hold;; esac
`
	// slow says nothing until it is let go.
	slow = `hold
echo '{"result":{"exit":0,"text":"well"}}'
`
	soon = 10 * time.Second // a dial and a run, on a machine that is busy with other tests; less than what waits for room
)

// count is how many calls reached the gate.
func (s *scene) count() int { return len(strings.Fields(s.calls())) }

// well runs a verb to its good end, in the background.
func (s *scene) well(wg *sync.WaitGroup, v pve.Verb) {
	wg.Go(func() {
		if report, err := s.Run(s.t.Context(), v, nil); err != nil || report.Result.Exit != pve.Done {
			s.t.Errorf("%s: got %+v, %v", v, report.Result, err)
		}
	})
}

// begin is well, and waits until the gate has been called with the verb. Others that waited for the same link may get
// there at the same moment, so that the calls as a whole say nothing.
func (s *scene) begin(wg *sync.WaitGroup, v pve.Verb) {
	called := func() int { return strings.Count(s.calls(), string(v)) }
	n := called()
	s.well(wg, v)
	await(s.t, "the call of "+string(v), func() bool { return called() == n+1 })
}

// forsake asks status and leaves as soon as the gate was called.
func (s *scene) forsake() {
	n := s.count()
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Run(ctx, pve.Status, nil); !errors.Is(err, context.Canceled) {
			s.t.Errorf("got %v", err)
		}
	})
	await(s.t, "the call", func() bool { return s.count() == n+1 })
	cancel()
	wg.Wait()
}

func TestGatesThatCannotEndBlockNobody(t *testing.T) {
	t.Parallel()
	s := newScene(t, cannotEnd)
	s.Hurry(20*time.Second, 15*time.Second, 100*time.Millisecond, time.Second)
	for range 20 {
		report, err := s.Run(t.Context(), pve.Status, nil)
		if err != nil || strings.Join(report.Notes, "") != "The gate gave its result but did not end." {
			t.Fatalf("got %+v, %v", report, err)
		}
	}
	report, err := s.Run(t.Context(), pve.Cycle, nil)
	if err != nil || report.Result.Exit != pve.Done || report.Took > soon {
		t.Errorf("got %+v, %v", report, err)
	}
	t.Logf("the cycle took %s, over connection %d", report.Took, s.wire.dialled())
	await(t, "the end of the retired links", func() bool { return s.wire.links() == 1 })
	if n := s.wire.dialled(); n != 4 {
		t.Errorf("dialled %d times, want 4 links of 6 reads each", n)
	}
}

func TestAChangeDoesNotWaitBehindReads(t *testing.T) {
	t.Parallel()
	s := newScene(t, slow)
	s.Hurry(5*time.Minute, 15*time.Second, 5*time.Second, time.Minute) // its reads last as long as all of it
	var wg sync.WaitGroup
	for range 10 {
		s.well(&wg, pve.Status)
	}
	await(t, "the reads that have room", func() bool { return s.count() == 6 })
	s.begin(&wg, pve.Cycle)
	s.begin(&wg, pve.Stop)
	if n := s.wire.dialled(); n != 1 {
		t.Errorf("dialled %d times, although there is room for changes", n)
	}
	s.begin(&wg, pve.Reset) // on a new link, which the reads in line may use too
	s.letGo()
	wg.Wait()
	if n := s.wire.dialled(); n != 2 || s.count() != 13 {
		t.Errorf("dialled %d times; the gate saw %s", n, s.calls())
	}
	await(t, "the end of the retired link", func() bool { return s.wire.links() == 1 })
}

// The bound: reads wait, a change cuts the oldest link that carries reads alone, and those are asked once more.
func TestTheLinksDoNotGrowInNumber(t *testing.T) {
	t.Parallel()
	s := newScene(t, slow)
	s.Hurry(5*time.Minute, 15*time.Second, 5*time.Second, time.Minute) // its reads last as long as all of it
	var wg sync.WaitGroup
	s.begin(&wg, pve.Start)
	s.begin(&wg, pve.Status)
	for range 3 {
		for range 5 {
			s.forsake()
		}
		s.begin(&wg, pve.Status) // no room: the link is retired, and somebody still listens to it
	}
	for range 5 {
		s.forsake()
	}
	if n := s.wire.links(); n != 4 {
		t.Fatalf("%d links are up", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Run(ctx, pve.Status, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a read beyond the bound got %v", err)
	}
	s.begin(&wg, pve.Cycle)
	s.begin(&wg, pve.Stop)
	n := s.count()
	s.well(&wg, pve.Reset)
	await(t, "the reset and the read that was cut for it", func() bool { return s.count() == n+2 })
	await(t, "the end of the link that was cut", func() bool { return s.wire.links() == 4 })
	s.letGo()
	wg.Wait()
	if got := s.calls(); strings.Count(got, "start") != 1 || s.wire.dialled() != 5 {
		t.Errorf("dialled %d times; the gate saw %s", s.wire.dialled(), got)
	}
	await(t, "the end of the retired links", func() bool { return s.wire.links() == 1 })
}
