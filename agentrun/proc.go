package agentrun

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// proc is a process as /proc shows it; pid and start together are never used again for another one.
type proc struct {
	pid, ppid int
	start     uint64 // clock ticks after boot
	state     byte
	tty       int
}

// alive says whether it still runs; a zombie is a mere entry in a table.
func (p proc) alive() bool { return p.state != 'Z' && p.state != 'X' }

// census reads all processes. Those that end while it reads are left out.
func census() (map[int]proc, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[int]proc, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := lookup(pid); ok {
			all[pid] = p
		}
	}
	return all, nil
}

// lookup reads /proc/PID/stat, proc_pid_stat(5). The second field is the name in brackets and may hold anything.
func lookup(pid int) (proc, bool) {
	data, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return proc{}, false
	}
	_, rest, ok := cutLast(data, ')')
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 {
		return proc{}, false
	}
	p := proc{pid: pid, state: fields[0][0]}
	var errs [3]error
	p.ppid, errs[0] = strconv.Atoi(fields[1])
	p.tty, errs[1] = strconv.Atoi(fields[4])
	p.start, errs[2] = strconv.ParseUint(fields[19], 10, 64)
	return p, errors.Join(errs[:]...) == nil
}

func cutLast(data []byte, sep byte) (before, after []byte, ok bool) {
	if i := bytes.LastIndexByte(data, sep); i >= 0 {
		return data[:i], data[i+1:], true
	}
	return data, nil, false
}

