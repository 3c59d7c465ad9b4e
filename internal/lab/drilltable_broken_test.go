package lab

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"strconv"
	"strings"
	"testing"
	"time"

	"bgbot/pve"
	gatehost "bgbot/pve/gate/host"
)

// The rows about what is wrong with the VM.

// ioStall is the incident of which the gate was made: the block layer of QEMU stands still and all else lives.
func (d *drill) ioStall(t *testing.T) {
	const stall = "No block I/O for \\d+ s, \\d+ requests? waiting: I/O stall; .*`cycle`.*"
	before := d.qemu(t)
	d.breaks(t, stallDisk)
	d.becomes(t, "the verdict of a stall", func() bool { return d.client(t, pve.Status).result.Advice == pve.Cycle })
	d.client(t, pve.Status).want(pve.Done, `VM 102 is running .*`).status("running").verdict(stall, pve.Cycle)

	a := d.ssh(t, pve.Forensics).want(pve.Done, stall).verdict(stall, pve.Cycle)
	stands(t, a)
	d.untouched(t, before)

	impatient := d.key(t, "restrict,", "--wait", "12s") // a guest without a disk does not come up in a minute either
	a = d.ask(t, impatient, pve.Reset).want(pve.Unverified, `VM 102 was reset, but is not up after .*: no block was written; .*`).status("running")
	a.verdict(stall, pve.Cycle)
	d.untouched(t, before)

	c := d.call(t, "cycle")
	c.sees("verdict ok")
	a = c.ends().want(pve.Done, `VM 102 was cycled in .*: QEMU `+before.pid()+` is gone, QEMU \d+ runs\.`)
	matches(t, "the verdict before the stop", a.step("verdict"), "^"+stall+"$")
	a.wantTrail(stopSteps + ", " + startSteps)
	stands(t, a)
	d.replaced(t, before)
	d.client(t, pve.Status).verdict(well, "")
}

// stands fails the test unless the evidence has block counters that stood still while requests waited.
func stands(t *testing.T, a answer) {
	t.Helper()
	report := string(a.file("forensics").Data)
	matches(t, "forensics.txt", report, `(?m)^  scsi0 +requests \d+ \(\+0\), bytes read \d+ \(\+0\), written \d+ \(\+0\), failed 0 \(\+0\), last I/O \d+\.\d s ago$`)
	matches(t, "forensics.txt", report, `(?m)^disk scsi0: io-status ok`)
	matches(t, "forensics.txt", report, `(?m)^queue \d+ of virtioscsi0: \d+ requests? waiting in QEMU$`)
}

func (d *drill) panics(t *testing.T) {
	const panicked = "Guest kernel panic on screen: sysrq triggered crash; `reset` is enough"
	before := d.qemu(t)
	d.breaks(t, crashKernel)
	a := d.client(t, pve.Status).want(pve.Done, `VM 102 is running .*`)
	if !strings.HasPrefix(a.result.Verdict, "QEMU is well, but ") { // as it is on a machine that is too busy to tell
		a.verdict(".*", pve.Forensics) // which has the picture
	}
	a = d.client(t, pve.Forensics).want(pve.Done, panicked).verdict(panicked, pve.Reset)
	matches(t, "forensics.txt", string(a.file("forensics").Data), `Kernel panic - not syncing: sysrq triggered crash`)
	if _, err := png.DecodeConfig(bytes.NewReader(a.file("screen").Data)); err != nil {
		t.Errorf("the screen: %v", err)
	}

	a = d.ssh(t, pve.Reset).want(pve.Done, `VM 102 was reset in .*: the guest booted again inside QEMU `+before.pid()+`\.`).verdict(panicked, pve.Reset)
	a.wantTrail("check start, check ok, reset start, reset ok, qmp start, qmp ok, writes start, writes ok, ssh start, ssh ok, agent start, agent ok")
	d.isUp(t)
	d.untouched(t, before)
}

func (d *drill) reboots(t *testing.T) {
	before, boot := d.qemu(t), d.inside(t, "cat /proc/sys/kernel/random/boot_id")
	d.leaves(t, "reboot -f")
	d.client(t, pve.Status).want(pve.Done, `VM 102 is running .*`).status("running")
	d.isUp(t)
	if again := d.inside(t, "cat /proc/sys/kernel/random/boot_id"); again == boot {
		t.Error("it has not rebooted")
	}
	d.untouched(t, before)
	d.client(t, pve.Status).want(pve.Done, `VM 102 is running .*`).verdict(well, "")
}

