package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bgbot/internal/sshagent"
	"bgbot/pve"

	"golang.org/x/crypto/ssh"
)

// tooLong is when a test that waits for an event gives up.
const tooLong = 20 * time.Second

// serve starts a relay that ends with the test; stop ends it before and waits for that.
func serve(t testing.TB) (s *Server, stop func()) {
	t.Helper()
	s, err := Listen(slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stop = func() {
		t.Helper()
		cancel(errors.New("the test is over"))
		if err := wait(t, done); err != nil {
			t.Error(err)
		}
		done <- nil // for the next caller
	}
	t.Cleanup(stop)
	return s, stop
}

// wait is the next value of c.
func wait[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(tooLong):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// shell gives the holder of key a shell in which `ssh pve VERB` works, as the agent has it.
func shell(t testing.TB, s *Server, key ssh.Signer) (run func(command string) (stdout, stderr string, exit int)) {
	t.Helper()
	needSSH(t)
	a, err := sshagent.Open(filepath.Join(t.TempDir(), "ssh"), []sshagent.Alias{
		{Name: "pve", Address: s.Address(), User: User, HostKey: s.HostKey(), Signer: key},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	a.Activate()
	return func(command string) (string, string, int) {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", command)
		for k, v := range a.Env(os.Getenv("PATH")) {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		return out.String(), errs.String(), cmd.ProcessState.ExitCode()
	}
}

// dial logs in as a raw client.
func dial(s *Server, key ssh.Signer) (*ssh.Client, error) {
	return ssh.Dial("tcp", s.Address(), &ssh.ClientConfig{
		User: User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(s.HostKey()), Timeout: tooLong,
	})
}

// guestOf admits a new key and logs in with it.
func guestOf(t *testing.T, s *Server, h Handler) *ssh.Client {
	t.Helper()
	key := newKey(t)
	s.Admit("thread-1", key.PublicKey(), h)
	client, err := dial(s, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newSession(t *testing.T, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exit is the exit status that a client was told; -1 is none.
func exit(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*ssh.ExitError](err); ok {
		return e.ExitStatus()
	}
	return -1
}

// never is a handler that must not run.
func never(t *testing.T) Handler {
	return func(_ context.Context, v pve.Verb, _ func(pve.Step)) (pve.Report, error) {
		t.Errorf("%s ran", v)
		return pve.Report{}, nil
	}
}

func rawDial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(tooLong))
	return c
}

// needSSH makes a missing ssh a failure where tests must be complete.
func needSSH(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("ssh is missing; install openssh-client")
		}
		t.Skip("NOT TESTED: ssh is missing")
	}
}
