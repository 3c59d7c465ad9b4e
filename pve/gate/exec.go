package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const maxSaid = 256 << 10

// said is what a command of the host answered.
type said struct {
	out, errOut string
	exit        int
	hung        bool  // it did not end in time; it may still be there
	err         error // it could not be run, or hung
}

func (s said) ok() bool { return s.err == nil && s.exit == 0 }

// words are what a person wants to read of a failure.
func (s said) words() string {
	text := strings.TrimSpace(s.errOut)
	if text == "" {
		text = strings.TrimSpace(s.out)
	}
	if s.err != nil {
		text = strings.TrimSpace(s.err.Error() + "\n" + text)
	}
	if text == "" {
		text = fmt.Sprintf("exit %d without a word", s.exit)
	}
	return cut(text, 1000)
}

// all is everything that was printed.
func (s said) all() string { return s.out + s.errOut }

func (g *gate) qm(ctx context.Context, limit time.Duration, verb string, args ...string) said {
	return command(ctx, limit, g.qmPath, append([]string{verb, fmt.Sprint(g.vmid)}, args...)...)
}

// command runs a command of the host in a session of its own, with pipes of its own and an environment from nothing, so
// that neither the client nor sshd can reach it. It is killed, with its group, when it overruns; and because a process
// that waits for a stuck disk cannot even be reaped, nobody waits for it longer than that.
func command(ctx context.Context, limit time.Duration, name string, args ...string) said {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out, errOut limited
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 500 * time.Millisecond // for a grandchild that holds the pipes
	back := make(chan error, 1)
	go func() { back <- cmd.Run() }()

	s := said{hung: true}
	select {
	case err := <-back:
		s.hung = err != nil && ctx.Err() != nil
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			s.exit = exit.ExitCode()
		} else if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			s.err = err
		}
	case <-time.After(limit + time.Second):
	}
	s.out, s.errOut = out.String(), errOut.String()
	if s.hung {
		s.err = fmt.Errorf("no answer within %s", limit)
	}
	return s
}

// limited keeps the first part of what a command prints. It may be read while a command that was left behind still
// writes.
type limited struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept.Write(p[:min(len(p), maxSaid-l.kept.Len())])
	return len(p), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.String()
}
