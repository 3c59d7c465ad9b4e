// Command pve-gate is the forced command on the Proxmox host; see package gate.
package main

import (
	"os"
	"os/signal"

	"bgbot/pve/gate"

	"golang.org/x/sys/unix"
)

func main() {
	// A started change outlives the connection: a write to a closed pipe must be an error, not the end. Caught and not
	// ignored, because ignored signals would be handed down to qm and to the QEMU that it starts.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE, unix.SIGHUP)
	_, _ = unix.Setsid() // fails where sshd has done so already
	unix.Umask(0o077)
	os.Exit(gate.Main(os.Args, os.Environ(), os.Stdout, os.Stderr))
}
