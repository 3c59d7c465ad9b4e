package evidence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"bgbot/pve/gate/host"
)

// Process is QEMU as /proc shows it, which answers whatever else hangs.
type Process struct {
	Pid    int           `json:"pid"`
	Age    time.Duration `json:"age"`
	State  string        `json:"state"` // of its first thread: R, S, D, T, Z
	First  []Thread      `json:"first,omitempty"`
	Last   []Thread      `json:"last,omitempty"`
	Window time.Duration `json:"window,omitempty"` // between the two
}

// Thread is one thread of QEMU.
type Thread struct {
	ID       int           `json:"id"`
	Name     string        `json:"name"`               // such as "CPU 0/KVM"
	State    string        `json:"state"`              // such as S or D
	Where    string        `json:"where,omitempty"`    // in the kernel it waits
	CPU      time.Duration `json:"cpu"`                // used so far
	Delayed  time.Duration `json:"delayed,omitempty"`  // it could have run, and the host's CPUs had no time for it
	Switches uint64        `json:"switches,omitempty"` // how often it gave the CPU away, if it is in D; one that hangs never does
}

func (t Thread) stuck() bool { return t.State == "D" }

// stuck are the threads that hung in the kernel from the first reading to the last. One that is in D at both can also
// have done much between: a worker that writes.
func (p *Process) stuck() (all []Thread) {
	for _, t := range p.Last {
		i := slices.IndexFunc(p.First, func(f Thread) bool { return f.ID == t.ID })
		if i >= 0 && t.stuck() && p.First[i].stuck() && t.Switches == p.First[i].Switches && t.CPU == p.First[i].CPU {
			all = append(all, t)
		}
	}
	return all
}

// left says that the process was killed and threads of it live on: qm says stopped.
func (p *Process) left() bool { return p.State == "Z" || p.State == "X" }

// live counts the threads that have not ended.
func (p *Process) live() (n int) {
	for _, t := range p.newest() {
		if t.State != "Z" && t.State != "X" {
			n++
		}
	}
	return n
}

func (p *Process) newest() []Thread {
	if p.Last != nil {
		return p.Last
	}
	return p.First
}

// busy are the shares of the window, 0 to 1, for which the threads of these ids ran; wanted counts as well the time for
// which they could have, on a host that is busy itself.
func (p *Process) busy(ids []int) []float64 {
	return p.shares(ids, func(t Thread) time.Duration { return t.CPU })
}

func (p *Process) wanted(ids []int) []float64 {
	return p.shares(ids, func(t Thread) time.Duration { return t.CPU + t.Delayed })
}

func (p *Process) shares(ids []int, used func(Thread) time.Duration) (all []float64) {
	for _, t := range p.Last {
		i := slices.IndexFunc(p.First, func(f Thread) bool { return f.ID == t.ID })
		if i >= 0 && p.Window > 0 && slices.Contains(ids, t.ID) {
			all = append(all, min(1, max(0, float64(used(t)-used(p.First[i]))/float64(p.Window))))
		}
	}
	return all
}

// process reads the threads twice, and goes on reading while one of them may hang.
func (l *look) process(ctx context.Context) finding {
	began := time.Now()
	st, err := host.ReadStat(l.QEMU.Pid)
	if err != nil {
		return finding{err: err}
	}
	if st.Start != l.QEMU.Start {
		return finding{err: fmt.Errorf("process %d is another one by now", l.QEMU.Pid)}
	}
	p := &Process{Pid: l.QEMU.Pid, Age: l.QEMU.Age(), State: st.State, First: threads(l.QEMU.Pid)}
	for wait := l.cpu; pause(ctx, wait); wait = sampleEvery {
		p.Last, p.Window = threads(l.QEMU.Pid), time.Since(began)
		if len(p.stuck()) == 0 || p.Window >= l.stuck {
			break
		}
	}
	if st, err := host.ReadStat(l.QEMU.Pid); err == nil && st.Start == l.QEMU.Start {
		p.State = st.State
	}
	return finding{put: func(c *Capture) { c.Process = p }}
}

const maxThreads = 1024

func threads(pid int) []Thread {
	var all []Thread
	now := host.Threads(pid)
	for _, t := range now[:min(len(now), maxThreads)] {
		one := Thread{ID: t.ID, Name: line(t.Name), State: t.State, Where: line(t.Where), CPU: t.CPU}
		folder := fmt.Sprintf("/proc/%d/task/%d/", pid, t.ID)
		if ran, delayed, ok := schedule(folder + "schedstat"); ok {
			one.CPU, one.Delayed = ran, delayed
		}
		if one.stuck() {
			one.Switches = switches(folder + "status")
		}
		all = append(all, one)
	}
	return all
}

// schedule reads how long a thread ran and was made to wait, in nanoseconds; the stat file has ticks of 10 ms. See
// Documentation/scheduler/sched-stats.rst.
func schedule(path string) (ran, delayed time.Duration, ok bool) {
	text, err := os.ReadFile(path)
	words := strings.Fields(string(text))
	if err != nil || len(words) < 2 {
		return 0, 0, false
	}
	r, errRan := strconv.ParseInt(words[0], 10, 64)
	d, errDelayed := strconv.ParseInt(words[1], 10, 64)
	return time.Duration(r), time.Duration(d), errRan == nil && errDelayed == nil && r > 0
}

func switches(path string) (n uint64) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if name, count, ok := strings.Cut(line, ":"); ok && strings.HasSuffix(name, "ctxt_switches") {
			one, _ := strconv.ParseUint(strings.TrimSpace(count), 10, 64)
			n += one
		}
	}
	return n
}

// processFiles are the counters of the process and its cgroup as they are.
func (l *look) processFiles(context.Context) finding {
	proc := fmt.Sprintf("/proc/%d", l.QEMU.Pid)
	paths := []string{proc + "/oom_score_adj", proc + "/io"}
	if l.Scope != "" {
		for _, name := range []string{"cgroup.events", "io.pressure", "memory.pressure", "memory.current", "memory.max", "cpu.stat"} {
			paths = append(paths, filepath.Join(l.Scope, name))
		}
	}
	return files(paths...)
}

// files joins small files of the kernel, each under its name; those that are not there are left out.
func files(paths ...string) finding {
	var b strings.Builder
	var missing error
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		missing = errors.Join(missing, err)
		_, _ = fmt.Fprintf(&b, "%s:\n%s\n", path, strings.TrimRight(string(text), "\n"))
	}
	return finding{text: b.String(), err: missing}
}
