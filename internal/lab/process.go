package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// vmProcess is the QEMU of one VM, bound to a pidfd: whoever gets its number later is never touched.
type vmProcess struct {
	pid int
	fd  int
}

// openVM finds the QEMU that the pid file names. It is nil if there is none, or if the pid belongs to something else.
// The identity is checked after the pidfd is open, so both are about the same process.
func openVM(s *state, vm int) *vmProcess {
	data, err := os.ReadFile(s.runFile(vm, "pid"))
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	p := &vmProcess{pid: pid, fd: fd}
	if p.dead(0) || !isVM(s, vm, pid) {
		p.close()
		return nil
	}
	return p
}

// isVM compares whole arguments, as PVE does: the program's name, and the value after -pidfile.
func isVM(s *state, vm, pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	var args []string
	for a := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte{0}), []byte{0}) {
		args = append(args, string(a))
	}
	i := slices.Index(args, "-pidfile")
	return strings.HasPrefix(filepath.Base(args[0]), "qemu-system-") && i >= 0 && i+1 < len(args) && args[i+1] == s.runFile(vm, "pid")
}

// dead waits up to limit for the whole process to be gone; a pidfd is readable exactly then, reaped or not.
func (p *vmProcess) dead(limit time.Duration) bool {
	end := time.Now().Add(limit)
	for {
		poll := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, int(max(0, time.Until(end)).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n > 0
	}
}

func (p *vmProcess) signal(sig unix.Signal) { _ = unix.PidfdSendSignal(p.fd, sig, nil, 0) }

func (p *vmProcess) close() { _ = unix.Close(p.fd) }
