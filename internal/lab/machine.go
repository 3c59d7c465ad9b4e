package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	hostUpLimit   = 60 * time.Second // sshd and `qm start`, on a busy machine
	hostDownLimit = 10 * time.Second // for what was killed to be gone
	hostPoll      = 20 * time.Millisecond
)

// machine is the Proxmox host of a real VM, a process of its own: bin/lab-host. All that runs on the host descends from
// it, sshd, gates, qm and the QEMU that made itself a daemon, and comes back to it as to a PID 1. So when the lab that
// owns it ends, however it ends, it can end all of them and prove it.
type machine struct {
	*state
	orphans chan os.Signal // a child has ended
}

// hostMain brings the host up, writes to file descriptor 3 when that is done, and ends with its owner.
func hostMain(args []string) int {
	s, err := home(args)
	if err != nil {
		return complain(1, err)
	}
	m := &machine{state: s, orphans: make(chan os.Signal, 1)}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return complain(1, os.NewSyscallError("prctl", err))
	}
	owner := gone(s)
	err = m.up()
	if err == nil {
		signal.Notify(m.orphans, syscall.SIGCHLD)
		ready := os.NewFile(3, "ready")
		_, _ = ready.WriteString("ok")
		_ = ready.Close()
		m.stay(owner, ended)
	}
	if err = errors.Join(err, m.down()); err == nil && s.Temporary {
		err = os.RemoveAll(s.dir) // nobody else will, if the owner was killed
	}
	if err != nil {
		return complain(1, err)
	}
	return 0
}

// up starts sshd and, as a host with `onboot: 1` does, the VM.
func (m *machine) up() error {
	ctx, cancel := context.WithTimeout(context.Background(), hostUpLimit)
	defer cancel()
	if err := m.startSSHD(ctx); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, m.bin("qm"), "start", strconv.Itoa(vmid))
	cmd.Env = hostEnv
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("qm start: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// hostEnv is all that programs on the host get of an environment.
const hostPath = "/usr/sbin:/usr/bin:/sbin:/bin"

var hostEnv = []string{"PATH=" + hostPath, "LC_ALL=C"}

func (m *machine) stay(owner <-chan struct{}, ended <-chan os.Signal) {
	for {
		select {
		case <-m.orphans:
			reap()
		case <-owner:
			return
		case <-ended:
			return
		}
	}
}

// reap takes in all children that have ended.
func reap() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// down ends sshd first, so that nobody comes in, gives gates and qm the time to finish, then ends all that is left.
func (m *machine) down() error {
	list := descendants(os.Getpid())
	kill(slices.DeleteFunc(list, func(p hostProcess) bool { return p.parent != os.Getpid() || p.name != "sshd" }))
	late := time.Now().Add(gateGrace)
	for time.Now().Before(late) && slices.ContainsFunc(descendants(os.Getpid()), func(p hostProcess) bool { return p.name == "pve-gate" || p.name == "qm" }) {
		reap()
		<-time.After(hostPoll)
	}
	for end := time.Now().Add(hostDownLimit); ; {
		left := descendants(os.Getpid())
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the lab's process %d (%s) does not end", left[0].pid, left[0].name)
		}
		kill(left)
		reap()
		<-time.After(hostPoll)
	}
}

// hostProcess is a line of /proc/PID/stat, as far as needed.
type hostProcess struct {
	pid, parent int
	name        string
}

func readProcess(pid int) (p hostProcess, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The name stands in brackets and may hold any byte, so the fields are counted from the last bracket.
	open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	if err != nil || open < 0 || end < open {
		return p, false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 2 {
		return p, false
	}
	parent, err := strconv.Atoi(fields[1])
	return hostProcess{pid, parent, string(text[open+1 : end])}, err == nil
}

// descendants lists the processes below pid. A zombie counts until it is reaped.
func descendants(pid int) (found []hostProcess) {
	entries, _ := os.ReadDir("/proc")
	var all []hostProcess
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := readProcess(n); ok {
				all = append(all, p)
			}
		}
	}
	below := map[int]bool{pid: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if below[p.parent] && !below[p.pid] {
				below[p.pid], grown = true, true
				found = append(found, p)
			}
		}
	}
	return found
}

// kill ends descendants of this process. Each is held by a pidfd before it is looked for a second time, so a number that
// was given to somebody else meanwhile is not touched.
func kill(list []hostProcess) {
	held := map[int]int{}
	for _, p := range list {
		if fd, err := unix.PidfdOpen(p.pid, 0); err == nil {
			held[p.pid] = fd
		}
	}
	for _, p := range descendants(os.Getpid()) {
		if fd, ok := held[p.pid]; ok {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
	}
	for _, fd := range held {
		_ = unix.Close(fd)
	}
}
