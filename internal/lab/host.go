package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// host is the Proxmox host's sshd with a forced command: whatever a session asks for, the gate runs. It lives in this
// process; each gate is a process of its own that, as under the real sshd, outlives its client.
type host struct {
	state    *state
	listener net.Listener
	kill     context.Context // ends gates that do not end by themselves when the lab closes
}

// The keys that the host knows, by the names that the gate's journal has for them.
const (
	botKey      = "bgbot"
	readOnlyKey = "bgbot-ro"
)

// gateGrace is how long Close waits for a gate that is in the middle of a change.
const gateGrace = 5 * time.Second

func (l *Lab) startHost(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	kill, killNow := context.WithCancel(context.Background())
	serving, stop := context.WithCancel(context.Background())
	h := &host{state: l.state, listener: listener, kill: kill}
	keys := map[string]string{
		string(l.keys.gateClient.PublicKey().Marshal()): botKey, string(l.keys.gateReadOnly.PublicKey().Marshal()): readOnlyKey,
	}
	server := newSSHD(l.keys.gateHost, "root", keys, h.forced)
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.serve(serving, listener) // returns after the last gate
	}()
	l.host.address, l.host.user = listener.Addr().String(), "root"
	l.onClose(func() error {
		stop()
		late := time.AfterFunc(gateGrace, killNow)
		<-done
		late.Stop()
		killNow()
		return nil
	})
	return nil
}

// gateCommand is the gate as it stands in authorized_keys for a key.
func (s *state) gateCommand(key string) []string {
	argv := []string{
		s.bin("pve-gate"), "--vmid", strconv.Itoa(vmid), "--key", key, "--format", "jsonl", "--qm", s.bin("qm"),
		"--run-dir", s.path("run"), "--state-dir", s.path("gate"), "--ssh", fmt.Sprintf("127.0.0.1:%d", s.GuestPort),
	}
	if s.QEMU == "" { // what does not come up in that time, does not
		argv = append(argv, "--wait", (5*time.Second + s.Boot).String())
	}
	if key == readOnlyKey {
		argv = append(argv, "--allow", "status,forensics")
	}
	return argv
}

// forced is the line of authorized_keys: command="pve-gate --vmid 102 …",restrict. A shell or a subsystem runs it too,
// without SSH_ORIGINAL_COMMAND, and the gate rejects that.
func (h *host) forced(_ context.Context, l *login) ending {
	argv := h.state.gateCommand(l.who)
	cmd := exec.CommandContext(h.kill, argv[0], argv[1:]...)
	remote, local := hostPort(l.conn.RemoteAddr()), hostPort(l.conn.LocalAddr())
	cmd.Env = []string{"USER=root", "HOME=/root", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "SSH_CONNECTION=" + remote + " " + local}
	if l.kind == "exec" {
		cmd.Env = append(cmd.Env, "SSH_ORIGINAL_COMMAND="+l.command)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	outputs, err := pipeTo(cmd, l)
	if err != nil {
		return failed(l, err)
	}
	if err := outputs.start(cmd); err != nil {
		return failed(l, err)
	}
	err = cmd.Wait()
	outputs.wait()
	return endingOf(err)
}

func failed(l *login, err error) ending {
	fmt.Fprintln(l.errout, "lab host:", err)
	return ending{code: 7}
}

func endingOf(err error) ending {
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return ending{}
	case !ok:
		return ending{code: 7}
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		name := unix.SignalName(status.Signal())
		return ending{signal: ssh.Signal(name[len("SIG"):])}
	}
	return ending{code: exit.ExitCode()}
}

func hostPort(a net.Addr) string {
	h, p, _ := net.SplitHostPort(a.String())
	return h + " " + p
}

// pipes carry a gate's output to its client. When the client is gone they are closed, and the gate's next write fails
// with EPIPE, as under sshd; its process goes on.
type pipes struct {
	theirs []*os.File
	copies []func()
	wg     sync.WaitGroup
}

func pipeTo(cmd *exec.Cmd, l *login) (*pipes, error) {
	p := &pipes{}
	for _, to := range []struct {
		file *io.Writer
		w    io.Writer
	}{{&cmd.Stdout, l.out}, {&cmd.Stderr, l.errout}} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		*to.file = w
		p.theirs = append(p.theirs, w)
		p.copies = append(p.copies, func() {
			_, _ = io.Copy(to.w, r)
			_ = r.Close()
		})
	}
	return p, nil
}

func (p *pipes) start(cmd *exec.Cmd) error {
	err := cmd.Start()
	for _, w := range p.theirs {
		_ = w.Close()
	}
	for _, c := range p.copies {
		p.wg.Go(c)
	}
	return err
}

func (p *pipes) wait() { p.wg.Wait() }
