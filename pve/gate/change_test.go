package gate_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/pve"
	machine "bgbot/pve/gate/host"

	"golang.org/x/sys/unix"
)

const (
	before = "accepted ok, lock ok, forensics ok, verdict ok, identify ok, check ok, "
	up     = "process ok, qmp ok, writes ok, ssh skip, agent skip"
)

func TestCycleEndsTheOldQEMUAndStartsANewOne(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	old := h.pid()
	r := h.run("cycle")
	fresh := h.pid()
	want := fmt.Sprintf(`^VM 102 was cycled in (\d\.\d|[1-9]\d) s: QEMU %d is gone, QEMU %d runs\.$`, old, fresh)
	if r.exit != pve.Done || r.result.Status != "running" || !regexp.MustCompile(want).MatchString(r.result.Text) {
		t.Errorf("got %+v\n%s", r.result, r.out)
	}
	r.wantTrail(before + "stop ok, stopped ok, start ok, " + up)
	if got := h.qemus(); old == fresh || !slices.Equal(got, []int{fresh}) {
		t.Errorf("QEMU %d was to be replaced; now there are %v and the pid file says %d", old, got, fresh)
	}
	if first := r.steps[0]; first.Step != "op" || first.State != pve.StepOK || first.Op != r.result.Op || len(first.Op) != 4 {
		t.Errorf("the op id does not come first: %+v", first)
	}
	if got := h.changed(); !slices.Equal(got, []string{"stop", "start"}) {
		t.Errorf("qm was called with %v", got)
	}
}

func TestAWedgedQEMUIsKilledAndProvenDead(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM("-wedged")
	h.file("stop-lies", "") // qm exits 0 and removes the pid file while QEMU lives, as the real one may
	old := h.pid()
	r := h.run("cycle")
	r.wantTrail(before + "stop ok, quit fail, term fail, kill ok, stopped ok, start ok, " + up)
	if r.exit != pve.Done || slices.Contains(h.qemus(), old) {
		t.Errorf("exit %d, QEMU %d among %v", r.exit, old, h.qemus())
	}
}

func TestAStopWhoseQmHangsComesTrueWithoutQm(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	for _, verb := range []string{"config", "status", "pending"} {
		h.file("hang-"+verb, "")
	}
	r := h.run("stop")
	r.wantTrail("accepted ok, lock ok, forensics ok, verdict ok, identify ok, check fail, stop skip, quit ok, stopped ok")
	r.want(pve.Done, firstLine(r.result.Text))
	if r.result.Status != "stopped" || len(h.qemus()) != 0 {
		t.Errorf("got %q with QEMUs %v", r.result.Text, h.qemus())
	}
}

func TestACycleIsNotBegunWhenQmHangs(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	old := h.pid()
	h.file("hang-config", "")
	r := h.run("cycle")
	if r.exit != pve.Failed || !regexp.MustCompile(`^qm config did not come back \(no answer within 1\d s\)\.\n`).MatchString(r.result.Text) {
		t.Errorf("got %d %q", r.exit, r.result.Text)
	}
	if h.pid() != old || len(h.changed()) != 0 {
		t.Errorf("something was changed: pid %d to %d, %v", old, h.pid(), h.changed())
	}
}

func TestRefusalsChangeNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arrange func(*host)
		verb    string
		exit    pve.Exit
		first   string
	}{
		"locked": {
			func(h *host) { h.file("config", "lock: backup\nname: devvm\n") }, "cycle",
			pve.Refused, "VM 102 is locked (backup); nothing was changed.",
		},
		"locked as qm stop says": {
			func(h *host) { h.file("fail-stop", "VM is locked (snapshot)\n") }, "stop",
			pve.Refused, "VM 102 is locked (snapshot); nothing was changed.",
		},
		"managed by HA": {
			func(h *host) {
				h.script("ha-manager", "#!/bin/sh\nprintf 'ct:102\\n\\nvm: 102\\n\\tstate started\\n'\n")
			}, "cycle",
			pve.Refused, "VM 102 is managed by HA, which decides itself; nothing was changed here.",
		},
		"HA took the request": {
			func(h *host) { h.file("say-stop", "Requesting HA stop for VM 102\n") }, "cycle",
			pve.Refused, "HA was asked to stop VM 102 and will; nothing else was done here.",
		},
		"qm stop fails": {
			func(h *host) { h.file("fail-stop", "cluster not ready - no quorum?\n") }, "cycle",
			pve.Failed, "qm stop failed: cluster not ready - no quorum?",
		},
		"the flock is taken": {
			func(h *host) {
				h.file("fail-stop", "trying to acquire lock...\ncan't lock file '/var/lock/qemu-server/lock-102.conf' - got timeout\n")
			}, "cycle",
			pve.Failed, "qm stop failed: another task on the host holds the lock of VM 102.",
		},
		"no such VM": {
			func(h *host) {
				h.file("fail-config", "Configuration file 'nodes/pve/qemu-server/102.conf' does not exist\n")
			}, "cycle",
			pve.Failed, "qm config failed: Configuration file 'nodes/pve/qemu-server/102.conf' does not exist",
		},
		"reset of a silent QEMU": {
			func(h *host) { h.file("fail-reset", "VM 102 qmp command 'system_reset' failed - got timeout\n") }, "reset",
			pve.Failed, "qm reset failed: VM 102 qmp command 'system_reset' failed - got timeout",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t).withVM()
			old := h.pid()
			c.arrange(h)
			h.run(c.verb).want(c.exit, c.first)
			if h.pid() != old || !slices.Equal(h.qemus(), []int{old}) {
				t.Errorf("QEMU was %d, now %v", old, h.qemus())
			}
		})
	}
}

