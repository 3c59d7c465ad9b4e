package lab

import (
	"bytes"
	"fmt"
	"image/png"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/pve"
)

// The rows about qm and the host, on a VM that is well.

const (
	// What a well VM is called, also on a machine that has too much to do.
	well = `(Healthy from outside: .*; look inside the guest|QEMU is well, but .*|Idle from outside: .*|(Started|Reset) .* ago: .*)`

	stopSteps  = "check start, check ok, stop start, stop ok, stopped ok"
	startSteps = "start start, start ok, process start, process ok, qmp start, qmp ok, writes start, writes ok, ssh start, ssh ok, agent start, agent ok"
)

func (d *drill) healthyCycle(t *testing.T) {
	before := d.qemu(t)
	a := d.client(t, pve.Cycle).want(pve.Done, `VM 102 was cycled in .*: QEMU `+before.pid()+` is gone, QEMU \d+ runs\.`)
	a.wantTrail(stopSteps+", "+startSteps).status("running").verdict(well, "")
	d.replaced(t, before)
	for step, want := range map[string]string{
		"writes": `^the guest wrote \d+ bytes$`, "ssh": `^SSH-2\.0-OpenSSH_`, "agent": `^it answers$`, "process": "^QEMU " + d.qemu(t).pid() + "$",
	} {
		matches(t, "the step "+step, a.step(step), want)
	}
	picture, err := png.DecodeConfig(bytes.NewReader(a.file("screen").Data))
	if err != nil || picture.Width < 640 || picture.Height < 400 {
		t.Errorf("the screen: %+v, %v", picture, err)
	}
	report := string(a.file("forensics").Data)
	for _, want := range []string{
		`(?m)^Verdict: ` + well + `$`, `(?m)^== screen .*\n(.*\n)*devvm login:`, `(?m)^block counters, `, `(?m)^  scsi0 .* written \d{4,} `,
		`== guest agent \(.*\)\nanswers; file systems frozen: false`, `CPU 0/TCG`, `(?m)^scsihw: virtio-scsi-single$`,
	} {
		matches(t, "forensics.txt", report, want)
	}
	status := d.ssh(t, pve.Status).want(pve.Done, `VM 102 is running \(QEMU `+d.qemu(t).pid()+`, up .*\)\.`).verdict(well, "")
	matches(t, "the last operation", status.result.LastOp, `^cycle by key bgbot, op `+a.result.Op+`, done \d+ s ago$`)
	r := status.result
	if len(r.HostKeys) == 0 { // a status does not wait for a guest that is slow to tell them
		r = d.client(t, pve.Status).result
	}
	if len(r.HostKeys) != 1 || r.HostKeys[0]+"\n" != string(authorized(d.keys.vmHost)) || time.Since(r.Forensics) > time.Hour {
		t.Errorf("host keys %q, forensics of %s", r.HostKeys, r.Forensics)
	}
}

