package gate_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bgbot/pve"
)

// impostor is a process with the name and the -pidfile of our VM's QEMU, and the words of Proxmox's clean-up as well. It
// is a shell that waits for its input, since another user cannot execute the test binary.
func (h *host) impostor(as *syscall.SysProcAttr) int {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), "/bin/sh")
	cmd.Args = []string{"kvm", "-c", "echo; read x", "qm", "cleanup", "102", "-pidfile", h.path("run/qemu-server/102.pid")}
	cmd.Dir, cmd.SysProcAttr = "/", as
	in, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal("an impostor is needed: ", err)
	}
	h.t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is past its exec
		h.t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestAProcessThatPretendsToBeOurQEMUCountsForNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		as    syscall.SysProcAttr
		root  bool
		whose string
	}{
		"another user":        {syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, true, "of uid 65534"},
		"root of a container": {container(), false, "in a container"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.root && os.Geteuid() != 0 {
				if os.Getenv("CI") == "true" {
					t.Fatal("CI must run as root: this test becomes somebody else")
				}
				t.Skip("only root can start a process of another user")
			}
			h := newHost(t)
			pid := h.impostor(&c.as)
			note := fmt.Sprintf("\nIgnored: process %d %s calls itself the QEMU of VM 102.", pid, c.whose)

			h.run("status").wantNote("VM 102 is stopped.", note)
			h.run("stop").wantNote("VM 102 is already stopped.", note)
			h.file("run/qemu-server/102.pid", fmt.Sprintln(pid)) // a stale one, whose number is now the impostor's
			// qm itself is taken in by that, so nothing can be known.
			r := h.run("cycle").want(pve.Refused, `VM 102 is "running" for qm, but its QEMU cannot be found, so it is not provably dead; nothing was started.`)
			if !strings.HasSuffix(r.result.Text, note) {
				t.Errorf("got %q, want the end %q", r.result.Text, note)
			}
			h.remove("run/qemu-server/102.pid")

			began := time.Now()
			r = h.run("start")
			r.wantTrail(before + "stopped ok, start ok, " + up)
			r.wantNote(firstLine(r.result.Text), note)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it waited %s for a clean-up that is none", took)
			}
			old := h.pid()
			r = h.run("cycle")
			r.wantTrail(before + "stop ok, stopped ok, start ok, " + up)
			r.wantNote(firstLine(r.result.Text), note)
			if got := h.qemus(); old == 0 || h.pid() == old || !slices.Equal(got, []int{h.pid()}) {
				t.Errorf("QEMU %d was to be replaced; now there are %v", old, got)
			}
			if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || len(line) == 0 {
				t.Errorf("the impostor was ended: %v", err)
			}
		})
	}
}

// container has the process see itself as PID 1, and as root without being it where the tests are not.
func container() syscall.SysProcAttr {
	as := syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		as.Cloneflags |= syscall.CLONE_NEWUSER
	}
	return as
}

// wantNote wants a verb that went well, and the word about the impostor after all else.
func (r ran) wantNote(first, note string) {
	r.t.Helper()
	r.want(pve.Done, first)
	if !strings.HasSuffix(r.result.Text, note) {
		r.t.Errorf("got %q, want the end %q", r.result.Text, note)
	}
}