func procFile(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// marked says whether the process carries a mark that begins with prefix in its environment.
func marked(pid int, prefix string) bool {
	env, err := os.ReadFile(procFile(pid, "environ"))
	if err != nil {
		return false // gone, a kernel thread, or another user's
	}
	return bytes.HasPrefix(env, []byte(markKey+"="+prefix)) || bytes.Contains(env, []byte("\x00"+markKey+"="+prefix))
}

// isSSH says whether the process is an ssh client or our wrapper of that name.
func isSSH(pid int) bool {
	line, err := os.ReadFile(procFile(pid, "cmdline"))
	if err != nil {
		return false
	}
	args := bytes.Split(line, []byte{0})
	for _, arg := range args[:min(2, len(args))] { // a script is the argument of its interpreter
		if filepath.Base(string(arg)) == "ssh" {
			return true
		}
	}
	return false
}

// kin selects the processes of a session.
type kin struct {
	root proc   // the CLI; zero if it has ended
	mark string // a prefix of the mark in the environment
	dir  string // the session's folder: an orphan that works there is of the session, whatever its environment
}

// of lists the living processes in all that belong to k, the root left out, and their descendants; and those that may
// belong to it.
func (k kin) of(all map[int]proc) (found, doubtful []proc) {
	self := os.Getpid()
	adopters := lineage(all, self)
	in := make(map[int]bool)
	for pid, p := range all {
		if pid == self || pid == k.root.pid {
			continue
		}
		yes, sure := k.claims(p)
		in[pid] = yes || k.stray(p, all[p.ppid], adopters)
		if !in[pid] && !sure && p.alive() {
			doubtful = append(doubtful, p)
		}
	}
	for grown := true; grown; {
		grown = false
		for pid, p := range all {
			if !in[pid] && in[p.ppid] && pid != self && pid != k.root.pid {
				in[pid], grown = true, true
			}
		}
	}
	for pid, yes := range in {
		if yes && all[pid].alive() {
			found = append(found, all[pid])
		}
	}
	slices.SortFunc(found, func(a, b proc) int { return a.pid - b.pid })
	return found, doubtful
}

// claims says whether p tells by itself that it belongs to k. Once the CLI has died its children are ours.
func (k kin) claims(p proc) (yes, sure bool) {
	if k.root.pid != 0 && p.ppid == k.root.pid || k.mark != "" && marked(p.pid, k.mark) {
		return true, true
	}
	if k.root.pid != 0 {
		return false, true
	}
	return p.orphan()
}

// Owns says whether a process is of the session's CLI or descends from it. A process cannot leave that family, and cannot
// claim another.
func (r *Runner) Owns(session string, pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[session]
	if s == nil || s.root.pid == 0 {
		return false
	}
	for range 3 { // a parent that ends at this moment breaks the chain; its children then hang on the CLI
		at, ok := lookup(pid)
		ok = ok && at.alive()
		for ok && at.pid != s.root.pid {
			at, ok = lookup(at.ppid)
		}
		if ok {
			return at.start == s.root.start
		}
	}
	return false
}

// lineage is who may adopt an orphan of a bot that was killed: init, and whoever of our own ancestors is a subreaper, as
// systemd --user, tini -s and CI runners are (prctl(2)). /proc does not tell subreapers, so each ancestor counts.
func lineage(all map[int]proc, self int) map[int]bool {
	adopters := map[int]bool{1: true, self: true}
	for p, ok := all[self]; ok && p.ppid != 0 && !adopters[p.ppid]; p, ok = all[p.ppid] {
		adopters[p.ppid] = true
	}
	return adopters
}

// dying says whether a parent is about to leave its children to somebody else: it ran no code of its own when all was
// read. A CLI with its many threads is seen like that for some milliseconds after its death.
func (p proc) dying() bool {
	if p.pid == 0 || !p.alive() {
		return true
	}
	line, err := os.ReadFile(procFile(p.pid, "cmdline"))
	return err != nil || len(line) == 0 // its memory is gone already
}

// stray says whether p is an orphan without terminal that works in the session's folder. A person who looks around there
// has a parent and a terminal.
func (k kin) stray(p, parent proc, adopters map[int]bool) bool {
	if k.dir == "" || p.tty != 0 || !adopters[p.ppid] && !parent.dying() {
		return false
	}
	cwd, err := os.Readlink(procFile(p.pid, "cwd"))
	return err == nil && within(strings.TrimSuffix(cwd, " (deleted)"), k.dir)
}

// signal sends sig to p, and never to another process that got its pid.
func (p proc) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if now, ok := lookup(p.pid); !ok || now.start != p.start {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// tally is what a hunt came to.
type tally struct {
	seen map[proc]bool // every process that was found, by pid and start; the other fields are zero
	ssh  bool          // one of them was an ssh
	left []int         // what still lives
	may  []int         // what lives and may be of the kin: nothing is proven
	err  error
}

var errBirth = errors.New("the start of a CLI hangs: it cannot be told from what a dead one left running")

func (t *tally) wonder(p proc) {
	t.err = errBirth
	if !slices.Contains(t.may, p.pid) {
		t.may = append(t.may, p.pid)
	}
}

func newTally() *tally { return &tally{seen: map[proc]bool{}} }

// ended counts what was found and lives no more.
func (t *tally) ended() int { return len(t.seen) - len(t.left) }

// look finds the living kin.
func (t *tally) look(k kin) []proc {
	all, err := census()
	if t.err, t.left, t.may = err, nil, nil; err != nil {
		return nil
	}
	found, doubtful := k.of(all)
	for _, p := range doubtful {
		t.wonder(p)
	}
	for _, p := range found {
		t.ssh = t.ssh || isSSH(p.pid)
		t.seen[proc{pid: p.pid, start: p.start}] = true
		t.left = append(t.left, p.pid)
	}
	return found
}

// sweep kills the kin once and returns how many were alive.
func (t *tally) sweep(k kin) int {
	found := t.look(k)
	for _, p := range found {
		if err := p.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.err = err
		}
	}
	return len(found)
}

// hunt sweeps until nothing is left or ctx is done. What could fork between two sweeps is found by the next one.
func (t *tally) hunt(ctx context.Context, k kin) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for since := newest(); t.sweep(k)+t.chase(k, since) > 0 || t.err != nil; since = newest() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	t.reap()
}

// reap takes the entries of our own dead from the process table. Only those that were swept: a wait for any child would
// steal those of os/exec. While the CLI lives, its orphans are the CLI's to reap.
func (t *tally) reap() {
	for p := range t.seen {
		if now, ok := lookup(p.pid); ok && now.start == p.start && now.ppid == os.Getpid() && !now.alive() {
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
		}
	}
}
