package bot

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bgbot/pve"
)

// aCycle is what a gate reports of a cycle, with the seconds at which it does.
var aCycle = []struct {
	at    float64
	name  string
	state pve.State
	text  string
}{
	{0.1, "op", pve.StepStart, "c81f"},
	{0.1, "accepted", pve.StepOK, "cycle of VM 102, asked by bgbot"},
	{0.1, "lock", pve.StepOK, "no other change is running"},
	{0.2, "forensics", pve.StepStart, "at most 10 s"},
	{4.3, "forensics", pve.StepOK, "14 probes, 2 hang: lvs, pvesm"},
	{4.3, "identify", pve.StepOK, "QEMU 4242, up 9 d 4 h"},
	{4.4, "check", pve.StepStart, "lock and HA"},
	{4.8, "check", pve.StepOK, "no lock, not managed by HA"},
	{4.8, "stop", pve.StepStart, "qm stop 102"},
	{16.8, "stop", pve.StepFail, "VM still running - terminating now with SIGKILL"},
	{17, "stopped", pve.StepOK, "no thread of QEMU 4242 is left"},
	{17, "start", pve.StepStart, "qm start 102"},
	{18.2, "start", pve.StepOK, "qm start came back"},
	{18.3, "process", pve.StepOK, "QEMU 4300"},
	{18.3, "qmp", pve.StepOK, "running"},
	{18.3, "block writes", pve.StepStart, ""},
	{20.4, "block writes", pve.StepOK, "16384 bytes"},
	{20.4, "agent", pve.StepSkip, "not enabled in the VM's configuration"},
	{20.4, "ssh", pve.StepStart, "waiting for a banner"},
	{38, "ssh", pve.StepOK, "SSH-2.0-OpenSSH_9.2p1"},
	{38, "SSH login", pve.StepStart, ""},
	{39.2, "SSH login", pve.StepOK, "devvm answered"},
}

func after(seconds float64) time.Time {
	return t0.Add(time.Duration(seconds * float64(time.Second)))
}

func played(until float64) *opView {
	v := &opView{verb: pve.Cycle, vm: "devvm", began: t0}
	for _, s := range aCycle {
		if s.at <= until {
			v.add(pve.Step{Step: s.name, State: s.state, Text: s.text}, after(s.at))
		}
	}
	return v
}

func TestACycleAsAPhoneShowsIt(t *testing.T) {
	for _, c := range []struct {
		at   float64
		want string
	}{
		{0.05, "⏳ cycle devvm 0:00 · asking the Proxmox host"},
		{1, "⏳ cycle devvm 0:01 · forensics\n\n" +
			"✓ accepted  0.1 s · cycle of VM 102, asked by bgbot  \n" +
			"✓ lock  0.1 s · no other change is running  \n" +
			"▸ forensics · at most 10 s"},
		{10, "⏳ cycle devvm 0:10 · stop\n\n" +
			"✓ accepted  0.1 s · cycle of VM 102, asked by bgbot  \n" +
			"✓ lock  0.1 s · no other change is running  \n" +
			"✓ forensics  4.1 s · 14 probes, 2 hang: lvs, pvesm  \n" +
			"✓ identify  0.1 s · QEMU 4242, up 9 d 4 h  \n" +
			"✓ check  0.4 s · no lock, not managed by HA  \n" +
			"▸ stop  0:05 · qm stop 102"},
		{30, "⏳ cycle devvm 0:30 · ssh\n\n" +
			"✓ 5 steps  4.6 s  \n" +
			"✗ stop  12 s · VM still running - terminating now with SIGKILL  \n" +
			"✓ stopped  0.2 s · no thread of QEMU 4242 is left  \n" +
			"✓ start  1.2 s · qm start came back  \n" +
			"✓ process  0.1 s · QEMU 4300  \n" +
			"✓ qmp  0.1 s · running  \n" +
			"✓ block writes  2.1 s · 16384 bytes  \n" +
			"– agent · not enabled in the VM's configuration  \n" +
			"▸ ssh  0:09 · waiting for a banner"},
	} {
		if got := played(c.at).page(after(c.at))[0].Body; got != c.want {
			t.Errorf("at %.1f s: got\n%s\nwant\n%s", c.at, got, c.want)
		}
	}
	over := played(60)
	over.over = "✅ cycle devvm · 39 s"
	got := over.page(after(99))[0].Body
	if n := strings.Count(got, "\n"); n != 15 || !strings.HasPrefix(got, "✅ cycle devvm · 39 s\n\n✓ accepted") || !strings.HasSuffix(got, "✓ SSH login  1.2 s · devvm answered") {
		t.Errorf("in the end there are %d lines:\n%s", n, got)
	}
}

func TestAGateThatGoesOnAndOnFloodsNobody(t *testing.T) {
	v := &opView{verb: pve.Cycle, vm: "devvm", began: t0}
	for i := range 5000 {
		v.add(pve.Step{Step: fmt.Sprintf("<!here> %d %s", i, strings.Repeat("x", 500)), State: pve.StepFail, Text: strings.Repeat("y", 5000)}, t0)
	}
	for _, over := range []string{"", "❌ cycle devvm"} {
		v.over = over
		body := v.page(t0)[0].Body
		if n := runes(body); n > pageSize+lockScreen || strings.Contains(body, "<!here>") || strings.Count(body, "\n") > opMost+1 {
			t.Errorf("it takes %d characters:\n%.500s", n, body)
		}
	}
}