// powersOff: this guest's kernel has no ACPI, so it halts with its QEMU running on. From outside that is a VM that idles.
func (d *drill) powersOff(t *testing.T) {
	const halted = `(Idle from outside: .*, no agent runs in it; look inside the guest|(Started|Reset) .* ago: .*, and no agent runs yet; .*|QEMU is well, but .*)`
	before := d.qemu(t)
	d.leaves(t, "poweroff -f")
	d.client(t, pve.Status).want(pve.Done, `VM 102 is running \(QEMU `+before.pid()+`, up .*\)\.`).status("running")
	d.ssh(t, pve.Forensics).want(pve.Done, halted).verdict(halted, "")
	d.ssh(t, pve.Start).want(pve.Done, `VM 102 is already running: .*`)
	d.untouched(t, before)
	d.ssh(t, pve.Cycle).want(pve.Done, `VM 102 was cycled in .*: QEMU `+before.pid()+` is gone, QEMU \d+ runs\.`).verdict(halted, "")
	d.replaced(t, before)
}

// wedgedLoop stops the process: its main loop, its CPU, its I/O threads.
func (d *drill) wedgedLoop(t *testing.T) {
	const wedged = "QEMU is stopped by a signal \\(state T\\), so nothing in it answers; `cycle`"
	before := d.qemu(t)
	d.breaks(t, stopQEMU)
	d.ssh(t, pve.Status).want(pve.Done, `VM 102 is running .*`).status("running").verdict(wedged, pve.Cycle)
	a := d.client(t, pve.Cycle).want(pve.Done, `VM 102 was cycled in .*: QEMU `+before.pid()+` is gone, QEMU \d+ runs\.`).verdict(wedged, pve.Cycle)
	a.wantTrail(stopSteps + ", " + startSteps)
	matches(t, "forensics.txt", string(a.file("forensics").Data), `(?m)^no answer in \d tries`)
	d.replaced(t, before)
}

// stuckInStorage is the incident that costs a disk: the host's storage hangs, QEMU's threads hang in it, and qm calls the
// VM stopped.
func (d *drill) stuckInStorage(t *testing.T, disk *loopDisk) {
	disk.needed(t)
	before := d.qemu(t)
	pid, err := strconv.Atoi(before.pid())
	if err != nil {
		t.Fatal(err)
	}
	disk.freeze(t)
	d.becomes(t, "a thread in state D", func() bool { return len(gatehost.Stuck(pid)) > 0 })

	dead := `QEMU ` + before.pid() + ` of VM 102 is not provably dead; nothing was started\.`
	a := d.ssh(t, pve.Cycle).want(pve.Refused, dead).text(`(?m)^\d+ of its threads hang in the kernel \(\w+\): a storage problem\. When the host's storage answers again, say start\.$`)
	a.status("stuck")
	matches(t, "the steps", a.trail(), `identify ok, check start, check ok, stop start, stop ok, quit start, quit fail, term start, term fail, kill start, kill fail, stopped fail(, journal fail)?$`)
	if d.qemu(t) != "" {
		t.Fatal("this is not the case to test: the pid file is there")
	}
	d.client(t, pve.Start).want(pve.Refused, dead)
	d.client(t, pve.Status).want(pve.Done, `VM 102 is not dead: qm says stopped, but threads of QEMU `+before.pid()+` are left\. Start nothing\.`).status("stuck")

	disk.thaw(t)
	d.ssh(t, pve.Start).want(pve.Done, `VM 102 was started in .*`)
	d.replaced(t, before)
}

// breaks makes a fault, which is there when it returns.
func (d *drill) breaks(t testing.TB, fault func(context.Context, *Lab) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upLimit)
	defer cancel()
	if err := fault(ctx, d.Lab); err != nil {
		t.Fatal(err)
	}
}

// inside runs a command in the guest.
func (d *drill) inside(t *testing.T, command string) (out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upLimit)
	defer cancel()
	err := d.until(ctx, func() error {
		client, err := d.login(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }()
		defer context.AfterFunc(ctx, func() { _ = client.Close() })()
		s, err := client.NewSession()
		if err != nil {
			return err
		}
		said, err := s.Output(command)
		out = strings.TrimSpace(string(said))
		return err
	})
	if err != nil {
		t.Fatalf("%s in the guest: %v", command, err)
	}
	return out
}

// leaves gives the guest a command that ends it, and waits until its agent is silent.
func (d *drill) leaves(t *testing.T, command string) {
	t.Helper()
	d.inside(t, "(sleep 0.5; "+command+") >/dev/null 2>&1 &")
	d.becomes(t, "a silent agent", func() bool { return within(t.Context(), time.Second, d.agentAnswers) != nil })
}

func (d *drill) becomes(t *testing.T, what string, seen func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upLimit)
	defer cancel()
	err := d.until(ctx, func() error {
		if seen() {
			return nil
		}
		return errors.New("not yet")
	})
	if err != nil {
		t.Fatalf("%s does not come", what)
	}
}
