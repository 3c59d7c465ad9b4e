package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ProcLimit bounds a look into /proc: the command line of a process can hang on its memory lock.
const ProcLimit = 2 * time.Second

const ticks = 100 // USER_HZ, the same on every Linux

// Process is a process by what never repeats on one boot: its number and its start time in clock ticks.
type Process struct {
	Pid   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"`
}

// Self is this process.
func Self() Process {
	p := Process{Pid: os.Getpid()}
	if st, err := ReadStat(p.Pid); err == nil {
		p.Start = st.Start
	}
	return p
}

// Lives says that the process, and not another with its number, still runs.
func (p Process) Lives() bool {
	st, err := ReadStat(p.Pid)
	return p.Pid > 0 && err == nil && st.Start == p.Start && !st.Ended()
}

// Age is how long ago the process was started.
func (p Process) Age() time.Duration {
	up, err := Uptime()
	if err != nil {
		return 0
	}
	return max(0, up-time.Duration(float64(p.Start)/ticks*float64(time.Second)))
}

// Uptime is how long ago the host was booted. Unlike the time of day it is never set back.
func Uptime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	up, err := strconv.ParseFloat(first, 64)
	return time.Duration(up * float64(time.Second)), err
}

// Stat is a line of /proc/PID/stat, as far as needed; see proc_pid_stat(5).
type Stat struct {
	Name, State string
	Start       uint64        // clock ticks after boot
	CPU         time.Duration // used so far, in user and kernel mode
}

// Ended says that the thread, or the first one of the process, runs no more; others of the process may.
func (s Stat) Ended() bool { return s.State == "Z" || s.State == "X" }

// ReadStat reads it of a process.
func ReadStat(pid int) (Stat, error) { return statFile(fmt.Sprintf("/proc/%d/stat", pid)) }

func statFile(path string) (Stat, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Stat{}, err
	}
	// The name stands in brackets and may hold any byte, so the fields are counted from the last bracket.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return Stat{}, errors.New("an odd stat line")
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return Stat{}, errors.New("an odd stat line")
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	user, userErr := strconv.ParseUint(fields[11], 10, 62)
	system, systemErr := strconv.ParseUint(fields[12], 10, 62)
	return Stat{
		Name: string(text[open+1 : end]), State: fields[0], Start: start, CPU: time.Duration(user+system) * time.Second / ticks,
	}, errors.Join(err, userErr, systemErr)
}

// Stranger says whose a process is that Proxmox, which runs as the user of the gate, did not start; it is empty for one
// of its own. Both user ids count, as a setuid program has root's in effect while its command line is its caller's; and
// so does the PID namespace, as root of a privileged container has our number. It is asked before the command line,
// since the owner of a process can make a reading of that hang.
func Stranger(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "of an unknown user"
	}
	var users, numbers []string // see proc_pid_status(5); the first line, Name, has its line breaks escaped
	for line := range strings.Lines(string(text)) {
		switch words := strings.Fields(line); words[0] {
		case "Uid:":
			users = words[1:]
		case "NSpid:":
			numbers = words[1:]
		}
	}
	if len(users) < 2 {
		return "of an unknown user"
	}
	ours := strconv.Itoa(os.Geteuid())
	for _, user := range users[:2] { // the real one, then the effective one
		if user != ours {
			return "of uid " + user
		}
	}
	if len(numbers) > 1 {
		return "in a container"
	}
	return ""
}

// CommandLine is what a process was started with.
type CommandLine struct {
	Pid   int
	Name  string   // of the program, as the kernel keeps it; only of what could not be read
	Words []string // none: a thread of the kernel, or a process of which nothing is left but its entry
}

// Arguments are the words of a process's command line; none when it has no memory any more. A process that was killed
// while a thread of it hangs in the kernel shows none itself, and its thread still does (measured with Linux 6.1).
func Arguments(pid int) ([]string, error) {
	return Within(ProcLimit, func() ([]string, error) { return arguments(pid) })
}

func arguments(pid int) ([]string, error) {
	words, err := wordsOf(fmt.Sprintf("/proc/%d/cmdline", pid))
	if len(words) > 0 || err != nil {
		return words, err
	}
	if st, err := ReadStat(pid); err != nil || !st.Ended() {
		return nil, err
	}
	for _, t := range Threads(pid) {
		if !t.Ended() {
			if words, err = wordsOf(fmt.Sprintf("/proc/%d/task/%d/cmdline", pid, t.ID)); len(words) > 0 {
				return words, nil
			}
		}
	}
	return nil, err
}

