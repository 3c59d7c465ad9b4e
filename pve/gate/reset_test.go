package gate_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"bgbot/pve"
)

// After a reset the guest boots inside a QEMU that is as old as before. What came of it shows in the verdicts that follow,
// whatever else was asked of the gate since, and only where the reset is known to have happened.
func TestVerdictsKnowTheLastResetOfThisQEMU(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM("-stands")
	const (
		quiet  = "No block I/O for 60 min, and nothing tells whether any waits: idle or stalled; try SSH"
		inVain = "No block I/O since the reset 3 min ago: the guest does not boot; `cycle` (a `reset` keeps this QEMU)"
	)
	says := func(when, verdict string, advice pve.Verb) {
		t.Helper()
		if r := h.run("status").result; r.Verdict != verdict || r.Advice != advice {
			t.Errorf("%s: got %q, advice %q, want %q, %q", when, r.Verdict, r.Advice, verdict, advice)
		}
	}
	h.file("fail-reset", "VM 102 qmp command 'system_reset' failed - got timeout\n")
	h.run("reset")
	h.remove("fail-reset")
	says("a reset that failed", quiet, "")
	cut, err := json.Marshal(map[string]any{
		"op": "c81f", "verb": "reset", "began": time.Now().Add(-3 * time.Minute), "step": "reset", "state": "start",
		"gate": map[string]any{"pid": os.Getpid(), "start": 1}, // another process's start
	})
	if err != nil {
		t.Fatal(err)
	}
	h.file("run/pve-gate/102.op", string(cut))
	says("a reset that was cut off", quiet, "")

	if r := h.run("reset", "--wait", "1s"); r.exit != pve.Unverified {
		t.Fatalf("got %d %q", r.exit, r.result.Text)
	}
	says("a moment after the reset", quiet, "")
	const note = "run/pve-gate/102.reset"
	var reset struct {
		QEMU struct {
			Pid   int    `json:"pid"`
			Start uint64 `json:"start"`
		} `json:"qemu"`
		At time.Duration `json:"at"` // by the uptime: a time of day that is set back does not matter
	}
	h.json(note, &reset)
	at := reset.At
	keep := func() {
		t.Helper()
		line, err := json.Marshal(reset)
		if err != nil {
			t.Fatal(err)
		}
		h.file(note, string(line))
	}
	reset.At = at - 3*time.Minute
	keep()
	says("3 min later", inVain, pve.Cycle)
	h.run("start") // it runs already
	says("another verb came since", inVain, pve.Cycle)

	reset.At = at + time.Hour
	keep()
	says("a reset to come", quiet, "")
	reset.At, reset.QEMU.Start = at-3*time.Minute, reset.QEMU.Start-1
	keep()
	says("a reset of another QEMU", quiet, "")
	h.file(note, "{")
	says("half a note", quiet, "")
}
