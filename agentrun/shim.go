package agentrun

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// shimName is argv[0] of our own binary when it is started to become the CLI.
const shimName = "bgbot-becomes-claude"

// init is the only way to run code between fork and exec in Go. The CLI must be the subreaper of all that it starts:
// then `setsid`, `nohup`, a double fork and even `env -i` cannot leave its family tree, and "nothing is left" can be
// proven by walking that tree. The attribute survives execve but not fork (prctl(2), PR_SET_CHILD_SUBREAPER), so our own
// binary sets it on itself and then becomes the CLI: same pid, same descriptors, same environment.
func init() {
	if len(os.Args) < 2 || os.Args[0] != shimName {
		return
	}
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	if err == nil {
		err = syscall.Exec(os.Args[1], os.Args[1:], syscall.Environ()) //nolint:gosec // the CLI, as configured
	}
	_, _ = os.Stderr.WriteString("cannot become " + os.Args[1] + ": " + err.Error() + "\n")
	syscall.Exit(126)
}
