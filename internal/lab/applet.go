package lab

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bgbot/pve/gate"
)

// applets are the names under which our binary is another program.
var applets = map[string]func(args []string) int{
	"qm":                 qmMain,
	"ha-manager":         haMain,
	"pve-gate":           gateMain,
	"qemu-system-x86_64": qemuMain,
	"lab-host":           hostMain,
}

// Applet runs the program that args[0] names, if it is one of the lab's, and returns its exit code. main and TestMain
// call it first, with os.Args. A TestMain ends with syscall.Exit, not os.Exit: under the race detector os.Exit sleeps a
// second, and the gate clears the GORACE variable that would say otherwise.
func Applet(args []string) (code int, is bool) {
	if len(args) == 0 {
		return 0, false
	}
	run := applets[filepath.Base(args[0])]
	if run == nil || !filepath.IsAbs(args[0]) {
		return 0, false
	}
	return run(args), true
}

// home is the lab that a program belongs to: it lies in its bin folder. The environment tells nothing, since the gate
// clears it.
func home(args []string) (*state, error) {
	return loadState(filepath.Dir(filepath.Dir(args[0])))
}

// gateMain is what cmd/pve-gate does: a lost client must not end a change, so writing to it may fail but not kill.
func gateMain(args []string) int {
	s, err := home(args)
	if err == nil {
		err = s.record("pve", os.Getenv("SSH_ORIGINAL_COMMAND")) //nolint:forbidigo // this is the gate's main
	}
	if err != nil {
		return complain(7, err)
	}
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE, unix.SIGHUP)
	return gate.Main(args, os.Environ(), os.Stdout, os.Stderr) //nolint:forbidigo // this is the gate's main
}

func complain(code int, err error) int {
	fmt.Fprintln(os.Stderr, err)
	return code
}
