package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bgbot/pve"
	"bgbot/pve/qmp"
)

// checkLimit is how long the lab's own check in the guest may take. A healthy simulated guest needs some milliseconds, a
// real one a second and on a busy machine several.
func (l *Lab) checkLimit() time.Duration {
	if l.real() {
		return 10 * time.Second
	}
	return 3 * time.Second
}

// startVM starts the simulated VM as an administrator would, with qm, and waits until the guest lets us in.
func (l *Lab) startVM(ctx context.Context) error {
	l.onClose(l.endVM)
	cmd := exec.CommandContext(ctx, l.state.bin("qm"), "start", strconv.Itoa(vmid)) //nolint:gosec // our own binary
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("qm start: %w: %s", err, bytes.TrimSpace(out))
	}
	return l.until(ctx, func() error { return l.inGuest(ctx, "true") })
}

// until repeats try until it succeeds; its error tells why it did not when ctx ended.
func (l *Lab) until(ctx context.Context, try func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// inGuest runs a command on a fresh login that is not counted among [Lab.Commands].
func (l *Lab) inGuest(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.checkLimit(), fmt.Errorf("no answer within %s", l.checkLimit()))
	defer cancel()
	client, err := l.watcher().Dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	release := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer release()
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	out, err := session.CombinedOutput(command)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: `%s`: %w", vmName, command, context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("%s: `%s`: %w: %s", vmName, command, err, bytes.TrimSpace(out))
	}
	return nil
}

// Recovered is nil only if the VM is really back: a fresh login succeeds, a write to its disk returns, and the service
// that the story is about runs. It takes at most about 8 s.
func (l *Lab) Recovered(ctx context.Context) error { return l.inGuest(ctx, l.scenario.check) }

// inject makes the fault that does not come from the guest's own disk: the same QMP command that stalls a real QEMU.
func (l *Lab) inject(ctx context.Context) error {
	if !l.scenario.stall {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	m, err := qmp.Dial(ctx, l.state.runFile(vmid, "qmp"))
	if err != nil {
		return err
	}
	throttle := object{"id": "scsi0", "bps": 1, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}
	return errors.Join(m.Do(ctx, "block_set_io_throttle", throttle, nil), m.Close())
}

// proveBroken refuses to start a drill without an incident.
func (l *Lab) proveBroken(ctx context.Context) error {
	limit := time.Second // what hangs, hangs for ever
	if l.real() {
		limit = 4 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := pve.Reach(ctx, l.watcher()); err != nil {
		return fmt.Errorf("the VM cannot be reached: %w", err)
	}
	if l.Recovered(ctx) == nil {
		return errors.New("the fault has no effect: the VM is healthy")
	}
	return nil
}

func (l *Lab) watcher() pve.Host {
	h := l.VM()
	h.Signer = l.keys.watcher
	return h
}

// endVM ends the VM's process, once no qm is at work on it, and proves that it is gone.
func (l *Lab) endVM() error {
	lock, err := os.OpenFile(l.state.path("lock", fmt.Sprintf("lock-%d.conf", vmid)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), gateGrace)
	defer cancel()
	// Without the lock too: a qm that starts a VM later finds that the lab has ended.
	_ = l.until(ctx, func() error { return unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	p := openVM(l.state, vmid)
	if p == nil {
		return nil
	}
	defer p.close()
	p.signal(unix.SIGKILL)
	if !p.dead(5 * time.Second) {
		return fmt.Errorf("the lab's VM process %d does not end", p.pid)
	}
	return nil
}

// trouble is what the VM's process complained about, for tests and logs.
func (l *Lab) trouble() string {
	data, err := os.ReadFile(l.state.path("log", "qemu.log"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}
