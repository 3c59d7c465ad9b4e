package agentrun

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Our own binary is started under these names to become something else: argv[0] is the first for the CLI, and a link with
// the second as its name for the shell of each command. The CLI wants to see "bash" in the path of its shell.
const (
	shimName  = "bgbot-becomes-claude"
	shellName = "bash"
)

// init is the only way to run code between fork and exec in Go: our binary locks itself into the cage, which an exec does
// not open, and becomes the other program: same pid, same descriptors, same environment.
func init() {
	switch {
	case len(os.Args) > 2 && os.Args[0] == shimName:
		becomeCLI(os.Args[1], os.Args[2:])
	case len(os.Args) > 0 && filepath.Base(os.Args[0]) == shellName:
		becomeShell(os.Args[0], os.Args[1:])
	}
}

// The CLI must be the subreaper of all that it starts: then `setsid`, `nohup`, a double fork and even `env -i` cannot
// leave its family tree, and "nothing is left" can be proven by walking that tree. The attribute survives execve but not
// fork (prctl(2), PR_SET_CHILD_SUBREAPER).
//
// Where memory runs out, it and its commands end before bgbot does. A kernel that has no such choice has its reasons.
func becomeCLI(rules string, args []string) {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	if err == nil {
		err = brand()
	}
	if err == nil {
		_, err = enter(rules, true)
	}
	if err == nil {
		err = syscall.Exec(args[0], args, syscall.Environ()) //nolint:gosec // the CLI, as configured
	}
	fail(args[0], err)
}

// becomeShell runs a command of the agent. It is no login shell, though the CLI asks for one: /etc/profile would take the
// ssh of the session off the PATH. SHELL is the real one, since a cage can be entered only 16 times.
func becomeShell(self string, args []string) {
	c, err := enter(filepath.Join(filepath.Dir(self), rulesName), false)
	if err == nil {
		err = letOthersBe()
	}
	if err == nil {
		env := slices.DeleteFunc(syscall.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "SHELL=") })
		err = syscall.Exec(c.Bash, append([]string{shellName}, noLogin(args)...), append(env, "SHELL="+c.Bash)) //nolint:gosec // the agent's command, which was allowed
	}
	fail(shellName, err)
}

// noLogin takes -l out of the options of a shell.
func noLogin(args []string) []string {
	for i, arg := range args {
		switch {
		case arg == "-l" || arg == "--login":
			return noLogin(slices.Concat(args[:i], args[i+1:]))
		case !strings.HasPrefix(arg, "-"):
			return args
		}
	}
	return args
}

func fail(what string, err error) {
	_, _ = os.Stderr.WriteString("cannot become " + what + ": " + err.Error() + "\n")
	syscall.Exit(126)
}