func (d *drill) lockRefuses(t *testing.T) {
	conf, err := os.ReadFile(d.state.confFile(vmid))
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(d.state.confFile(vmid), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(slices.Concat([]byte("lock: backup\n"), conf))
	t.Cleanup(func() { write(conf) })
	before := d.qemu(t)
	for _, v := range []pve.Verb{pve.Cycle, pve.Reset, pve.Stop} {
		a := d.ssh(t, v).want(pve.Refused, `VM 102 is locked \(backup\); nothing was changed\.`)
		a.wantTrail("check start, check fail").verdict(`Locked \(backup\), changes refused\. .*`, "")
	}
	a := d.client(t, pve.Status).want(pve.Done, `VM 102 is running .*`).text(`(?m)^Locked \(backup\), changes refused\. `).status("running")
	if a.result.Lock != "backup" {
		t.Errorf("the lock is %q", a.result.Lock)
	}
	d.untouched(t, before)
}

func (d *drill) haRefuses(t *testing.T) {
	d.fault(t, "ha")
	before := d.qemu(t)
	for _, v := range []pve.Verb{pve.Cycle, pve.Stop} {
		a := d.client(t, v).want(pve.Refused, `VM 102 is managed by HA, which decides itself; nothing was changed here\.`)
		a.wantTrail("check start, check fail")
	}
	d.untouched(t, before)
}

func (d *drill) startFails(t *testing.T) {
	mend := d.fault(t, "start-fail")
	before := d.qemu(t)
	a := d.ssh(t, pve.Cycle).want(pve.Failed, `VM 102 was stopped, but does not start: it is off now\.`)
	a.text(`qm start failed: .*-nonsense: invalid option\n.*start failed: QEMU exited with code 1`).status("stopped")
	a.wantTrail(stopSteps + ", start start, start fail")
	a = d.client(t, pve.Status).want(pve.Done, `VM 102 is stopped\.`).status("stopped").verdict("Stopped: .*; `start`", pve.Start)
	matches(t, "the last operation", a.result.LastOp, `^cycle by key bgbot, op .*, failed \d+ s ago: VM 102 was stopped, but does not start: it is off now\.$`)
	mend()
	d.client(t, pve.Start).want(pve.Done, `VM 102 was started in .*: QEMU \d+ runs\.`).wantTrail("check start, check ok, stopped ok, " + startSteps)
	d.replaced(t, before)
}

// qm hangs, as it does when /etc/pve does: what needs qm is not begun, and what does not need it is done all the same.
func (d *drill) qmHangs(t *testing.T) {
	mend := d.fault(t, "qm-hang")
	before := d.qemu(t)
	c := d.follow(t, d.withHostileEnvironment(t, pve.Cycle))
	c.sees("check start")
	d.sameEverywhere(t, "qm") // it hangs, so that it can be looked at

	began := time.Now()
	a := d.client(t, pve.Status).want(pve.Done, `VM 102: qm does not answer \(QEMU `+before.pid()+`, up .*\)\.`).status("unknown").verdict(well, "")
	if took := time.Since(began); took > 2*pve.Status.Budget() {
		t.Errorf("status took %s", took)
	}
	matches(t, "the last operation", a.result.LastOp, "^cycle by key bgbot, op "+c.op()+" is running: `check` since ")

	c.ends().want(pve.Failed, `qm config did not come back .*`).text(`(?m)^Nothing was changed\.$`).wantTrail("check start, check fail")
	d.untouched(t, before)

	p := openVM(d.state, vmid)
	defer p.close()
	a = d.ssh(t, pve.Stop).want(pve.Done, `VM 102 is stopped: QEMU `+before.pid()+` is gone\.`)
	a.wantTrail("check start, check fail, stop skip, quit start, quit ok, stopped ok").status("stopped")
	if !p.dead(0) {
		t.Error("it was called gone and is there")
	}
	mend()
	d.client(t, pve.Start).want(pve.Done, `VM 102 was started in .*`)
	d.replaced(t, before)
}

func (d *drill) twoAtOnce(t *testing.T) {
	before := d.qemu(t)
	first := d.call(t, "cycle")
	first.sees("lock ok")
	for _, v := range []pve.Verb{pve.Cycle, pve.Start} {
		a := d.client(t, v).want(pve.Busy, fmt.Sprintf("Busy: cycle by key bgbot, op %s is running: `[a-z]+` since \\d+ s\\.", first.op()))
		a.text(fmt.Sprintf(`(?m)^%s was not begun\. Ask status, then try again\.$`, v))
		if got, want := a.trail(), "op ok, accepted ok, lock fail"; got != want {
			t.Errorf("steps %s, want %s", got, want)
		}
		if took := a.result.At.Sub(a.steps[0].At); took > 5*time.Second { // 0.1 s if the machine has time
			t.Errorf("the refusal took %s", took)
		}
	}
	first.ends().want(pve.Done, `VM 102 was cycled in .*`)
	d.replaced(t, before)
	if a := d.client(t, pve.Status); !strings.HasPrefix(a.result.LastOp, "cycle by key bgbot, op "+first.op()+", done ") {
		t.Errorf("the last operation is %q", a.result.LastOp)
	}
}
