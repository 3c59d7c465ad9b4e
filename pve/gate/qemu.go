package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/host"

	"golang.org/x/sys/unix"
)

// qemu is the QEMU of our VM, held by a pidfd: the number of a process may pass on to another, the descriptor cannot.
type qemu struct {
	host.Process
	Scope string `json:"scope,omitempty"` // the folder of the VM's own cgroup that it was in; empty if nobody could say
	fd    int
}

func (q *qemu) close() { _ = unix.Close(q.fd) }

// dead waits for proof that no thread of the process is left. It is the only proof there is: after a kill that does not
// get through, `qm status` says stopped and the pid file is gone while threads in D state still write to the disk.
func (q *qemu) dead(limit time.Duration) bool { return host.Readable(q.fd, limit) }

func (q *qemu) signal(sig unix.Signal) error { return unix.PidfdSendSignal(q.fd, sig, nil, 0) }

func (q *qemu) String() string { return fmt.Sprintf("QEMU %d", q.Pid) }

// identify finds the QEMU of our VM, alive or with threads left, or nil. It asks, in this order: the pid file of
// Proxmox, every process's command line, and what the last change noted. The caller closes it. Of those in doubt nobody
// could tell whose QEMU they are, so that nothing may be started beside them.
func (g *gate) identify(ctx context.Context) (q *qemu, doubt []string) {
	if q := g.fromPidFile(); q != nil {
		return q, nil
	}
	read, unread := host.CommandLines(ctx, func(pid int) bool { return host.Stranger(pid) == "" })
	if q, doubt = g.among(read, unread); q == nil {
		q = g.remembered()
	}
	return q, doubt
}

// among finds it among processes that are not strangers.
func (g *gate) among(read, unread []host.CommandLine) (q *qemu, doubt []string) {
	for _, c := range read {
		if len(c.Words) > 0 && !g.isOurs(c.Words) {
			continue
		}
		q, sure := g.open(c.Pid, func() ([]string, error) { return c.Words, nil }, false)
		if q != nil {
			return q, nil
		}
		if !sure {
			doubt = append(doubt, fmt.Sprintf("process %d, whose threads live on after a kill", c.Pid))
		}
	}
	for _, c := range unread {
		q, sure := g.open(c.Pid, func() ([]string, error) { return nil, errUnread }, false)
		if q != nil {
			return q, nil
		}
		if !sure {
			doubt = append(doubt, fmt.Sprintf("process %d (%s), whose command line cannot be read", c.Pid, printable(c.Name)))
		}
	}
	return nil, doubt
}

var errUnread = errors.New("not read")

func (g *gate) fromPidFile() *qemu {
	for _, path := range g.pidFiles() {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
			q, _ := g.open(pid, func() ([]string, error) { return host.Arguments(pid) }, true)
			return q
		}
	}
	return nil
}

// open takes hold of a process and then looks at what it holds, so that the look and the hold are of the same process. It
// is not sure if the process is a QEMU, not provably dead, and nothing tells of which VM.
func (g *gate) open(pid int, arguments func() ([]string, error), named bool) (q *qemu, sure bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, true
	}
	st, err := host.ReadStat(pid)
	q = &qemu{Process: host.Process{Pid: pid, Start: st.Start}, fd: fd}
	ours, sure := false, true
	if err == nil && !q.dead(0) && host.Stranger(pid) == "" {
		ours, sure = g.owns(pid, st, arguments, named)
	}
	if !ours {
		q.close()
		return nil, sure
	}
	q.Scope = g.scopeFolder(pid)
	return q, true
}

// owns says whether a live process is the QEMU of our VM, and whether that is sure. A process without a command line,
// killed or hanging, is known by its cgroup; if that tells nothing, a killed one that the pid file names is ours.
func (g *gate) owns(pid int, st host.Stat, arguments func() ([]string, error), named bool) (ours, sure bool) {
	words, err := arguments()
	switch {
	case len(words) > 0:
		return g.isOurs(words), true
	case !isQEMU(st.Name), err == nil && !st.Ended(): // a thread of the kernel has no words either
		return false, true
	}
	if vm := vmOf(host.Cgroup(pid)); vm != "" {
		return vm == strconv.Itoa(g.vmid), true
	}
	ours = named && st.Ended()
	return ours, ours
}

func isQEMU(name string) bool { return name == "kvm" || strings.HasPrefix(name, "qemu-system-") }