func TestVerbsThatFindTheirWorkDone(t *testing.T) {
	t.Parallel()
	running, stopped := newHost(t).withVM(), newHost(t)
	r := running.run("start")
	r.want(pve.Done, firstLine(r.result.Text))
	if want := fmt.Sprintf("VM 102 is already running: QEMU %d, up ", running.pid()); !strings.HasPrefix(r.result.Text, want) {
		t.Errorf("got %q, want %q", r.result.Text, want)
	}
	r.wantTrail("accepted ok, lock ok, forensics ok, verdict ok, identify ok, start skip")
	stopped.run("stop").want(pve.Done, "VM 102 is already stopped.").wantTrail(before + "stop skip, stopped ok")
	stopped.run("reset").want(pve.Failed, "VM 102 is not running: there is nothing to reset. Use start.")
	if got := append(running.changed(), stopped.changed()...); len(got) != 0 {
		t.Errorf("qm was called with %v", got)
	}
}

func TestStartAndResetAndStop(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.run("start")
	r.wantTrail(before + "stopped ok, start ok, " + up)
	old := h.pid()
	r = h.run("reset")
	if want := fmt.Sprintf(`^VM 102 was reset in \d\.\d s: the guest booted again inside QEMU %d\.$`, old); r.exit != pve.Done || !regexp.MustCompile(want).MatchString(r.result.Text) {
		t.Errorf("got %d %q", r.exit, r.result.Text)
	}
	h.run("stop").want(pve.Done, fmt.Sprintf("VM 102 is stopped: QEMU %d is gone.", old))
	if len(h.qemus()) != 0 {
		t.Errorf("left: %v", h.qemus())
	}
}

func TestAFailedStartPassesQmsWordsOn(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	h.file("fail-start", "kvm: -drive file=x: Could not open 'x'\nstart failed: QEMU exited with code 1\n")
	r := h.run("cycle").want(pve.Failed, "VM 102 was stopped, but does not start: it is off now.")
	if !strings.Contains(r.result.Text, "\nqm start failed: kvm: -drive file=x: Could not open 'x'\nstart failed: QEMU exited with code 1") || r.result.Status != "stopped" {
		t.Errorf("got %+v", r.result)
	}
}

func TestAStartThatMeetsTheCleanUpTriesOnceMore(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.file("once-start", "can't lock file '/var/lock/qemu-server/lock-102.conf' - got timeout\n")
	h.run("start").wantTrail(before + "stopped ok, start fail, start ok, " + up)
}

func TestAStartThatLeavesNoProcessIsNotCalledDone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.file("say-start", "")
	h.run("start").want(pve.Unverified, "VM 102 was started, but no new QEMU was seen within 10s. Ask status.")
}

func TestNothingIsStartedBesideAQEMUThatQmDoesNotSee(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	pid := h.pid()
	h.remove("run/qemu-server/102.pid")
	r := h.run("start").want(pve.Refused, fmt.Sprintf("VM 102 is stopped for qm, but QEMU %d of it still runs; nothing was started.", pid))
	if r.result.Status != "stuck" {
		t.Errorf("status %q", r.result.Status)
	}
	h.file("fail-status", "cluster not ready - no quorum?\n")
	h.run("start").want(pve.Unverified, fmt.Sprintf("QEMU %d of VM 102 runs, but qm does not confirm it; nothing was started.", pid))
	h.remove("fail-status")
	h.end()
	await(t, "the end of QEMU", func() bool { return len(h.qemus()) == 0 })
	h.file("say-status", "status: running\n")
	h.run("cycle").want(pve.Refused, `VM 102 is "running" for qm, but its QEMU cannot be found, so it is not provably dead; nothing was started.`)
	if got := h.changed(); len(got) != 0 {
		t.Errorf("qm was called with %v", got)
	}
}

