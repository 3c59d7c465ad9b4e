package gate_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate"

	"golang.org/x/sys/unix"
)

// An administrator stops the VM in Proxmox's own interface while the storage hangs, Proxmox says stopped, and somebody
// types start. No gate has noted the old QEMU: its threads are found all the same.
func TestThreadsOfAQEMUThatNoGateHasNotedAreFound(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM("-unkillable")
	pid := h.pid()
	if err := unix.Kill(pid, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	await(t, "a leader that is a zombie", func() bool {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(line), ") Z ")
	})
	h.remove("run/qemu-server/102.pid")
	h.run("start").want(pve.Refused, fmt.Sprintf("QEMU %d of VM 102 is not provably dead; nothing was started.", pid))
	h.run("status").want(pve.Done, fmt.Sprintf("VM 102 is not dead: qm says stopped, but threads of QEMU %d are left. Start nothing.", pid))
	if slices.Contains(h.changed(), "start") {
		t.Error("qm start was called")
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.run("start").wantTrail(before + "stopped ok, start ok, " + up)
}

// QEMU's own cgroup is where it really is, not where a path says that it should be: what it leaves there counts.
func TestTheScopeIsTheOneThatQEMUWasIn(t *testing.T) {
	t.Parallel()
	root := ""
	for _, folder := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(folder, "cgroup.controllers")); err == nil {
			root = folder
		}
	}
	parent := filepath.Join(root, fmt.Sprintf("bgbot-test-%d", os.Getpid()))
	const other = "7102" // a number of its own, as all hosts of these tests share one machine
	scope := filepath.Join(parent, other+".scope")
	if root == "" {
		noScope(t, "this machine has no cgroups of version 2")
	}
	if err := os.MkdirAll(scope, 0o700); err != nil {
		noScope(t, err)
	}
	t.Cleanup(func() { // when all that is in it has ended
		await(t, "an empty cgroup", func() bool { return os.Remove(scope) == nil && os.Remove(parent) == nil })
	})
	h := newHost(t)
	t.Cleanup(h.end)
	if err := os.Symlink(root, h.path("run/cgroup")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), h.path("qm"), "start", other).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid := strings.TrimSpace(h.read("run/qemu-server/" + other + ".pid"))
	helper := exec.CommandContext(t.Context(), "sleep", "300")
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- helper.Wait() }()
	for _, one := range []string{pid, fmt.Sprint(helper.Process.Pid)} {
		if err := os.WriteFile(filepath.Join(scope, "cgroup.procs"), []byte(one), 0o600); err != nil {
			_ = helper.Process.Kill()
			noScope(t, err)
		}
	}
	r := h.run("stop", "--vmid", other)
	if r.exit != pve.Done || !regexp.MustCompile(`"step":"scope","state":"ok","text":"empty"`).MatchString(r.out) {
		t.Errorf("got %d %q\n%s", r.exit, r.result.Text, files.ReplaceAllString(r.out, "…"))
	}
	if got := r.text("stopped"); got != fmt.Sprintf("no thread of QEMU %s is left; scope empty", pid) {
		t.Errorf("got %q", got)
	}
	<-gone // it was ended with the scope
}

// noScope is for a machine where no cgroup can be made; CI has one where it can.
func noScope(t *testing.T, why any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("a QEMU in a scope of its own is not tested: ", why)
	}
	t.Skip("NOT TESTED, a QEMU in a scope: ", why)
}

// A disk whose counter stands still is dead, however the counter was read: another client held QEMU's socket when the
// reset came back, so the first reading came late.
func TestAResetOfAVMWhoseDiskIsDeadIsNotDone(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM("-stands")
	h.file("hold-reset", "")
	back := make(chan ran, 1)
	go func() { back <- h.run("reset", "--wait", "5s") }()
	await(t, "qm reset", func() bool { return slices.Contains(h.calls(), "reset") })
	conn, err := net.Dial("unix", h.path("run/qemu-server/102.qmp"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Read(make([]byte, 1)); err != nil { // it is served
		t.Fatal(err)
	}
	time.AfterFunc(2200*time.Millisecond, func() { _ = conn.Close() })
	h.remove("hold-reset")
	r := <-back
	if r.exit != pve.Unverified || !strings.Contains(r.result.Text, "no block was written") {
		t.Errorf("got %d %q", r.exit, r.result.Text)
	}
}

// A qm that hangs now told of the backup a moment ago. The stop must not end the VM in the middle of it.
func TestAStopWhoseQmHangsStillHeedsTheLock(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	h.file("hang-config", "")
	h.file("say-status", "status: running\nlock: backup\n")
	h.run("stop").want(pve.Refused, "VM 102 is locked (backup); nothing was changed.")
	if len(h.qemus()) != 1 {
		t.Error("QEMU was ended")
	}
}

func TestAnHAManagerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arrange func(*host)
		exit    pve.Exit
		first   string
	}{
		"its list has the VM": {
			func(h *host) { h.file("run/resources.cfg", "ct: 7\n\nvm: 102\n\tstate started\n") },
			pve.Refused, "VM 102 is managed by HA, which decides itself; nothing was changed here.",
		},
		"its list has it not": {func(h *host) { h.file("run/resources.cfg", "vm: 1020\n") }, pve.Done, ""},
		"there is no list":    {func(*host) {}, pve.Done, ""},
		"its list cannot be read": {func(h *host) {
			if err := os.Mkdir(h.path("run/resources.cfg"), 0o700); err != nil {
				h.t.Fatal(err)
			}
		}, pve.Refused, "VM 102 may be managed by HA, which cannot be asked; nothing was changed."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t).withVM()
			h.script("ha-manager", "#!/bin/sh\necho 'no quorum' >&2; exit 255\n")
			c.arrange(h)
			r := h.run("stop")
			if c.first == "" {
				c.first = firstLine(r.result.Text)
			}
			r.want(c.exit, c.first)
			if alive := len(h.qemus()) == 1; alive != (c.exit == pve.Refused) {
				t.Errorf("QEMU lives: %t", alive)
			}
		})
	}
}

