package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	fd int
}

func (q *qemu) close() { _ = unix.Close(q.fd) }

// dead waits for proof that no thread of the process is left. It is the only proof there is: after a kill that does not
// get through, `qm status` says stopped and the pid file is gone while threads in D state still write to the disk.
func (q *qemu) dead(limit time.Duration) bool { return host.Readable(q.fd, limit) }

func (q *qemu) signal(sig unix.Signal) error { return unix.PidfdSendSignal(q.fd, sig, nil, 0) }

func (q *qemu) String() string { return fmt.Sprintf("QEMU %d", q.Pid) }

// identify finds the QEMU of our VM, alive or with threads left, or nil. It asks, in this order: the pid file of
// Proxmox, every process's command line, and what the last change noted. The caller closes it.
func (g *gate) identify() *qemu {
	if q := g.fromPidFile(); q != nil {
		return q
	}
	for _, pid := range host.Processes() {
		if host.Stranger(pid) == "" && g.isOurs(host.Arguments(pid)) {
			if q := g.open(pid); q != nil {
				return q
			}
		}
	}
	return g.remembered()
}

func (g *gate) fromPidFile() *qemu {
	for _, path := range g.pidFiles() {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
			return g.open(pid)
		}
	}
	return nil
}

// open takes hold of a process and then looks at what it holds, so that the look and the hold are of the same process.
func (g *gate) open(pid int) *qemu {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	st, err := host.ReadStat(pid)
	q := &qemu{Process: host.Process{Pid: pid, Start: st.Start}, fd: fd}
	words := host.Arguments(pid)
	// A process that was killed with threads in D has no command line any more; its name and the pid file must do.
	leftover := len(words) == 0 && (st.Name == "kvm" || strings.HasPrefix(st.Name, "qemu-system-"))
	if err != nil || q.dead(0) || host.Stranger(pid) != "" || (!g.isOurs(words) && !leftover) {
		q.close()
		return nil
	}
	return q
}

// isOurs knows the QEMU of our VM as Proxmox itself does: by the program and by the whole value of -pidfile. A pattern
// over command lines would take 1020 for 102. Anybody can give a process these words, so they count together with
// [host.Stranger] alone.
func (g *gate) isOurs(words []string) bool {
	if len(words) == 0 {
		return false
	}
	if name := filepath.Base(words[0]); name != "kvm" && !strings.HasPrefix(name, "qemu-system-") {
		return false
	}
	i := slices.Index(words, "-pidfile")
	return i > 0 && i+1 < len(words) && slices.Contains(g.pidFiles(), words[i+1])
}

// impostors names those processes that call themselves the QEMU of our VM and cannot be it, a line each. They are
// neither its life nor in the way of its death; an administrator wants to know of them all the same.
func (g *gate) impostors() string {
	const most = 3
	lines, _ := host.Within(host.ProcLimit, func() (lines []string, _ error) {
		for _, pid := range host.Processes() {
			if whose := host.Stranger(pid); whose != "" && len(lines) < most && g.isOurs(host.Arguments(pid)) {
				lines = append(lines, fmt.Sprintf("Ignored: process %d %s calls itself the QEMU of VM %d.", pid, whose, g.vmid))
			}
		}
		return lines, nil
	})
	return strings.Join(lines, "\n")
}

// remember notes the QEMU that is about to be stopped, for the gate that comes after one that died.
func (g *gate) remember(q *qemu) error {
	line, err := json.Marshal(q.Process)
	if err != nil {
		return err
	}
	return replace(g.runFile("qemu"), line)
}

// remembered is the noted QEMU, if threads of it are left.
func (g *gate) remembered() *qemu {
	var p host.Process
	line, err := os.ReadFile(g.runFile("qemu"))
	if err != nil || json.Unmarshal(line, &p) != nil || p.Pid <= 1 {
		return nil
	}
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		return nil
	}
	q := &qemu{Process: p, fd: fd}
	if st, err := host.ReadStat(p.Pid); err != nil || st.Start != p.Start || q.dead(0) {
		q.close()
		return nil
	}
	return q
}

// leftover says that qm does not see the process any more although threads of it are left.
func (q *qemu) leftover() bool {
	st, err := host.ReadStat(q.Pid)
	return err == nil && (st.State == "Z" || st.State == "X")
}

// cleaning says that Proxmox's own clean-up of the VM is under way; it holds the VM's lock.
func (g *gate) cleaning() bool {
	vmid := fmt.Sprint(g.vmid)
	return slices.ContainsFunc(host.Processes(), func(pid int) bool {
		if host.Stranger(pid) != "" {
			return false
		}
		words := host.Arguments(pid)
		i := slices.Index(words, "cleanup")
		return i > 0 && i+1 < len(words) && words[i+1] == vmid && filepath.Base(words[i-1]) == "qm"
	})
}

// emptyScope waits until nothing is left in the VM's scope, the cgroup that Proxmox starts it in, and names what stays.
// Helpers such as swtpm and virtiofsd live there beside QEMU; a stop or a cycle ends them with it.
func (g *gate) emptyScope(ctx context.Context) (left []string) {
	if until(ctx, scopeLimit, func() bool { left = g.inScope(); return len(left) == 0 }) || g.verb == pve.Start {
		return left
	}
	g.step("scope", pve.StepStart, "ending %s", strings.Join(left, ", "))
	_, err := host.Within(host.ProcLimit, func() (struct{}, error) {
		return struct{}{}, os.WriteFile(filepath.Join(g.scope(), "cgroup.kill"), []byte("1"), 0o600) // cgroup-v2, "cgroup.kill"
	})
	switch {
	case err != nil:
		g.step("scope", pve.StepFail, "%v", err)
	case until(ctx, scopeLimit, func() bool { left = g.inScope(); return len(left) == 0 }):
		g.step("scope", pve.StepOK, "empty")
	default:
		g.step("scope", pve.StepFail, "still there")
	}
	return left
}

// inScope names the processes of the scope; none if there is no scope. The kernel's own word for "empty" counts, as the
// list leaves out what has no thread in this cgroup itself.
func (g *gate) inScope() []string {
	events, err := host.Within(host.ProcLimit, func() ([]byte, error) { return os.ReadFile(filepath.Join(g.scope(), "cgroup.events")) })
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV): // gone, or going at this moment
		return nil
	case err != nil:
		return []string{"what cannot be read: " + err.Error()}
	case slices.Contains(strings.Split(string(events), "\n"), "populated 0"):
		return nil
	}
	var names []string
	pids, _ := os.ReadFile(filepath.Join(g.scope(), "cgroup.procs"))
	for word := range strings.FieldsSeq(string(pids)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			continue
		}
		st, _ := host.ReadStat(pid)
		names = append(names, fmt.Sprintf("%d (%s)", pid, printable(st.Name)))
	}
	if len(names) == 0 {
		names = []string{"a process that is not listed"}
	}
	return names
}
