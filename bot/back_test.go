package bot

import (
	"strings"
	"testing"
	"time"

	"bgbot/pve"
)

func TestShutdownDoesNotCallAVMLost(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(stalled, pve.Cycle))
	i.answers(pve.Result{Verb: pve.Cycle, Op: "1f93", Status: "running", Text: "VM 102 was cycled in 5.2 s."})
	i.vm.Stop()
	i.types("vm cycle")
	i.presses(i.shows(`🔴 Cycle devvm`).Choices[0].ID)
	i.shows(`⏳ cycle devvm 0:\d\d · SSH login`)
	i.shutdown()
	i.shows(`🟠 devvm was cycled in \d\.\d s \(op 1f93\); I am shutting down and did not look whether SSH answers\.
VM 102 was cycled in 5\.2 s\.`)
	if steps := i.shows(`🟠 cycle devvm · `).Body; !strings.HasSuffix(steps, "– SSH login · I am shutting down") {
		t.Errorf("the steps are\n%s", steps)
	}
}

func TestWhatShutdownLeavesUnlooked(t *testing.T) {
	for want, r := range map[string]pve.Result{
		"🟠 devvm was reset in 38 s (op 1f93); I am shutting down and did not look whether SSH answers.\nqm reset came back.": {Verb: pve.Reset, Op: "1f93", Text: "qm reset came back."},
		"🟠 devvm runs already (op 1f93); I am shutting down and did not look whether SSH answers.\nIt runs already.":         {Verb: pve.Start, Op: "1f93", Text: "It runs already."},
		"🟠 devvm was started in 38 s; I am shutting down and did not look whether SSH answers.\nStarted.":                    {Verb: pve.Start, Text: "Started."},
	} {
		report := pve.Report{Result: r, Took: 38 * time.Second}
		got := devvm.resultText(operation{verb: r.Verb, name: "operator"}, report, nil, reach{asked: true, err: errLeaving}, 39*time.Second)
		if got.Body != want {
			t.Errorf("got\n%s\nwant\n%s", got.Body, want)
		}
	}
}
