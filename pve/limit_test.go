package pve_test

import (
	"errors"
	"os"
	"path/filepath"
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
		hang   = `while [ -d $D ] && [ ! -e $D/end ]; do sleep 0.05; done`
		budget = 1500 * time.Millisecond
		link   = 1500 * time.Millisecond
		once   = budget + link
		wait   = time.Second
	)
	for name, c := range map[string]struct {
		verb    pve.Verb
		script  string
		meddle  func(*testing.T, *scene)
		atLeast time.Duration
	}{
		"a gate that is silent": {verb: pve.Status, script: hang, atLeast: once},
		"a gate that does not end": {
			verb: pve.Cycle, script: `sleep 2; echo '{"result":{"exit":0}}';` + hang, atLeast: 2 * time.Second,
		},
		"a link that breaks late under a read": {verb: pve.Status, script: hang, atLeast: 2*once - time.Second, meddle: func(_ *testing.T, s *scene) {
			time.AfterFunc(once-500*time.Millisecond, s.wire.cut)
		}},
		"a change, and then a status, that hang": {verb: pve.Cycle, script: hang, atLeast: 2 * once},
		"a change that hangs, and a status that hangs in the end": {
			verb: pve.Cycle, atLeast: 2*once + wait/2,
			script: `[ $SSH_ORIGINAL_COMMAND = status ] && [ ! -e $D/late ] && kill -9 $$;` + hang,
			meddle: func(t *testing.T, s *scene) {
				t.Helper()
				time.AfterFunc(once+wait*3/4, func() { _ = os.WriteFile(filepath.Join(s.dir, "late"), nil, 0o600) })
			},
		},
		"a host that is gone in mid-change": {verb: pve.Cycle, script: hang, atLeast: wait / 2, meddle: func(t *testing.T, s *scene) {
			t.Helper()
			await(t, "the call", func() bool { return s.calls() == "cycle" })
			s.sshd.Stop()
			s.wire.cut()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, c.script)
			limit := s.Hurry(budget, link, 500*time.Millisecond, wait)(c.verb)
			type end struct {
				report pve.Report
				err    error
			}
			over := make(chan end, 1)
			began := time.Now()
			go func() {
				report, err := s.Run(t.Context(), c.verb, nil)
				over <- end{report, err}
			}()
			if c.meddle != nil {
				c.meddle(t, s)
			}
			got := <-over
			took := time.Since(began)
			t.Logf("it took %s of %s: %v", took, limit, got.err)
			if took > limit+500*time.Millisecond || took < c.atLeast { // the slack is for a machine busy with other tests
				t.Errorf("it took %s, want %s to %s", took, c.atLeast, limit)
			}
			if unknown, ok := errors.AsType[*pve.Unknown](got.err); ok && unknown.Now == nil && unknown.Asked == nil {
				t.Error("status was not asked")
			}
		})
	}
}
