package pve_test

import (
	"cmp"
	"errors"
	"testing"
	"time"

	"bgbot/pve"
)

func TestTheLimitsOfAllVerbs(t *testing.T) {
	t.Parallel()
	for v, want := range map[pve.Verb]time.Duration{
		pve.Status: 70 * time.Second, pve.Forensics: 90 * time.Second, pve.Reset: 225 * time.Second,
		pve.Stop: 245 * time.Second, pve.Start: 370 * time.Second, pve.Cycle: 440 * time.Second, "x": 0,
	} {
		if got := v.Limit(); got != want {
			t.Errorf("%s: got %s, want %s", v, got, want)
		}
	}
}

// Each is as slow as it can be, in its own way: a run reaches its limit and never passes it.
func TestARunNeverTakesLongerThanItsLimit(t *testing.T) {
	t.Parallel()
	const (
		hang   = "hold"
		budget = 1500 * time.Millisecond
		link   = 1500 * time.Millisecond
		once   = budget + link
		wait   = time.Second
		again  = 500 * time.Millisecond // between two that are asked
	)
	for name, c := range map[string]struct {
		verb    pve.Verb
		script  string
		meddle  func(*scene) bool // while it runs; false: it came too late
		atLeast time.Duration

		patience time.Duration // wait if 0
	}{
		"a gate that is silent": {verb: pve.Status, script: hang, atLeast: once},
		"a gate that does not end": {
			verb: pve.Cycle, script: `sleep 2; echo '{"result":{"exit":0}}';` + hang, atLeast: 2 * time.Second,
		},
		"a link that breaks late under a read": {verb: pve.Status, script: hang, atLeast: 2*once - time.Second, meddle: func(s *scene) bool {
			time.AfterFunc(once-500*time.Millisecond, s.wire.cut)
			return true
		}},
		"a change, and then a status, that hang": {verb: pve.Cycle, script: hang, atLeast: 2 * once},
		"a change that hangs, and a status that hangs in the end": {
			verb: pve.Cycle, atLeast: 2*once + again, patience: 5 * time.Second, // for the first status to die on a busy machine
			script: `[ $SSH_ORIGINAL_COMMAND = status ] && [ ! -e $D/late ] && { touch $D/late; kill -9 $$; };` + hang,
		},
		"a host that is gone in mid-change": {verb: pve.Cycle, script: hang, atLeast: wait / 2, meddle: func(s *scene) bool {
			called := within(once, func() bool { return s.calls() == "cycle" })
			s.sshd.Stop()
			s.wire.cut()
			return called
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// On a machine that is busy with other tests an answer can come too late for the story to go on; then once more.
			for took, try := time.Duration(0), 1; took < c.atLeast; try++ {
				s := newScene(t, c.script)
				limit := s.Hurry(budget, link, again, cmp.Or(c.patience, wait))(c.verb)
				over := make(chan error, 1)
				began := time.Now()
				go func() {
					_, err := s.Run(t.Context(), c.verb, nil)
					over <- err
				}()
				inTime := c.meddle == nil || c.meddle(s)
				err := <-over
				took = time.Since(began)
				t.Logf("it took %s of %s: %v", took, limit, err)
				if took > limit+budget { // the slack is for the same reason, and less than any part of a run
					t.Fatalf("it took %s, want at most %s", took, limit)
				}
				if unknown, ok := errors.AsType[*pve.Unknown](err); ok && unknown.Now == nil && unknown.Asked == nil {
					t.Error("status was not asked")
				}
				if !inTime {
					took = 0
				}
				if try == 5 && took < c.atLeast {
					t.Fatalf("it took %s, want at least %s", took, c.atLeast)
				}
			}
		})
	}
}
