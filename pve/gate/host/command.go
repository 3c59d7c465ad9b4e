package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	maxSaid  = 256 << 10 // of one stream
	maxWords = 1000
)

// Said is what a command answered.
type Said struct {
	Out, ErrOut string
	Exit        int
	Hung        bool  // it was started and did not end within its own limit; it may still be there
	CalledOff   bool  // the caller's time was over before its own limit, so nothing is known of it
	Err         error // it could not be run, hung or was called off
}

// OK says that it ran to its end and found nothing wrong.
func (s Said) OK() bool { return s.Err == nil && s.Exit == 0 }

// Words are what a person wants to read of a failure.
func (s Said) Words() string {
	text := strings.TrimSpace(s.ErrOut)
	if text == "" {
		text = strings.TrimSpace(s.Out)
	}
	if s.Err != nil {
		text = strings.TrimSpace(s.Err.Error() + "\n" + text)
	}
	if text == "" {
		text = fmt.Sprintf("exit %d without a word", s.Exit)
	}
	return Cut(text, maxWords)
}

// Failure is why there is no good answer; nil if there is one.
func (s Said) Failure() error {
	if s.OK() {
		return nil
	}
	return errors.New(s.Words())
}

// All is everything that was printed.
func (s Said) All() string { return s.Out + s.ErrOut }

// Command runs a program of the host, for limit at most, in a session of its own, with pipes of its own and an environment from nothing, so
// that neither the client nor sshd can reach it. It is killed, with its group, when it overruns; and because a process
// that waits for a stuck disk cannot even be reaped, nobody waits for it longer than that and a second.
func Command(ctx context.Context, limit time.Duration, name string, args ...string) Said {
	return run(ctx, limit, nil, name, args)
}

// Once is Command for a look at the host that may be repeated for as long as the host is wedged: while one that was left
// behind with this mark, a file of its own, still hangs, no second is started beside it. The mark is locked, and the
// program inherits the lock.
func Once(ctx context.Context, limit time.Duration, mark, name string, args ...string) Said {
	f, err := os.OpenFile(mark, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return Said{Err: err}
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return Said{Err: errors.New("not asked: an earlier one still hangs")}
	}
	return run(ctx, limit, f, name, args)
}

func run(ctx context.Context, limit time.Duration, mark *os.File, name string, args []string) Said {
	if ctx.Err() != nil {
		return Said{CalledOff: true, Err: errors.New("no time is left to ask")}
	}
	own, cancel := context.WithTimeoutCause(ctx, limit, errOverran)
	defer cancel()
	var out, errOut limited
	cmd := exec.CommandContext(own, name, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if mark != nil {
		cmd.ExtraFiles = []*os.File{mark}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 500 * time.Millisecond // for a grandchild that holds the pipes
	began := time.Now()
	back := make(chan error, 1)
	go func() { back <- cmd.Run() }()
	var s Said
	select {
	case err := <-back:
		s.take(own, err)
	case <-own.Done():
		select {
		case err := <-back:
			s.take(own, err)
		case <-time.After(time.Second): // it cannot be reaped
			s.take(own, context.Cause(own))
		}
	}
	s.Out, s.ErrOut = out.String(), errOut.String()
	if s.Hung || s.CalledOff {
		s.Err = fmt.Errorf("no answer within %.0f s", max(1, time.Since(began).Seconds()))
	}
	return s
}

var errOverran = errors.New("it overran its limit")

// take notes how the program ended.
func (s *Said) take(own context.Context, err error) {
	s.Hung = err != nil && errors.Is(context.Cause(own), errOverran)
	s.CalledOff = err != nil && own.Err() != nil && !s.Hung
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		s.Exit = exit.ExitCode()
	} else if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		s.Err = err
	}
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

// Cut keeps the first n bytes at most, and whole characters.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
