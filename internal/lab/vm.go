package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bgbot/pve"
)

// checkLimit is how long the lab's own check in the guest may take. A healthy simulated guest needs some milliseconds, a
// real one a second and on a busy machine very many: it has to share its one emulated CPU.
func (l *Lab) checkLimit() time.Duration {
	if l.real() {
		return 40 * time.Second
	}
	return 3 * time.Second
}

// startVM starts the simulated VM as an administrator would, with qm, and waits until the guest lets us in.
func (l *Lab) startVM(ctx context.Context) error {
	l.onClose(l.endVM)
	cmd := exec.CommandContext(ctx, l.state.bin("qm"), "start", strconv.Itoa(vmid))
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
	client, err := l.login(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", vmName, errors.Join(context.Cause(ctx), err))
	}
	defer func() { _ = client.Close() }()
	release := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer release()
	session, err := pve.OpenSession(client)
	if err != nil {
		return err
	}
	out, err := session.CombinedOutput(command)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", vmName, context.Cause(ctx))
	case err != nil && len(bytes.TrimSpace(out)) > 0:
		return fmt.Errorf("%s: %s", vmName, bytes.TrimSpace(out))
	case err != nil:
		return fmt.Errorf("%s: `%s`: %w", vmName, command, err)
	}
	return nil
}

// login is a fresh one with the lab's own key. It has all the time of ctx: what a handshake may take is 5 s elsewhere,
// which the guest of a busy machine never makes, and each try leaves it less for the next.
func (l *Lab) login(ctx context.Context) (*ssh.Client, error) {
	h := l.watcher()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.Address)
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer release()
	c, channels, requests, err := ssh.NewClientConn(conn, h.Address, &ssh.ClientConfig{
		User: h.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(h.Signer)}, HostKeyCallback: ssh.FixedHostKey(h.HostKey),
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return ssh.NewClient(c, channels, requests), nil
}

// untilInGuest is inGuest on a machine that may be too busy for the first login. The command must bear to be run twice.
func (l *Lab) untilInGuest(ctx context.Context, command string) error {
	return l.until(ctx, func() error { return l.inGuest(ctx, command) })
}

// What a well VM can do. In a real one a check that hangs on the disk cannot be ended, so it must stay the only one.
const (
	simulatedCheck = "touch /var/tmp/.lab-check && sync && rm /var/tmp/.lab-check && systemctl is-active t3-serve"
	realCheck      = "exec 9>/run/lab-check; flock -n 9 || { echo an earlier write to the disk still hangs; exit 1; }; " +
		"touch /var/tmp/.lab-check && sync && rm /var/tmp/.lab-check || { echo the disk takes no write; exit 1; }; " +
		"systemctl -q is-active t3-serve || { echo t3-serve is not active; exit 1; }; " +
		"wget -q -O /dev/null http://127.0.0.1:3000/health || { echo t3-serve does not answer; exit 1; }"
)

// Recovered is nil only if the VM is really back: a fresh login succeeds, a write to its disk returns, and the service
// that the story is about runs. It takes at most about 8 s, of a real VM 40 s.
func (l *Lab) Recovered(ctx context.Context) error {
	if l.real() {
		return l.inGuest(ctx, realCheck)
	}
	return l.inGuest(ctx, simulatedCheck)
}

func (l *Lab) inject(ctx context.Context) error { return l.scenario.fault(ctx, l) }

// proveBroken refuses to start a drill without an incident. A real fault has proven itself, and may leave no way in.
func (l *Lab) proveBroken(ctx context.Context) error {
	if l.real() {
		return nil
	}
	login, loggedIn := context.WithTimeout(ctx, 15*time.Second) // some milliseconds, on a machine that is not busy
	defer loggedIn()
	if err := pve.Reach(login, l.watcher()); err != nil {
		return fmt.Errorf("the VM cannot be reached: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // what hangs, hangs for ever
	defer cancel()
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
