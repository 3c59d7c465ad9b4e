package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// start makes a new QEMU process and waits until it has daemonised: its pid file and its monitor are there.
func (q *qm) start(ctx context.Context, c config) error {
	if q.fault("ha") {
		fmt.Printf("Requesting HA start for VM %d\n", q.vm)
		return nil
	}
	if err := q.free(c); err != nil {
		return err
	}
	if p := openVM(q.state, q.vm); p != nil {
		p.close()
		return fmt.Errorf("VM %d already running", q.vm)
	}
	if !ownerAlive(q.state) {
		return errors.New("start failed: the lab has ended")
	}
	ctx, cancel := context.WithTimeout(ctx, qmStartLimit)
	defer cancel()
	if q.QEMU != "" {
		return q.spawnReal(ctx, c)
	}
	return q.spawn(ctx, c)
}

func (q *qm) spawn(ctx context.Context, c config) error {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = ready.Close() }()
	logfile, err := os.OpenFile(q.path("log", "qemu.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return errors.Join(err, theirs.Close())
	}
	defer func() { _ = logfile.Close() }()
	before, err := logfile.Seek(0, 2)
	if err != nil {
		return errors.Join(err, theirs.Close())
	}
	args := []string{
		"-id", strconv.Itoa(q.vm), "-name", c["name"] + ",debug-threads=on", "-no-shutdown",
		"-chardev", "socket,id=qmp,path=" + q.runFile(q.vm, "qmp") + ",server=on,wait=off", "-mon", "chardev=qmp,mode=control",
		"-pidfile", q.runFile(q.vm, "pid"), "-daemonize", "-smp", c["cores"], "-m", c["memory"],
		"-drive", "file=" + q.path("disk", fmt.Sprintf("%d.json", q.vm)) + ",if=none,id=drive-scsi0", "-netdev", c["net0"],
	}
	if q.fault("start-fail") {
		args = append(args, "-nonsense")
	}
	// It must outlive qm, so no context may end it, and a session of its own keeps signals for qm away from it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), q.bin("qemu-system-x86_64"), args...)
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{theirs}, logfile, logfile
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TMPDIR=" + q.path("run")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(cmd.Start(), theirs.Close()); err != nil {
		return fmt.Errorf("start failed: %w", err)
	}
	_ = ready.SetReadDeadline(time.Now().Add(qmStartLimit))
	if n, _ := ready.Read(make([]byte, 2)); n > 0 {
		return cmd.Process.Release()
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	words, _ := os.ReadFile(logfile.Name())
	return fmt.Errorf("%s\nstart failed: QEMU exited with code 1", strings.TrimSpace(string(words[min(int(before), len(words)):])))
}

// stop is qm's ladder: QMP quit, SIGTERM, SIGKILL. Like the real one it cleans up and reports success after SIGKILL
// without a look at whether the process is gone (qemu-server, _do_vm_stop).
func (q *qm) stop(ctx context.Context, c config) error {
	if q.fault("ha") {
		fmt.Printf("Requesting HA stop for VM %d\n", q.vm)
		return nil
	}
	p := openVM(q.state, q.vm)
	if p == nil {
		return nil
	}
	defer p.close()
	if err := q.free(c); err != nil {
		return err
	}
	defer q.cleanup()
	if err := q.monitor(ctx, "quit", qmQuitLimit, nil); err == nil {
		if p.dead(q.timeout()) {
			return nil
		}
		fmt.Fprintln(os.Stderr, "VM still running - terminating now with SIGTERM")
	} else {
		fmt.Fprintln(os.Stderr, "VM quit/powerdown failed - terminating now with SIGTERM")
	}
	p.signal(unix.SIGTERM)
	if p.dead(qmTermLimit) {
		return nil
	}
	fmt.Fprintln(os.Stderr, "VM still running - terminating now with SIGKILL")
	p.signal(unix.SIGKILL)
	p.dead(time.Second)
	return nil
}

func (q *qm) timeout() time.Duration {
	if i := slices.Index(q.args, "--timeout"); i >= 0 && i+1 < len(q.args) {
		if n, err := strconv.Atoi(q.args[i+1]); err == nil && n >= 0 {
			return time.Duration(n) * time.Second
		}
	}
	return qmStopLimit
}

func (q *qm) cleanup() {
	for _, ext := range []string{"pid", "qmp", "qga"} {
		_ = os.Remove(q.runFile(q.vm, ext))
	}
}
