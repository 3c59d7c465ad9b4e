package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	gatehost "bgbot/pve/gate/host"
)

// kernelArgs make the guest boot in about half of the time, on a CPU that is emulated (measured, of 4.5 s): without ACPI
// 0.5 s, without self-tests and two needless steps of the kernel 0.4 s, quiet 0.1 s. The last console is the screen, so
// that a panic is on it, and it stays there.
const kernelArgs = "console=ttyS0 console=tty0 quiet panic=0 acpi=off no_timer_check tsc=reliable nokaslr mitigations=off " +
	"random.trust_cpu=on cryptomgr.notests initcall_blacklist=init_kprobe_trace,load_system_certificate_list,crypto_kdf108_init psi=1"

// realArgs are QEMU's arguments, in the order and with the names of Proxmox (QemuServer.pm, config_to_command). -id is
// not among them, since only Proxmox's own build knows it. There is no KVM: where there is a /dev/kvm, it may not work.
func (q *qm) realArgs(c config) []string {
	args := []string{
		"-name", c["name"] + ",debug-threads=on", "-no-shutdown",
		"-chardev", "socket,id=qmp,path=" + q.runFile(q.vm, "qmp") + ",server=on,wait=off", "-mon", "chardev=qmp,mode=control",
		"-pidfile", q.runFile(q.vm, "pid"), "-daemonize",
		"-accel", "tcg,tb-size=64", "-cpu", "qemu64,+rdrand", "-smp", c["cores"], "-m", c["memory"], "-nodefaults", "-display", "none", "-vga", "std",
		"-kernel", q.Kernel, "-initrd", q.path("disk", "initrd"), "-append", kernelArgs,
		"-serial", fmt.Sprintf("file:%s", q.path("log", fmt.Sprintf("%d.serial", q.vm))),
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=qga0,path=" + q.runFile(q.vm, "qga") + ",server=on,wait=off",
		"-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0",
		"-chardev", "file,id=commands,path=" + q.path("log", "commands.fifo"),
		"-device", "virtserialport,chardev=commands,name=org.bgbot.lab.commands",
		"-netdev", fmt.Sprintf("user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22", q.GuestPort),
		"-device", "virtio-net-pci,netdev=net0,id=net0,romfile=",
		"-object", "iothread,id=iothread-virtioscsi0",
		"-drive", "file=" + q.path("disk", "disk.raw") + ",if=none,id=drive-scsi0,format=raw,aio=threads,cache=" + q.cache() + ",file.locking=off",
		"-device", "virtio-scsi-pci,id=virtioscsi0,iothread=iothread-virtioscsi0", "-device", "scsi-hd,drive=drive-scsi0,id=scsi0",
	}
	if q.fault("start-fail") {
		args = append(args, "-nonsense")
	}
	return args
}

// cache is none, as on Proxmox, where the file system has direct I/O.
func (q *qm) cache() string {
	fd, err := unix.Open(q.path("disk", "disk.raw"), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return "writeback"
	}
	_ = unix.Close(fd)
	return "none"
}

// spawnReal starts QEMU and waits until it has made itself a daemon.
func (q *qm) spawnReal(ctx context.Context, c config) error {
	if q.scopeBusy() {
		return errors.New("timeout waiting on systemd")
	}
	cmd := exec.CommandContext(ctx, q.QEMU, q.realArgs(c)...)
	cmd.Env = hostEnv
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%s\nstart failed: QEMU exited with code %d", bytes.TrimSpace(out), exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("start failed: %w", err)
	}
	return q.rememberScope()
}

// The systemd scope 102.scope holds all threads of a QEMU, and Proxmox starts none while it is there. Here the process
// that was started last stands in for it, by number and start time.
func (q *qm) scopeFile() string { return q.path("run", fmt.Sprintf("%d.scope", q.vm)) }

func (q *qm) rememberScope() error {
	pid, err := os.ReadFile(q.runFile(q.vm, "pid"))
	if err != nil {
		return err
	}
	leader, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		return err
	}
	stat, err := gatehost.ReadStat(leader)
	if err != nil {
		return err
	}
	return os.WriteFile(q.scopeFile(), fmt.Appendf(nil, "%d %d", leader, stat.Start), 0o600)
}

// scopeBusy tells whether a thread of it is left, although the leader may be dead.
func (q *qm) scopeBusy() bool {
	scope, _ := os.ReadFile(q.scopeFile())
	var leader gatehost.Process
	if _, err := fmt.Sscan(string(scope), &leader.Pid, &leader.Start); err != nil {
		return false
	}
	if stat, err := gatehost.ReadStat(leader.Pid); err != nil || stat.Start != leader.Start {
		return false
	}
	return slices.ContainsFunc(gatehost.Threads(leader.Pid), func(t gatehost.Thread) bool { return t.State != "Z" && t.State != "X" })
}