// isOurs knows the QEMU of our VM as Proxmox itself does: by the program and by the whole value of -pidfile. A pattern
// over command lines would take 1020 for 102. Anybody can give a process these words, so they count together with
// [host.Stranger] alone.
func (g *gate) isOurs(words []string) bool {
	if len(words) == 0 {
		return false
	}
	if !isQEMU(filepath.Base(words[0])) {
		return false
	}
	i := slices.Index(words, "-pidfile")
	return i > 0 && i+1 < len(words) && slices.Contains(g.pidFiles(), words[i+1])
}

// impostors names those processes that call themselves the QEMU of our VM and cannot be it, a line each. They are
// neither its life nor in the way of its death; an administrator wants to know of them all the same.
func (g *gate) impostors() string {
	const most = 3
	var lines []string
	read, _ := host.CommandLines(context.Background(), func(pid int) bool { return host.Stranger(pid) != "" })
	for _, c := range read {
		if whose := host.Stranger(c.Pid); whose != "" && len(lines) < most && g.isOurs(c.Words) {
			lines = append(lines, fmt.Sprintf("Ignored: process %d %s calls itself the QEMU of VM %d.", c.Pid, whose, g.vmid))
		}
	}
	return strings.Join(lines, "\n")
}

// remember notes the QEMU that is about to be stopped, for the gate that comes after one that died.
func (g *gate) remember(q *qemu) error {
	line, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return replace(g.runFile("qemu"), line)
}

// noted is the QEMU of the last change, which may be long gone; zero if there is none.
func (g *gate) noted() (q qemu) {
	line, err := os.ReadFile(g.runFile("qemu"))
	if err != nil || json.Unmarshal(line, &q) != nil {
		return qemu{}
	}
	return q
}

// remembered is the noted QEMU, if threads of it are left.
func (g *gate) remembered() *qemu {
	q := g.noted()
	if q.Pid <= 1 {
		return nil
	}
	var err error
	if q.fd, err = unix.PidfdOpen(q.Pid, 0); err != nil {
		return nil
	}
	if st, err := host.ReadStat(q.Pid); err != nil || st.Start != q.Start || q.dead(0) {
		q.close()
		return nil
	}
	return &q
}

// warm is a reset that qm came back from: inside which QEMU, and when by the host's uptime, which nobody sets back.
type warm struct {
	QEMU host.Process  `json:"qemu"`
	At   time.Duration `json:"at"`
}

// noteReset keeps it for the verdicts to come, whatever verb comes next. It need not outlast QEMU, so it lies in the memory
// of the host.
func (g *gate) noteReset(q *qemu) {
	at, err := host.Uptime()
	if err == nil {
		var line []byte
		if line, err = json.Marshal(warm{q.Process, at}); err == nil {
			err = replace(g.runFile("reset"), line)
		}
	}
	if err != nil {
		g.tell.step("journal", pve.StepFail, "the reset is not noted: "+err.Error())
	}
}

// lastReset is how long ago a gate reset the guest inside this QEMU; 0 if none is known. Of a reset that was cut off
// nobody knows whether it happened, and a reboot of the guest's own is not seen.
func (g *gate) lastReset(q *qemu) time.Duration {
	var r warm
	line, err := os.ReadFile(g.runFile("reset"))
	if err != nil || json.Unmarshal(line, &r) != nil || r.QEMU != q.Process {
		return 0
	}
	now, err := host.Uptime()
	if err != nil || r.At <= 0 {
		return 0
	}
	return max(0, now-r.At)
}

// leftover says that qm does not see the process any more although threads of it are left.
func (q *qemu) leftover() bool {
	st, err := host.ReadStat(q.Pid)
	return err == nil && st.Ended()
}

// cleaning says that Proxmox's own clean-up of the VM is under way; it holds the VM's lock.
func (g *gate) cleaning(ctx context.Context) bool {
	vmid := fmt.Sprint(g.vmid)
	read, _ := host.CommandLines(ctx, func(pid int) bool { return host.Stranger(pid) == "" })
	return slices.ContainsFunc(read, func(c host.CommandLine) bool {
		i := slices.Index(c.Words, "cleanup")
		return i > 0 && i+1 < len(c.Words) && c.Words[i+1] == vmid && filepath.Base(c.Words[i-1]) == "qm"
	})
}
