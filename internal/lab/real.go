package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bgbot/internal/lab/image"
	"bgbot/pve/qmp"
)

// FindGuest looks for what a real VM needs on this machine, and returns the folder with the guest's packages for
// [Options.Cache]. executable, which may be empty, tells where a build of the project lies. The error says what is missing
// and how to get it.
func FindGuest(executable string) (cache string, err error) {
	for _, program := range []string{"qemu-system-x86_64", "sshd", "mkfs.ext4"} {
		if findProgram(program) == "" {
			return "", &image.Missing{What: "this machine has no " + program}
		}
	}
	return image.Find(executable)
}

// findProgram looks beyond PATH, on which an ordinary user has no sbin.
func findProgram(name string) string {
	for _, dir := range append(filepath.SplitList(hostPath), "/usr/local/sbin", "/usr/local/bin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// prepareReal makes the guest, and sets its host up.
func (l *Lab) prepareReal(ctx context.Context) (err error) {
	cache, s := l.opts.Cache, l.state
	if cache == "" {
		executable, _ := os.Executable()
		if cache, err = FindGuest(executable); err != nil {
			return err
		}
	}
	guest, err := image.Build(ctx, cache)
	if err != nil {
		return err
	}
	hostKey, err := os.ReadFile(s.path("keys", "vm_host"))
	if err != nil {
		return err
	}
	own := image.Own{HostKey: hostKey, HostPub: authorized(l.keys.vmHost), Agent: []byte(s.VMClient), Watcher: []byte(s.Watcher)}
	if err := errors.Join(guest.Initrd(s.path("disk", "initrd"), own), image.Disk(ctx, s.path("disk", "disk.raw"))); err != nil {
		return err
	}
	s.QEMU, s.Kernel = findProgram("qemu-system-x86_64"), guest.Kernel
	return errors.Join(l.prepareHost(), s.write("agent: 1\nboot: order=scsi0\ncores: 1\ncpu: qemu64\nmemory: 192\nname: %s\nnet0: virtio=BC:24:11:2A:66:02,bridge=vmbr0\n"+
		"onboot: 1\nscsi0: local:%d/vm-%d-disk-0.raw,aio=threads,iothread=1,size=1G\nscsihw: virtio-scsi-single\nvga: std\n", vmName, vmid, vmid))
}

// prepareHost takes the port of the host's sshd and sets it up.
func (l *Lab) prepareHost() (err error) {
	port, err := reservePort()
	if err != nil {
		return err
	}
	l.onClose(port.release)
	l.state.HostPort, l.state.SSHD = port.number, findProgram("sshd")
	if l.host.user, err = hostUser(); err != nil {
		return err
	}
	l.host.address = fmt.Sprintf("127.0.0.1:%d", port.number)
	return l.writeSSHD()
}

// startMachine starts the host with the VM on it. It ends when the lab lets go of its lock, and is waited for.
func (l *Lab) startMachine(ctx context.Context) error {
	if err := l.hearCommands(); err != nil {
		return err
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = ready.Close() }()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), l.state.bin("lab-host"))
	var said bytes.Buffer
	cmd.Stderr, cmd.ExtraFiles, cmd.Env = &said, []*os.File{theirs}, hostEnv
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ^C at the terminal is for the drill, which then ends it
	if err := errors.Join(cmd.Start(), theirs.Close()); err != nil {
		return err
	}
	l.onClose(func() error {
		if err := errors.Join(l.letGo(), cmd.Wait()); err != nil {
			return fmt.Errorf("the lab's host: %w: %s", err, bytes.TrimSpace(said.Bytes()))
		}
		return nil
	})
	release := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer release()
	if n, _ := ready.Read(make([]byte, 2)); n == 0 {
		return errors.Join(errors.New("the host did not come up"), context.Cause(ctx)) // why is told when it is waited for
	}
	return nil
}

// waitGuest waits until the guest lets us in. Its agent is asked first: a connection to a port that QEMU forwards before
// the guest has a network is lost, and nobody says so.
func (l *Lab) waitGuest(ctx context.Context) error {
	agent := func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		a, err := qmp.DialAgent(ctx, l.state.runFile(vmid, "qga"))
		if err != nil {
			return err
		}
		return a.Close()
	}
	if err := l.until(ctx, agent); err != nil {
		return err
	}
	return l.until(ctx, func() error { return l.inGuest(ctx, "systemctl -q is-active t3-serve") })
}

// hearCommands notes what the guest tells of the agent's commands. It comes through a fifo that QEMU writes to, and that
// is open on both ends here, so that it outlives each QEMU.
func (l *Lab) hearCommands() error {
	path := l.state.path("log", "commands.fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return os.NewSyscallError("mkfifo", err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for in := bufio.NewReader(fifo); ; {
			line, err := in.ReadString(0)
			if err != nil {
				return // closed
			}
			if err := l.state.record(vmName, strings.TrimSuffix(line, "\x00")); err != nil {
				l.opts.Log.Warn("a command is not in the lab's log", "error", err)
			}
		}
	})
	l.onClose(func() error {
		err := fifo.Close()
		hearing.Wait()
		return err
	})
	return nil
}
