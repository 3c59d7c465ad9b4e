package agentrun

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where seccomp(2) has what a filter looks at: struct seccomp_data, of which a little-endian machine has the low half of an
// argument first.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg0   = 16
	dataArg1   = 24
)

var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// filterable says whether letOthersBe can do so here.
func filterable(arch string) error {
	const effect = "the agent's commands can set limits and priorities of bgbot's processes, and end them with a limit. "
	if auditArch[arch] == 0 {
		return &Ended{Reason: "bgbot has no seccomp filter for " + arch + ": " + effect + "Run bgbot on amd64 or arm64."}
	}
	// A kernel with filters looks for one at address 0, and fails with EFAULT (seccomp(2)).
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0); errors.Is(err, unix.EINVAL) {
		return &Ended{Reason: "This kernel has no seccomp filters (CONFIG_SECCOMP_FILTER): " + effect + "Run bgbot on a kernel that has them."}
	}
	return nil
}

// letOthersBe takes from a command what Landlock has no right for: the limits, the scheduling and the priority of other
// processes of the same user. With a limit on its CPU time a command could have the kernel end bgbot. What it says of
// itself, by pid 0, it may. A program of another architecture, whose calls have other numbers, does not run.
func letOthersBe() error {
	arch, known := auditArch[runtime.GOARCH]
	if !known {
		return nil
	}
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	is := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	no, yes := answer(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)), answer(unix.SECCOMP_RET_ALLOW)

	const x32 = 0x40000000 // another numbering of the same architecture
	filter := []unix.SockFilter{
		load(dataArch), is(arch, 1, 0), no,
		load(dataNumber),
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jf: 1, K: x32},
		no,
	}
	for _, nr := range []uint32{
		unix.SYS_PRLIMIT64, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETATTR,
	} {
		filter = append(filter, is(nr, 0, 4), load(dataArg0), is(0, 0, 1), yes, no)
	}
	for nr, process := range map[uint32]uint32{unix.SYS_SETPRIORITY: 0, unix.SYS_IOPRIO_SET: 1} { // PRIO_PROCESS, IOPRIO_WHO_PROCESS
		filter = append(filter, is(nr, 0, 6), load(dataArg0), is(process, 0, 3), load(dataArg1), is(0, 0, 1), yes, no)
	}
	filter = append(filter, yes)
	err := install(filter)
	if errors.Is(err, unix.EINVAL) { // a kernel without filters
		return nil
	}
	return err
}

func install(filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]} //nolint:gosec // some forty
	// In one expression: the stack with program on it may move at each call of Go.
	_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0, 0)
	runtime.KeepAlive(filter)
	if errno != 0 {
		return fmt.Errorf("leave other processes alone: %w", errno)
	}
	return nil
}
