package gate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// procLimit bounds a look into /proc: the command line of a process can hang on its memory lock.
const procLimit = 2 * time.Second

// process is a process by what never repeats on one boot: its number and its start time in clock ticks.
type process struct {
	Pid   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"`
}

func self() process {
	p := process{Pid: os.Getpid()}
	if st, err := readStat(p.Pid); err == nil {
		p.Start = st.start
	}
	return p
}

// lives says that the process, and not another with its number, still runs.
func (p process) lives() bool {
	st, err := readStat(p.Pid)
	return p.Pid > 0 && err == nil && st.start == p.Start && st.state != "Z" && st.state != "X"
}

// age is how long ago the process was started.
func (p process) age() time.Duration {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	up, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	const ticks = 100 // USER_HZ, the same on every Linux
	return max(0, time.Duration((up-float64(p.Start)/ticks)*float64(time.Second)))
}

// stat is a line of /proc/PID/stat, as far as needed; see proc_pid_stat(5).
type stat struct {
	name, state string
	start       uint64
}

func readStat(pid int) (stat, error) { return statFile(fmt.Sprintf("/proc/%d/stat", pid)) }

func statFile(path string) (stat, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	// The name stands in brackets and may hold any byte, so the fields are counted from the last bracket.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return stat{}, errors.New("an odd stat line")
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return stat{}, errors.New("an odd stat line")
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return stat{name: string(text[open+1 : end]), state: fields[0], start: start}, err
}

// stranger says whose a process is that Proxmox, which runs as the user of the gate, did not start; it is empty for one
// of its own. Both user ids count, as a setuid program has root's in effect while its command line is its caller's; and
// so does the PID namespace, as root of a privileged container has our number. It is asked before the command line,
// since the owner of a process can make a reading of that hang.
func stranger(pid int) string {
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

// arguments are the words of a process's command line; none when it has no memory any more.
func arguments(pid int) []string {
	text, err := within(procLimit, func() ([]byte, error) { return os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) })
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// processes lists the numbers of all processes.
func processes() []int {
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

// threads tells the state of each thread: its number, name, state and where in the kernel it waits.
func threads(pid int) []string {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	var lines []string
	for _, e := range entries {
		folder := fmt.Sprintf("/proc/%d/task/%s/", pid, e.Name())
		st, err := statFile(folder + "stat")
		if err != nil {
			continue
		}
		where, _ := os.ReadFile(folder + "wchan")
		lines = append(lines, fmt.Sprintf("%s %s %s %s", e.Name(), st.state, st.name, where))
	}
	return lines
}

// stuckThreads are those threads that nothing can end: state D.
func stuckThreads(pid int) []string {
	return slices.DeleteFunc(threads(pid), func(line string) bool { return strings.Fields(line)[1] != "D" })
}

// readable waits until the descriptor of a process says that all its threads have ended.
func readable(pidfd int, limit time.Duration) bool {
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
