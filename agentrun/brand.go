package agentrun

import (
	"bytes"
	"maps"
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

// brandable says whether the brand tells anything: not if we have it, too.
func brandable() error {
	if !hasBrand(os.Getpid()) {
		return nil
	}
	return &Ended{Reason: "bgbot may have no POSIX message queues, and so cannot tell by that limit whose a process is: one that hides " +
		"from a stop by ending its CLI runs on. Start bgbot with a higher hard limit (LimitMSGQUEUE= of systemd, ulimit -Hq)."}
}

// birthLimit is how long a birth may take until it counts as hanging, likely on a disk.
const birthLimit = 100 * time.Millisecond

// litter is our children that are CLIs. It is not locked while one is born, which may never end: the others die meanwhile.
var litter = struct {
	sync.Mutex // guards both
	pids       map[int]bool
	births     map[chan struct{}]time.Time // since when; the channel is closed when the pid is known
}{pids: map[int]bool{}, births: map[chan struct{}]time.Time{}}

func bear(cmd *exec.Cmd) error {
	over := make(chan struct{})
	litter.Lock()
	litter.births[over] = time.Now()
	litter.Unlock()
	err := cmd.Start()
	litter.Lock()
	defer litter.Unlock()
	if err == nil {
		litter.pids[cmd.Process.Pid] = true
	}
	delete(litter.births, over)
	close(over)
	return err
}

func bereave(cmd *exec.Cmd) {
	litter.Lock()
	defer litter.Unlock()
	delete(litter.pids, cmd.Process.Pid)
}

// orphan says whether p came to us because its CLI has died, of whichever session. It is not sure while a birth hangs,
// since p may be that CLI.
func (p proc) orphan() (yes, sure bool) {
	self := os.Getpid()
	if p.ppid != self || !hasBrand(p.pid) || hasBrand(self) {
		return false, true
	}
	litter.Lock()
	known, births := litter.pids[p.pid], maps.Clone(litter.births) // a birth that begins later is not p's
	litter.Unlock()
	if known {
		return false, true
	}
	for over, since := range births {
		select {
		case <-over:
		case <-time.After(time.Until(since.Add(birthLimit))):
			return false, false
		}
	}
	litter.Lock()
	defer litter.Unlock()
	return !litter.pids[p.pid], true
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
			if !ok || !p.alive() || pid == os.Getpid() || pid == k.root.pid {
				continue
			}
			yes, sure := k.claims(p)
			if !sure {
				t.wonder(p)
			}
			if !yes {
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
