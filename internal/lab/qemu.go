package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/internal/lab/guest"
)

// Why the simulated QEMU's guest stopped running. They are causes of a context.
var (
	errQuit   = errors.New("quit")
	errReset  = errors.New("reset")
	errOrphan = errors.New("the lab has ended")
)

// qemu is the simulated QEMU process: one VM, its drive, its monitor, and the guest that boots in it.
type qemu struct {
	state *state
	vm    int
	drive *guest.Drive // as long as the process lives: that is why a reset does not mend a stall

	mu     sync.Mutex
	reset  context.CancelCauseFunc // ends the guest that runs now
	end    context.CancelCauseFunc // ends the process
	agent  bool                    // the guest agent answers: the guest is up
	broken error                   // why the guest cannot boot at all
}

// qemuMain is the process behind bin/qemu-system-x86_64. It takes of its arguments what the simulation needs. It writes
// its pid file and listens on its monitor before it closes file descriptor 3, for which qm waits, as for -daemonize.
func qemuMain(args []string) int {
	s, err := home(args)
	if err != nil {
		return complain(1, err)
	}
	pidfile := value(args, "-pidfile")
	vm, err := strconv.Atoi(value(args, "-id"))
	if err != nil || pidfile != s.runFile(vm, "pid") || slices.Contains(args, "-nonsense") {
		return complain(1, errors.New("qemu-system-x86_64: -nonsense: invalid option"))
	}
	ctx, end := context.WithCancelCause(context.Background())
	defer end(nil)
	q := &qemu{state: s, vm: vm, drive: guest.NewDrive(), end: end}
	if err := q.daemon(ctx, pidfile); err != nil {
		return complain(1, err)
	}
	return 0
}

func value(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

func (q *qemu) daemon(ctx context.Context, pidfile string) error {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	monitor, err := q.listen(ctx, "qmp")
	if err != nil {
		return err
	}
	port, err := q.listen(ctx, "qga")
	if err != nil {
		return err
	}
	hostKey, err := q.state.vmHostKey()
	if err != nil {
		return err
	}
	agent := &agentServer{runs: q.agentRuns, drive: q.drive, hostKey: authorized(hostKey)}
	if err := os.WriteFile(pidfile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return err
	}
	ready := os.NewFile(3, "ready")
	_, _ = ready.WriteString("ok")
	_ = ready.Close()

	// Not waited for: it ends with the process, and only so.
	go func() {
		if ownerGone(q.state) == nil && q.state.Temporary {
			_ = os.RemoveAll(q.state.dir) // nobody else will
		}
		q.end(errOrphan)
	}()
	var parts sync.WaitGroup
	parts.Go(func() { oneByOne(ctx, monitor, (&qmpServer{handle: q.handle}).client) })
	parts.Go(func() { oneByOne(ctx, port, agent.client) })
	parts.Go(func() { q.drive.Beat(ctx, 200*time.Millisecond) })
	parts.Go(func() { q.power(ctx) })
	select {
	case <-terminated:
		q.end(errQuit)
	case <-ctx.Done():
	}
	parts.Wait()
	return nil
}

// listen makes one of the process's sockets anew.
func (q *qemu) listen(ctx context.Context, ext string) (net.Listener, error) {
	socket := q.state.runFile(q.vm, ext)
	_ = os.Remove(socket)
	return (&net.ListenConfig{}).Listen(ctx, "unix", socket)
}

func (q *qemu) agentRuns() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.agent
}

// power runs the guest, again after each reset, until the process ends.
func (q *qemu) power(ctx context.Context) {
	for ctx.Err() == nil {
		boot, reset := context.WithCancelCause(ctx)
		q.mu.Lock()
		q.reset, q.agent, q.broken = reset, false, nil
		q.mu.Unlock()
		if err := q.guest(boot); err != nil && boot.Err() == nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			q.mu.Lock()
			q.broken = err
			q.mu.Unlock()
			<-boot.Done()
		}
		reset(nil)
	}
}

// guest boots and serves SSH until ctx is done. A boot from a stalled drive does not get anywhere.
func (q *qemu) guest(ctx context.Context) error {
	m, err := guest.New(guest.Config{
		Name: vmName, Image: q.state.path("disk", fmt.Sprintf("%d.json", q.vm)), Template: q.state.Template,
		Drive: q.drive, Reboot: func() { q.restart(errReset) },
	})
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(q.state.Boot):
	}
	if err := m.Boot(ctx); err != nil {
		return err
	}
	server, err := q.guestSSHD(m)
	if err != nil {
		return err
	}
	listener, err := listenShared(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(q.state.GuestPort)))
	if err != nil {
		return err
	}
	q.mu.Lock()
	q.agent = true
	q.mu.Unlock()
	server.serve(ctx, listener)
	return nil
}

func (q *qemu) guestSSHD(m *guest.Machine) (*sshd, error) {
	hostKey, err := q.state.vmHostKey()
	if err != nil {
		return nil, err
	}
	keys := map[string]string{}
	for name, line := range map[string]string{"agent": q.state.VMClient, "watcher": q.state.Watcher} {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, err
		}
		keys[string(key.Marshal())] = name
	}
	return newSSHD(hostKey, vmUser, keys, func(ctx context.Context, l *login) ending {
		line := l.command
		switch l.kind {
		case "subsystem":
			return ending{code: 127}
		case "shell":
			line, l.in = script(l.in), strings.NewReader("")
		}
		if l.who == "agent" {
			if err := q.state.record(vmName, line); err != nil {
				fmt.Fprintln(os.Stderr, "command log:", err)
			}
		}
		return ending{code: m.Run(ctx, line, l.in, l.out, l.errout)}
	}), nil
}

func (q *qemu) restart(cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.agent = false
	if q.reset != nil {
		q.reset(cause)
	}
}
