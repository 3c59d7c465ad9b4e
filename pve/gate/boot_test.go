package gate_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bgbot/pve"
)

// sshd is a server of the guest that says banner and no more.
func (h *host) sshd(banner string) (address string) {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, banner)
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestAStartIsVerifiedByWhatTheGuestDoes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.run("start", "--ssh", h.sshd("SSH-2.0-OpenSSH_9.2p1\x1b[31m Debian\r\n"))
	r.wantTrail(before + "stopped ok, start ok, process ok, qmp ok, writes ok, ssh ok, agent skip")
	i := slices.IndexFunc(r.steps, func(s pve.Step) bool { return s.Step == "ssh" && s.State == pve.StepOK })
	if want := "SSH-2.0-OpenSSH_9.2p1[31m Debian"; i < 0 || r.steps[i].Text != want {
		t.Errorf("the banner is not told as %q: %+v", want, r.steps)
	}
}

func TestWhatIsNotUpIsNotCalledDone(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for name, c := range map[string]struct {
		arrange func(h *host)
		flags   func(h *host) []string
		trail   string
		lacks   string
	}{
		"a disk that is not written to, and no sshd": {
			arrange: func(h *host) { h.file("extra", "-idle") },
			flags:   func(*host) []string { return []string{"--ssh", closed.Addr().String()} },
			trail:   "process ok, qmp ok, writes fail, ssh fail, agent skip",
			lacks:   "no block was written; nobody listens at " + closed.Addr().String(),
		},
		"a port that answers as something else": {
			flags: func(h *host) []string { return []string{"--ssh", h.sshd("220 mail ready\r\n")} },
			trail: "process ok, qmp ok, writes ok, ssh fail, agent skip",
			lacks: "no SSH banner from 127.0.0.1:",
		},
		"a QEMU that hangs at once": {
			arrange: func(h *host) { h.file("extra", "-wedged") },
			trail:   "process ok, qmp fail, writes fail, ssh skip, agent skip",
			lacks:   "QEMU does not answer on its control socket",
		},
		"an agent that is silent, where nothing else can tell": {
			arrange: func(h *host) { h.file("config", "name: devvm\nagent: enabled=1,fstrim_cloned_disks=1\n") },
			trail:   "process ok, qmp ok, writes ok, ssh skip, agent fail",
			lacks:   "the guest agent is silent",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if c.arrange != nil {
				c.arrange(h)
			}
			flags := []string{"--wait", "2s"}
			if c.flags != nil {
				flags = append(flags, c.flags(h)...)
			}
			r := h.run("start", flags...)
			r.wantTrail(before + "stopped ok, start ok, " + c.trail + ", forensics ok, verdict ok")
			want := `^VM 102 was started, but is not up after [\d.]+ s: .*` + regexp.QuoteMeta(c.lacks)
			if r.exit != pve.Unverified || !regexp.MustCompile(want).MatchString(r.result.Text) {
				t.Errorf("got %d %q, want %s", r.exit, r.result.Text, want)
			}
			if len(h.qemus()) != 1 {
				t.Errorf("QEMUs: %v", h.qemus())
			}
		})
	}
}

func TestASilentAgentIsNoFailureWhereSSHAnswers(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.file("config", "agent: 1\n")
	h.run("start", "--wait", "2s", "--ssh", h.sshd("SSH-2.0-x\r\n")).
		wantTrail(before + "stopped ok, start ok, process ok, qmp ok, writes ok, ssh ok, agent fail")
}

func TestALockThatCameBetweenStopAndStart(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	h.file("fail-start", "VM is locked (backup)\n")
	r := h.run("cycle").want(pve.Refused, "VM 102 was stopped, but does not start: it is off now.")
	if !strings.Contains(r.result.Text, "VM 102 is locked (backup); nothing was started.") || r.result.Status != "stopped" {
		t.Errorf("got %+v", r.result)
	}
}

func TestNothingIsStartedBesideWhatIsLeftInTheScope(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	scope := h.path("run/cgroup/qemu.slice/102.scope")
	if err := os.MkdirAll(scope, 0o700); err != nil {
		t.Fatal(err)
	}
	helper := exec.CommandContext(t.Context(), "sleep", "300")
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = helper.Process.Kill(); _ = helper.Wait() })
	h.file("run/cgroup/qemu.slice/102.scope/cgroup.procs", fmt.Sprintln(helper.Process.Pid))
	h.file("run/cgroup/qemu.slice/102.scope/cgroup.events", "populated 1\nfrozen 0\n")
	first := "Processes of VM 102 are left in its scope, so it is not provably dead; nothing was started."
	r := h.run("start").want(pve.Refused, first)
	r.wantTrail(before + "stopped fail")
	if want := fmt.Sprintf("They are: %d (sleep).", helper.Process.Pid); !strings.Contains(r.result.Text, want) {
		t.Errorf("got %q, want %q", r.result.Text, want)
	}
	if _, err := os.Stat(filepath.Join(scope, "cgroup.kill")); err == nil {
		t.Error("a start has ended processes")
	}
	h.run("cycle").want(pve.Refused, first).wantTrail(before + "stop skip, scope fail, stopped fail")
	if h.read("run/cgroup/qemu.slice/102.scope/cgroup.kill") != "1" {
		t.Error("a cycle has not ended the scope")
	}
	h.file("run/cgroup/qemu.slice/102.scope/cgroup.events", "populated 0\nfrozen 0\n")
	h.run("start").wantTrail(before + "stopped ok, start ok, " + up)
}

func TestTheHostsLogTellsWhoAskedForWhat(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	syslog, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.path("run/log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syslog.Close() }()
	h.run("start")
	h.run("cycle; id\n<0>forged")
	var all strings.Builder
	for range 3 {
		line := make([]byte, 2048)
		n, err := syslog.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(line[:n], '\n'))
	}
	for _, want := range []string{
		`(?m)^<85>.* pve-gate\[\d+\]: VM 102 key="test" from=127.0.0.1 op=[0-9a-f]{4} accepted verb=start$`,
		`(?m) op=[0-9a-f]{4} ended verb=start exit=0: VM 102 was started in `,
		`(?m) op=[0-9a-f]{4} rejected verb="cycle; id\\n<0>forged"$`,
	} {
		if !regexp.MustCompile(want).MatchString(all.String()) {
			t.Errorf("no line %s in\n%s", want, all.String())
		}
	}
}

// A host's log that takes no more must not hold a change up.
func TestAStuckSyslogHoldsNothingUp(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: h.path("run/log")}); err != nil {
		t.Fatal(err)
	}
	full := func() bool { // nobody reads: the queue of the socket fills up
		w, err := net.Dial("unixgram", h.path("run/log"))
		if err != nil {
			return true
		}
		defer func() { _ = w.Close() }()
		raw, _ := w.(*net.UnixConn).SyscallConn()
		var sent error
		_ = raw.Write(func(fd uintptr) bool {
			sent = syscall.Sendmsg(int(fd), []byte("x"), nil, nil, syscall.MSG_DONTWAIT)
			return true
		})
		return sent != nil
	}
	await(t, "a full queue", full)
	h.run("stop").want(pve.Done, "VM 102 is already stopped.")
}
