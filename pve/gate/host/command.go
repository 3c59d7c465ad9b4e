package host

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
	"unicode/utf8"
)

const (
	maxSaid  = 256 << 10 // of one stream
	maxWords = 1000
)

// Said is what a command answered.
type Said struct {
	Out, ErrOut string
	Exit        int
	Hung        bool  // it did not end in time; it may still be there
	Err         error // it could not be run, or hung
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
	return cut(text, maxWords)
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
// that waits for a stuck disk cannot even be reaped, nobody waits for it longer than that.
func Command(ctx context.Context, limit time.Duration, name string, args ...string) Said {
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

	s := Said{Hung: true}
	select {
	case err := <-back:
		s.Hung = err != nil && ctx.Err() != nil
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			s.Exit = exit.ExitCode()
		} else if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			s.Err = err
		}
	case <-time.After(limit + time.Second):
	}
	s.Out, s.ErrOut = out.String(), errOut.String()
	if s.Hung {
		s.Err = fmt.Errorf("no answer within %s", limit)
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

// cut keeps the first n bytes at most, and whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