func TestNothingIsStartedWhileThreadsOfTheOldQEMUAreLeft(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM("-unkillable")
	pid := h.pid()
	h.run("reset") // a change notes the QEMU that it found
	if err := unix.Kill(pid, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	await(t, "a leader that is a zombie", func() bool {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(line), ") Z ")
	})
	h.file("calls", "")
	first := fmt.Sprintf("QEMU %d of VM 102 is not provably dead; nothing was started.", pid)
	h.run("start").want(pve.Refused, first).wantTrail(before + "stopped fail")
	h.remove("run/qemu-server/102.pid") // as qm stop leaves it
	r := h.run("start").want(pve.Refused, first)
	if r.result.Status != "stuck" || len(h.changed()) != 0 {
		t.Errorf("status %q, qm %v", r.result.Status, h.changed())
	}
	h.run("status").want(pve.Done, fmt.Sprintf("VM 102 is not dead: qm says stopped, but threads of QEMU %d are left. Start nothing.", pid))
	if err := unix.Kill(pid, unix.SIGKILL); err != nil { // the storage answers again
		t.Fatal(err)
	}
	r = h.run("start")
	r.wantTrail(before + "stopped ok, start ok, " + up)
}

func TestVM1020IsNotTakenFor102(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	other := exec.CommandContext(t.Context(), h.path("qemu-system-x86_64"), "-id", "1020", "-pidfile", h.path("run/qemu-server/1020.pid"))
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	await(t, "QEMU of VM 1020", func() bool { _, err := os.Stat(h.path("run/qemu-server/1020.pid")); return err == nil })
	// The worst case: a stale pid file of 102 whose number now belongs to VM 1020.
	h.end102()
	h.file("run/qemu-server/102.pid", fmt.Sprintln(other.Process.Pid))
	h.run("stop").want(pve.Done, "VM 102 is already stopped.")
	if !slices.Contains(h.qemus(), other.Process.Pid) {
		t.Error("the QEMU of VM 1020 was ended")
	}
}

// end102 ends the QEMU of the VM alone.
func (h *host) end102() {
	h.t.Helper()
	pid := h.pid()
	_ = unix.Kill(pid, unix.SIGKILL)
	await(h.t, "the end of QEMU", func() bool { return !slices.Contains(h.qemus(), pid) })
}

func TestASecondChangeIsToldWhoIsAtIt(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	h.file("hold-stop", "")
	first := make(chan ran, 1)
	go func() { first <- h.run("cycle") }()
	await(t, "qm stop", func() bool { return slices.Contains(h.calls(), "stop") })
	began := time.Now()
	second := h.run("stop")
	took := time.Since(began)
	status := h.run("status") // takes no lock
	h.remove("hold-stop")
	one := <-first
	if want := fmt.Sprintf("Busy: cycle by key test, op %s is running: `stop` since ", one.result.Op); second.exit != pve.Busy || !strings.HasPrefix(second.result.Text, want) {
		t.Errorf("got %d %q, want %d %q", second.exit, second.result.Text, pve.Busy, want)
	}
	if took > 5*time.Second {
		t.Errorf("it took %s to say busy", took)
	}
	if status.exit != pve.Done || !strings.Contains(status.result.LastOp, "op "+one.result.Op+" is running: `stop`") {
		t.Errorf("status says %q", status.result.LastOp)
	}
	if one.exit != pve.Done {
		t.Errorf("the first ended with %d: %s", one.exit, one.result.Text)
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// A status takes a while, and the change that it tells of may end meanwhile. That is no interruption.
func TestAChangeThatEndsDuringAStatusWasNotInterrupted(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	other := exec.CommandContext(t.Context(), "sleep", "300") // its gate
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	st, err := machine.ReadStat(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(h.path("run/pve-gate"), 0o700); err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(map[string]any{
		"op": "c81f", "verb": "cycle", "key": "bgbot", "began": time.Now(), "step": "ssh", "state": "start", "since": time.Now(), "after": "writes",
		"gate": machine.Process{Pid: other.Process.Pid, Start: st.Start},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.file("run/pve-gate/102.op", string(line))
	h.file("hold-status", "")
	back := make(chan ran, 1)
	go func() { back <- h.run("status") }()
	await(t, "qm status", func() bool { return len(h.calls()) > 0 })
	_ = other.Process.Kill()
	_ = other.Wait()
	h.remove("hold-status")
	if r := <-back; !strings.HasPrefix(r.result.LastOp, "cycle by key bgbot, op c81f is running: `ssh` since ") {
		t.Errorf("got %q", r.result.LastOp)
	}
}
