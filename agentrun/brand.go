package agentrun

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// branded is the limit that the CLI and all that comes of it have at nothing, which costs them POSIX message queues. Unlike
// the mark in the environment and the working folder it cannot be taken off: without CAP_SYS_RESOURCE a limit is never
// raised (setrlimit(2)). It tells whose an orphan is that has shed the rest.
const branded = unix.RLIMIT_MSGQUEUE

func brand() error { return unix.Setrlimit(branded, &unix.Rlimit{}) }

func hasBrand(pid int) bool {
	var limit unix.Rlimit
	return unix.Prlimit(pid, branded, nil, &limit) == nil && limit.Max == 0
}

// litter is our children that are CLIs. It is locked while one is born, until its pid is known.
var litter = struct {
	sync.RWMutex // guards pids
	pids         map[int]bool
}{pids: map[int]bool{}}

func bear(cmd *exec.Cmd) error {
	litter.Lock()
	defer litter.Unlock()
	err := cmd.Start()
	if err == nil {
		litter.pids[cmd.Process.Pid] = true
	}
	return err
}

func bereave(cmd *exec.Cmd) {
	litter.Lock()
	defer litter.Unlock()
	delete(litter.pids, cmd.Process.Pid)
}

// orphan says whether p came to us because its CLI has died, of whichever session.
func (p proc) orphan() bool {
	self := os.Getpid()
	if p.ppid != self || !hasBrand(p.pid) || hasBrand(self) {
		return false
	}
	for range 20 {
		if litter.TryRLock() {
			defer litter.RUnlock()
			return !litter.pids[p.pid]
		}
		<-time.After(5 * time.Millisecond)
	}
	return false // a birth hangs, likely on a disk: a stop must not hang with it, nor end what may be a CLI
}

// newest is the pid that was given last, 0 if /proc does not tell (proc_loadavg(5)).
func newest() int {
	data, err := os.ReadFile("/proc/loadavg")
	fields := bytes.Fields(data)
	if err != nil || len(fields) < 5 {
		return 0
	}
	pid, _ := strconv.Atoi(string(fields[4]))
	return pid
}

// chase kills the kin among the processes that were born since a pid, and returns how many it met alive. What forks and
// leaves without end is in no census, since it has gone when its line is read; but the newest pid is always near.
func (t *tally) chase(k kin, since int) (met int) {
	const rounds, near = 40, 64
	for range rounds {
		last := newest()
		from := since + 1
		if last < since || last-from > near { // the pids began anew, or there are many
			from = last - near
		}
		for pid := max(from, 2); pid <= last; pid++ {
			p, ok := lookup(pid)
			if !ok || !p.alive() || pid == os.Getpid() || pid == k.root.pid || !k.claims(p) {
				continue
			}
			if p.signal(unix.SIGKILL) == nil { // a thread is none
				met++
				t.seen[proc{pid: p.pid, start: p.start}] = true
				t.left = append(t.left, p.pid)
			}
		}
		since = last - 1
	}
	return met
}
