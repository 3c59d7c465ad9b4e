package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/pve"
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
	mine, theirs := newKey(t), newKey(t)
	ran := make(chan string, 1)
	handler := func(name string) Handler {
		return func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error) {
			ran <- name
			return pve.Report{}, nil
		}
	}
	s.Admit("mine", mine.PublicKey(), handler("mine"))
	s.Admit("theirs", theirs.PublicKey(), handler("theirs"))
	// The last key that the server is asked about is not the one that is proven (CVE-2024-45337).
	client, err := ssh.Dial("tcp", s.Address(), &ssh.ClientConfig{
		User: User, HostKeyCallback: ssh.FixedHostKey(s.HostKey()),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(liar{mine, theirs.PublicKey()}, mine)},
	})
	if err != nil {
		t.Skipf("this client stops at the first key: %v", err)
	}
	defer client.Close()
	if err := newSession(t, client).Run("status"); err != nil {
		t.Fatal(err)
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
	bystander, _ := guestOf(t, s, func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error) { return pve.Report{}, nil })
	var sessions []*ssh.Session
	for _, verb := range []string{"status", "stop"} {
		c, err := dial(s, User, key)
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
		client, _ := guestOf(t, s, never(t))
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
	client, _ := guestOf(t, s, func(_ context.Context, v pve.Verb, _ func(pve.Step)) (pve.Report, error) {
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
	client, err := dial(s, User, key)
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
		c, err := dial(s, User, key)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	for _, c := range clients {
		newSession(t, c) // proves that each has joined
	}
	c, err := dial(s, User, key)
	if err == nil {
		if _, err = c.NewSession(); err == nil {
			t.Error("there is no limit")
		}
	}
	other, _ := guestOf(t, s, never(t))
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
