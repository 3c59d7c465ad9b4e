package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bgbot/pve"

	"golang.org/x/crypto/ssh"
)

func TestOnlyAVerbGetsThrough(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	key := newKey(t)
	s.Admit("thread-1", key.PublicKey(), never(t))
	run := shell(t, s, key)
	const use = " is not a verb; use one of: status forensics start reset stop cycle\n"
	for command, want := range map[string]string{
		"ssh pve 'cycle;id'":          `"cycle;id"` + use,
		"ssh pve status x":            `"status x"` + use,
		"ssh pve 'status '":           `"status "` + use,
		"ssh pve STATUS":              `"STATUS"` + use,
		"ssh pve 'status\nid'":        `"status\nid"` + use,
		"ssh pve 'statuѕ'":            `"statuѕ"` + use, // a Cyrillic letter
		"ssh pve":                     `""` + use,
		"echo id | ssh pve":           `""` + use,
		"ssh pve $(yes | head -9000)": `"` + strings.TrimRight(strings.Repeat("y ", 20), "") + `…"` + use,
	} {
		out, errs, exit := run(command)
		if out != "" || errs != want || exit != int(pve.Rejected) {
			t.Errorf("%.40s\n got exit %d, %q, %q\nwant exit 2, %q", command, exit, out, errs, want)
		}
	}
}

func TestOnlyAnAdmittedKeyGetsIn(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	key := newKey(t)
	revoke := s.Admit("thread-1", key.PublicKey(), never(t))
	refused := func(what, user string, auth ...ssh.AuthMethod) {
		t.Helper()
		c, err := ssh.Dial("tcp", s.Address(), &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(s.HostKey())})
		if err == nil {
			_ = c.Close()
			t.Errorf("%s got in", what)
		}
	}
	refused("no key", User)
	refused("a password", User, ssh.Password(""))
	refused("an unknown key", User, ssh.PublicKeys(newKey(t)))
	refused("root", "root", ssh.PublicKeys(key))
	refused("a key whose half is missing", User, ssh.PublicKeys(liar{newKey(t), key.PublicKey()}))
	revoke()
	refused("a revoked key", User, ssh.PublicKeys(key))
	revoke() // twice is once
}

// liar claims a key that it does not hold.
type liar struct {
	ssh.Signer
	claims ssh.PublicKey
}

func (l liar) PublicKey() ssh.PublicKey { return l.claims }

func TestOneSessionCannotUseAnothersHandler(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	theirs := newKey(t)
	ran := make(chan string, 1)
	handler := func(name string) Handler {
		return func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error) {
			ran <- name
			return pve.Report{}, nil
		}
	}
	s.Admit("mine", mine.PublicKey(), handler("mine"))
	s.Admit("theirs", theirs.PublicKey(), handler("theirs"))
	// The client first asks about a key that it does not hold, then proves its own (CVE-2024-45337 is the confusion).
	dir := t.TempDir()
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"theirs.pub": ssh.MarshalAuthorizedKey(theirs.PublicKey()), "mine": pem.EncodeToMemory(block)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	needSSH(t)
	_, port, err := net.SplitHostPort(s.Address())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ssh", "-F", "none", "-v", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i", filepath.Join(dir, "theirs.pub"), "-i", filepath.Join(dir, "mine"),
		"-p", port, User+"@127.0.0.1", "status").CombinedOutput()
	if err != nil || strings.Count(string(out), "Server accepts key") != 2 {
		t.Fatalf("%v, %s", err, out)
	}
	if got := wait(t, ran); got != "mine" {
		t.Errorf("the handler of %s ran", got)
	}
}

func TestRevokeEndsTheSessionsReadsAndLeavesItsChange(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	causes, release := make(chan error, 2), make(chan struct{})
	begun := make(chan struct{}, 2)
	key := newKey(t)
	revoke := s.Admit("thread-1", key.PublicKey(), func(ctx context.Context, _ pve.Verb, _ func(pve.Step)) (pve.Report, error) {
		begun <- struct{}{}
		select {
		case <-ctx.Done():
		case <-release:
		}
		causes <- context.Cause(ctx)
		return pve.Report{}, nil
	})
	bystander := guestOf(t, s, func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error) { return pve.Report{}, nil })
	var sessions []*ssh.Session
	for _, verb := range []string{"status", "stop"} {
		c, err := dial(s, key)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		session := newSession(t, c)
		if err := session.Start(verb); err != nil {
			t.Fatal(err)
		}
		wait(t, begun)
		sessions = append(sessions, session)
	}
	revoke()
	if got := wait(t, causes); !errors.Is(got, errRevoked) {
		t.Errorf("the read ended with %v", got)
	}
	for _, session := range sessions {
		if err := session.Wait(); exit(err) != -1 {
			t.Errorf("a revoked client was told %v", err)
		}
	}
	close(release)
	if got := wait(t, causes); got != nil {
		t.Errorf("the change was told %v", got)
	}
	if err := newSession(t, bystander).Run("status"); err != nil {
		t.Errorf("another session was hit: %v", err)
	}
}

func TestWhateverIsNotAVerbIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	for what, try := range map[string]func(*ssh.Client) error{
		"a terminal":         func(c *ssh.Client) error { return newSession(t, c).RequestPty("xterm", 24, 80, nil) },
		"a variable":         func(c *ssh.Client) error { return newSession(t, c).Setenv("LC_PVE_TICKET", "x") },
		"sftp":               func(c *ssh.Client) error { return newSession(t, c).RequestSubsystem("sftp") },
		"X11":                func(c *ssh.Client) error { return request1(t, c, "x11-req") },
		"the agent":          func(c *ssh.Client) error { return request1(t, c, "auth-agent-req@openssh.com") },
		"a signal":           func(c *ssh.Client) error { return request1(t, c, "signal") },
		"a broken exec":      func(c *ssh.Client) error { return request1(t, c, "exec") },
		"a tunnel out":       func(c *ssh.Client) error { _, err := c.Dial("tcp", far.Addr().String()); return err },
		"a tunnel in":        func(c *ssh.Client) error { _, err := c.Listen("tcp", "127.0.0.1:0"); return err },
		"a tunnel to a file": func(c *ssh.Client) error { _, err := c.Dial("unix", "/run/x"); return err },
		"a second session": func(c *ssh.Client) error {
			newSession(t, c)
			_, err := c.NewSession()
			return err
		},
	} {
		client := guestOf(t, s, never(t))
		if err := try(client); err == nil {
			t.Errorf("%s was granted", what)
		}
	}
}

// request1 sends a request with one odd byte in it.
func request1(t *testing.T, c *ssh.Client, name string) error {
	t.Helper()
	ok, err := newSession(t, c).SendRequest(name, true, []byte{1})
	if err == nil && !ok {
		err = errors.New("refused")
	}
	return err
}

func TestThereIsNoSecondCommand(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	release, ran := make(chan struct{}), make(chan pve.Verb, 2)
	client := guestOf(t, s, func(_ context.Context, v pve.Verb, _ func(pve.Step)) (pve.Report, error) {
		ran <- v
		<-release
		return pve.Report{}, nil
	})
	session := newSession(t, client)
	if err := session.Start("status"); err != nil {
		t.Fatal(err)
	}
	wait(t, ran)
	ok, err := session.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{"cycle"}))
	if ok || err != nil {
		t.Errorf("a second command was answered %v, %v", ok, err)
	}
	close(release)
	if err := session.Wait(); err != nil {
		t.Error(err)
	}
	if len(ran) != 0 {
		t.Errorf("%s ran", <-ran)
	}
}

func TestAClientThatOnlyHangsAroundIsShownTheDoor(t *testing.T) {
	t.Parallel()
	s, err := Listen(slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.patience = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() {
		cancel()
		wait(t, done)
	}()
	silent := rawDial(t, s)
	if _, err := io.Copy(io.Discard, silent); err != nil {
		t.Errorf("a client that never speaks: %v", err)
	}
	key := newKey(t)
	s.Admit("thread-1", key.PublicKey(), never(t))
	client, err := dial(s, key)
	if err != nil {
		return // on a busy machine the login itself was too slow, and was cut too
	}
	defer client.Close()
	gone := make(chan error, 1)
	go func() { gone <- client.Wait() }()
	wait(t, gone)
}

func TestOneSessionHasFewConnectionsAtOnce(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	key := newKey(t)
	s.Admit("thread-1", key.PublicKey(), never(t))
	var clients []*ssh.Client
	for range maxGuestConns {
		c, err := dial(s, key)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	for _, c := range clients {
		newSession(t, c) // proves that each has joined
	}
	c, err := dial(s, key)
	if err == nil {
		if _, err = c.NewSession(); err == nil {
			t.Error("there is no limit")
		}
	}
	other := guestOf(t, s, never(t))
	newSession(t, other)
}

// Whatever the payload, only the exact bytes of a verb's request are one.
func FuzzExecPayload(f *testing.F) {
	for _, v := range []string{"status", "cycle;id", "status\x00", "STATUS", "", " stop"} {
		f.Add(ssh.Marshal(struct{ Command string }{v}))
	}
	f.Add([]byte{0, 0, 0, 6, 's'})
	f.Add(append(ssh.Marshal(struct{ Command string }{"stop"}), 'x'))
	f.Fuzz(func(t *testing.T, payload []byte) {
		command, err := parseExec(payload)
		if err != nil {
			return
		}
		v, err := pve.ParseVerb(command)
		if err == nil && string(ssh.Marshal(struct{ Command string }{string(v)})) != string(payload) {
			t.Errorf("%q became %s", payload, v)
		}
	})
}

// Whoever knocks without end fills no log: one line a second, with how many were left out.
func TestKnocksWithoutEndAreOneLineASecond(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer // its handler writes one line at a time
	s, err := Listen(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	began := time.Now()
	for range 50 {
		c := rawDial(t, s)
		_, _ = c.Write([]byte("no ssh\r\n\r\n"))
		_ = c.Close()
	}
	cancel()
	wait(t, done)
	if n := strings.Count(log.String(), "\n"); n < 1 || n > 2+int(time.Since(began).Seconds()) {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}
