package sshdtest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// process is a line of /proc/PID/stat, as far as needed.
type process struct {
	pid, parent int
	name, state string
}

func stat(pid int) (process, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	// The name stands in brackets and may hold any byte, so the fields are counted from the last bracket.
	open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[end+1:]))
	if open < 0 || len(fields) < 2 {
		return process{}, false
	}
	parent, _ := strconv.Atoi(fields[1])
	return process{pid: pid, parent: parent, name: string(text[open+1 : end]), state: fields[0]}, true
}

func alive(pid int) bool {
	p, ok := stat(pid)
	return ok && p.state != "Z" && p.state != "X"
}

// children lists the processes below pid.
func children(pid int) []process {
	entries, _ := os.ReadDir("/proc")
	var all []process
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := stat(n); ok {
				all = append(all, p)
			}
		}
	}
	var found []process
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

// endSSHD ends those of the processes that are sshd's own: the connections, not what runs behind them.
func endSSHD(list []process) {
	for _, p := range list {
		if now, ok := stat(p.pid); ok && now.name == p.name && strings.HasPrefix(p.name, "sshd") {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}