func wordsOf(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00"), nil
}

// readers is how many command lines are read at once; each that hangs takes one of them away.
const readers = 16

// CommandLines reads those of all processes that are wanted, within ProcLimit in all. Unread are those whose answer did
// not come, so that nothing but their name is known of them.
func CommandLines(ctx context.Context, wanted func(pid int) bool) (read, unread []CommandLine) {
	return commandLines(ctx, wanted, arguments)
}

func commandLines(ctx context.Context, wanted func(pid int) bool, arguments func(pid int) ([]string, error)) (read, unread []CommandLine) {
	ctx, cancel := context.WithTimeout(ctx, ProcLimit)
	defer cancel()
	type answer struct {
		CommandLine
		keep bool
		err  error
	}
	pids := Processes()
	todo, back := make(chan int, len(pids)), make(chan answer, len(pids)) // room for all, so that a late one can end
	for _, pid := range pids {
		todo <- pid
	}
	close(todo)
	for range min(readers, len(pids)) {
		go func() {
			for pid := range todo {
				a := answer{CommandLine: CommandLine{Pid: pid}, keep: wanted(pid)}
				if a.keep {
					a.Words, a.err = arguments(pid)
				}
				if back <- a; ctx.Err() != nil {
					return
				}
			}
		}()
	}
	known := map[int]bool{}
	for range pids {
		select {
		case a := <-back:
			known[a.Pid] = !a.keep || a.err == nil
			if a.keep && a.err == nil {
				read = append(read, a.CommandLine)
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	for _, pid := range pids {
		if st, err := ReadStat(pid); !known[pid] && err == nil && wanted(pid) {
			unread = append(unread, CommandLine{Pid: pid, Name: st.Name})
		}
	}
	return read, unread
}

// Processes lists the numbers of all processes.
func Processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Thread is one thread of a process.
type Thread struct {
	ID          int
	Name, State string        // such as "CPU 0/TCG", and "S" or "D"
	Where       string        // in the kernel it waits, from wchan
	CPU         time.Duration // used so far
}

// Threads lists those of a process as they are now.
func Threads(pid int) []Thread {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	var all []Thread
	for _, e := range entries {
		folder := fmt.Sprintf("/proc/%d/task/%s/", pid, e.Name())
		st, err := statFile(folder + "stat")
		id, noID := strconv.Atoi(e.Name())
		if err != nil || noID != nil {
			continue
		}
		where, _ := os.ReadFile(folder + "wchan")
		all = append(all, Thread{ID: id, Name: st.Name, State: st.State, Where: string(where), CPU: st.CPU})
	}
	return all
}

// Ended says that it runs no more.
func (t Thread) Ended() bool { return t.State == "Z" || t.State == "X" }

// Cgroup is where a process lives in the tree of control groups, such as /qemu.slice/102.scope; empty if nobody can say.
// It is known of a process that was killed, too, as long as threads of it are left. See cgroups(7), "/proc files".
func Cgroup(pid int) string {
	text, err := Within(ProcLimit, func() ([]byte, error) { return os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) })
	if err != nil {
		return ""
	}
	named := ""
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && path != "/" {
			return path
		}
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":name=systemd:"); ok {
			named = path // of a host that has both versions, or only the first
		}
	}
	return named
}

// Stuck says that nothing can end the thread: it waits in the kernel, mostly for a disk.
func (t Thread) Stuck() bool { return t.State == "D" }

func (t Thread) String() string { return fmt.Sprintf("%d %s %s %s", t.ID, t.State, t.Name, t.Where) }

// Stuck are those threads of a process that nothing can end.
func Stuck(pid int) []Thread {
	return slices.DeleteFunc(Threads(pid), func(t Thread) bool { return !t.Stuck() })
}

// Readable waits until the descriptor of a process says that all its threads have ended.
func Readable(pidfd int, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for {
		left := max(0, time.Until(deadline))
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}} //nolint:gosec // a descriptor fits
		n, err := unix.Poll(fds, int(left.Milliseconds()))
		if n > 0 {
			return true
		}
		if left == 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
			return false
		}
	}
}