// A key that may only look can ask as often as it likes, and each look on a wedged host leaves something behind.
func TestNoMoreThanThreeLookAtOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	h.file("hold-status", "")
	var looks sync.WaitGroup
	for range 3 {
		looks.Go(func() { h.run("status") })
	}
	await(t, "three that look", func() bool { return len(h.calls()) == 3 })
	began := time.Now()
	h.run("forensics").want(pve.Busy, "Busy: 3 others are looking at VM 102 already.")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to say so", took)
	}
	h.remove("hold-status")
	looks.Wait()
	if r := h.run("status"); r.exit != pve.Done {
		t.Errorf("afterwards: %d %q", r.exit, r.result.Text)
	}
}

// OpenSSH shuts a source out that connects again and again without a login; the bot looks next, from the same address.
func TestAnSSHServerThatSaysNothingIsNotKnockedAtAgainAndAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	knocks := make(chan int, 1)
	go func() {
		n := 0
		for {
			conn, err := l.Accept()
			if err != nil {
				knocks <- n
				return
			}
			n++
			_ = conn.Close()
		}
	}()
	h := newHost(t)
	r := h.run("start", "--wait", "5s", "--ssh", l.Addr().String())
	_ = l.Close()
	if n := <-knocks; n < 1 || n > 2 || r.exit != pve.Unverified {
		t.Errorf("%d connections in 5 s, exit %d", n, r.exit)
	}
}

func TestADryRunSaysWhatWouldNotBeDone(t *testing.T) {
	t.Parallel()
	running, stopped := newHost(t).withVM(), newHost(t)
	for _, c := range []struct {
		h    *host
		verb string
		want string
	}{
		{running, "start", "then start nothing, as it runs already."},
		{stopped, "start", "then run qm start and wait for a new QEMU."},
		{stopped, "reset", "then fail, as nothing runs that could be reset."},
		{running, "reset", "then run qm reset."},
		{stopped, "stop", "then stop nothing, as nothing runs."},
		{stopped, "cycle", "then stop nothing, as nothing runs, run qm start and wait for a new QEMU."},
	} {
		if r := c.h.run(c.verb, "--dry-run"); r.exit != pve.Done || !strings.HasSuffix(r.result.Text, c.want) {
			t.Errorf("%s: got %d %q, want %q", c.verb, r.exit, r.result.Text, c.want)
		}
	}
	if got := append(running.changed(), stopped.changed()...); len(got) != 0 {
		t.Errorf("qm was called with %v", got)
	}
}

// slow takes a line only after a while, as a thin connection does.
type slow struct {
	io.Writer
	wait chan struct{}
}

func (s slow) Write(p []byte) (int, error) {
	<-s.wait
	return s.Writer.Write(p)
}

func TestALateListenerGetsAllOfTheEvidence(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	var out bytes.Buffer
	wait := make(chan struct{})
	ready := make(chan struct{})
	go func() { // the evidence is kept before the gate waits for its listener
		defer close(ready)
		for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
			if kept, _ := filepath.Glob(h.path("state/102-forensics-*")); len(kept) > 0 {
				break
			}
		}
		time.AfterFunc(6*time.Second, func() { close(wait) }) // longer than a change is waited for
	}()
	code := gate.Main(h.flags(), []string{"SSH_ORIGINAL_COMMAND=forensics"}, slow{&out, wait}, io.Discard)
	<-ready
	r := parse(t, pve.Exit(code), out.String(), "")
	if r.exit != pve.Done || r.result.Verb != pve.Forensics {
		t.Errorf("got %d %+v", code, r.result)
	}
}
