package sshagent

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// dial is a raw client of the agent's socket.
func dial(t *testing.T, a *Agent) agent.ExtendedAgent {
	t.Helper()
	c, err := net.Dial("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return agent.NewClient(c)
}

// bind does what ssh does before it asks for a signature.
func bind(t *testing.T, c agent.ExtendedAgent, host ssh.Signer, session []byte, forwarding bool) error {
	t.Helper()
	sig, err := host.Sign(nil, session)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Extension(sessionBind, ssh.Marshal(binding{host.PublicKey().Marshal(), session, ssh.Marshal(sig), forwarding}))
	return err
}

// login is the data that a client signs to log in.
func login(session []byte, user string, key ssh.PublicKey, host ssh.PublicKey) []byte {
	u := userauth{
		SessionID: session, Message: msgUserauthRequest, User: user, Service: "ssh-connection", Method: methodPublicKey,
		Signed: true, Algorithm: key.Type(), Key: key.Marshal(),
	}
	if host != nil {
		u.Method = methodHostBound
		u.Rest = ssh.Marshal(struct{ Key []byte }{host.Marshal()})
	}
	return ssh.Marshal(u)
}

// changed is the right login with something wrong about it.
func changed(session []byte, key ssh.PublicKey, change func(*userauth)) []byte {
	var u userauth
	if err := ssh.Unmarshal(login(session, "breakglass", key, nil), &u); err != nil {
		panic(err)
	}
	change(&u)
	return ssh.Marshal(u)
}

func TestARawClientGetsASignatureForTheRightLoginOnly(t *testing.T) {
	t.Parallel()
	key, host, evil := newKey(t), newKey(t), newKey(t)
	otherKey, otherHost := newKey(t), newKey(t)
	s := open(t,
		Alias{Name: "devvm", Address: "127.0.0.1:1", User: "breakglass", HostKey: host.PublicKey(), Signer: key},
		Alias{Name: "pve", Address: "127.0.0.1:1", User: "agent", HostKey: otherHost.PublicKey(), Signer: otherKey})
	session, pub := []byte("session"), key.PublicKey()
	good := login(session, "breakglass", pub, host.PublicKey())
	for name, c := range map[string]struct {
		host   ssh.Signer // to bind to; nil is unbound
		key    ssh.PublicKey
		data   []byte
		reason string // empty is a signature
	}{
		"the right login":       {host, pub, good, ""},
		"the plain method":      {host, pub, login(session, "breakglass", pub, nil), ""},
		"the other alias":       {otherHost, otherKey.PublicKey(), login(session, "agent", otherKey.PublicKey(), nil), ""},
		"unbound":               {nil, pub, good, "the connection is bound to no host"},
		"an unknown host":       {evil, pub, login(session, "breakglass", pub, evil.PublicKey()), "the host is none of ours"},
		"another user":          {host, pub, login(session, "root", pub, host.PublicKey()), `the user \"root\" is not the one for this host`},
		"another session":       {host, pub, login([]byte("other"), "breakglass", pub, host.PublicKey()), "the login is for another session"},
		"another host inside":   {host, pub, login(session, "breakglass", pub, evil.PublicKey()), "the login is for another host"},
		"a key across aliases":  {otherHost, pub, login(session, "agent", pub, otherHost.PublicKey()), "the key is not for this host"},
		"another key inside":    {host, pub, login(session, "breakglass", evil.PublicKey(), host.PublicKey()), "the login names another key"},
		"bytes behind":          {host, pub, append(login(session, "breakglass", pub, nil), 0), "the login has bytes behind its end"},
		"more bytes behind":     {host, pub, append(bytes.Clone(good), 0), "the login names no host key"},
		"another service":       {host, pub, changed(session, pub, func(u *userauth) { u.Service = "ssh-userauth" }), "the data to sign is not a login"},
		"another method":        {host, pub, changed(session, pub, func(u *userauth) { u.Method = "hostbased" }), `the login is by \"hostbased\", not by public key`},
		"another message":       {host, pub, changed(session, pub, func(u *userauth) { u.Message = 80 }), "the data to sign is not a login"},
		"a question":            {host, pub, changed(session, pub, func(u *userauth) { u.Signed = false }), "the data to sign is not a login"},
		"another algorithm":     {host, pub, changed(session, pub, func(u *userauth) { u.Algorithm = "ssh-rsa" }), `the login wants \"ssh-rsa\" of a key of type ssh-ed25519`},
		"an odd encoding":       {host, pub, bytes.Replace(login(session, "breakglass", pub, nil), []byte("publickey\x01"), []byte("publickey\x02"), 1), "the login is encoded in an odd way"},
		"a file signature":      {host, pub, []byte("SSHSIG\x00\x00\x00\x04file"), "the data to sign is not a login"},
		"the session id itself": {host, pub, session, "the data to sign is not a login"},
		"nothing":               {host, pub, nil, "the data to sign is not a login"},
	} {
		t.Run(name, func(t *testing.T) {
			client := dial(t, s.agent)
			if c.host != nil {
				if err := bind(t, client, c.host, session, false); err != nil {
					t.Fatal(err)
				}
			}
			sig, err := client.Sign(c.key, c.data)
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := c.key.Verify(c.data, sig); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Error("it was signed")
			}
			s.log.want(`reason="` + c.reason + `"`)
		})
	}
}

func TestAHostIsItsPinOrAValidCertificateOfItsCA(t *testing.T) {
	t.Parallel()
	pin, host, ca := newKey(t), newKey(t), newKey(t)
	al := Alias{Name: "devvm", HostKey: pin.PublicKey(), HostCA: ca.PublicKey()}
	cert := func(by ssh.Signer, change func(*ssh.Certificate)) ssh.PublicKey {
		c := &ssh.Certificate{
			Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"devvm"},
			ValidAfter: 1, ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
		}
		change(c)
		if err := c.SignCert(rand.Reader, by); err != nil {
			t.Fatal(err)
		}
		return c
	}
	forged := cert(ca, func(*ssh.Certificate) {}).(*ssh.Certificate)
	forged.Serial++
	for name, c := range map[string]struct {
		key  ssh.PublicKey
		want bool
	}{
		"the pin":            {pin.PublicKey(), true},
		"a certificate":      {cert(ca, func(*ssh.Certificate) {}), true},
		"the bare key":       {host.PublicKey(), false},
		"the CA as a host":   {ca.PublicKey(), false},
		"another CA":         {cert(host, func(*ssh.Certificate) {}), false},
		"another host":       {cert(ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"devvm2"} }), false},
		"any host":           {cert(ca, func(c *ssh.Certificate) { c.ValidPrincipals = nil }), false},
		"a user":             {cert(ca, func(c *ssh.Certificate) { c.CertType = ssh.UserCert }), false},
		"an expired one":     {cert(ca, func(c *ssh.Certificate) { c.ValidBefore = 2 }), false},
		"one from tomorrow":  {cert(ca, func(c *ssh.Certificate) { c.ValidAfter = c.ValidBefore - 1 }), false},
		"an unknown option":  {cert(ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"x": ""} }), false},
		"changed afterwards": {forged, false},
	} {
		if got := al.is(c.key); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
	if (&Alias{Name: "devvm", HostKey: pin.PublicKey()}).is(cert(ca, func(*ssh.Certificate) {})) {
		t.Error("without a CA a certificate was taken")
	}
}

func TestABindingIsProvenAndHappensOnce(t *testing.T) {
	t.Parallel()
	key, host := newKey(t), newKey(t)
	s := open(t, Alias{Name: "devvm", Address: "127.0.0.1:1", User: "breakglass", HostKey: host.PublicKey(), Signer: key})
	session := []byte("session")

	lying := dial(t, s.agent)
	sig, err := newKey(t).Sign(nil, session)
	if err != nil {
		t.Fatal(err)
	}
	lie := ssh.Marshal(binding{host.PublicKey().Marshal(), session, ssh.Marshal(sig), false})
	if _, err := lying.Extension(sessionBind, lie); err == nil {
		t.Error("a binding that the host did not sign was taken")
	}
	s.log.want(`reason="a session-bind that the host did not sign"`)
	if err := bind(t, lying, host, session, false); err == nil {
		t.Error("a second try was allowed")
	}
	s.log.want(`reason="the connection is bound already"`)

	forwarded := dial(t, s.agent)
	if err := bind(t, forwarded, host, session, true); err == nil {
		t.Error("forwarding was allowed")
	}
	s.log.want(`reason="agent forwarding is not served"`)

	twice := dial(t, s.agent)
	if err := errors.Join(bind(t, twice, host, session, false)); err != nil {
		t.Error(err)
	}
	if err := bind(t, twice, host, []byte("next"), false); err == nil {
		t.Error("the connection was bound again")
	}
	if _, err := twice.Sign(key.PublicKey(), login([]byte("next"), "breakglass", key.PublicKey(), nil)); err == nil {
		t.Error("it signed for the second binding")
	}
}

func TestTheKeysCanBeListedAndNothingElse(t *testing.T) {
	t.Parallel()
	needProgram(t, "ssh-add")
	private, key := newKeyPair(t)
	h := newHost(t, key.PublicKey())
	s := open(t, h.alias("devvm", key))
	out, _, exit := s.run("ssh-add -L")
	if want := string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(key.PublicKey()))) + " devvm\n"; out != want || exit != 0 {
		t.Errorf("ssh-add -L: exit %d, got %q, want %q", exit, out, want)
	}
	if err := os.WriteFile(filepath.Join(s.home, "own"), []byte(private), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.home, "own.pub"), ssh.MarshalAuthorizedKey(key.PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.wantRefused("ssh-add own", `reason="request 17 is not served"`)
	s.wantRefused("ssh-add -t 60 own", `reason="request 25 is not served"`)
	s.wantRefused("ssh-add -d own", `reason="request 18 is not served"`)
	s.wantRefused("ssh-add -D", `reason="request 19 is not served"`)
	s.wantRefused("SSH_ASKPASS=/bin/true SSH_ASKPASS_REQUIRE=force ssh-add -x", `reason="request 22 is not served"`)
	s.wantRefused("SSH_ASKPASS=/bin/true SSH_ASKPASS_REQUIRE=force ssh-add -X", `reason="request 23 is not served"`)
	s.wantRefused("rm own; echo hello | ssh-keygen -Y sign -n file -f own.pub", `reason="the connection is bound to no host"`)
	if _, err := dial(t, s.agent).Extension("query", nil); err == nil {
		t.Error("an unknown extension was served")
	}
	s.log.want(`reason="extension \"query\" is not served"`)
	if _, errs, exit := s.run("ssh devvm true"); exit != 0 {
		t.Errorf("after all that the agent should still sign: exit %d, %s", exit, errs)
	}
}

func TestTheKeyWorksForNoOtherHostAndNoOtherUser(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	h, evil := newHost(t, key.PublicKey()), newHost(t, key.PublicKey())
	s := open(t, h.alias("devvm", key))
	program := needProgram(t, "ssh")
	free := program + " -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
	_, port, err := net.SplitHostPort(evil.address)
	if err != nil {
		t.Fatal(err)
	}
	s.wantRefused(free+"-p "+port+" "+h.user+"@127.0.0.1 true", `reason="the host is none of ours"`)
	al := h.alias("devvm", key)
	al.User = "breakglass" // the host would let h.user in
	low := open(t, al)
	low.wantRefused(program+" -F "+low.agent.dir+"/config -l "+h.user+" devvm true", "is not the one for this host")

	// The host may be reached with the agent forwarded, but what comes back from there gets nothing.
	_, port, err = net.SplitHostPort(h.address)
	if err != nil {
		t.Fatal(err)
	}
	before := s.agent.signatures()
	_, errs, exit := s.run(free + "-A -p " + port + " " + h.user + "@127.0.0.1 '" + free + "-p " + port + " 127.0.0.1 true'")
	if n := s.agent.signatures() - before; n != 1 || exit == 0 {
		t.Errorf("%d signatures, exit %d: %s", n, exit, errs)
	}
	s.log.want(`reason="agent forwarding is not served"`)
}

func TestAnotherUserIsNotServed(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must run as root: this test becomes somebody else")
		}
		t.Skip("NOT TESTED: only root can be somebody else")
	}
	add := needProgram(t, "ssh-add")
	key := newKey(t)
	dir := t.TempDir()
	log := &journal{t: t}
	a, err := Open(dir, []Alias{{Name: "devvm", Address: "127.0.0.1:1", User: "u", HostKey: key.PublicKey(), Signer: key}},
		slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	// Say that all walls before the last one have fallen.
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod(a.socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), add, "-L")
	cmd.Env = []string{"SSH_AUTH_SOCK=" + a.socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("user nobody was served: %s", out)
	}
	log.want(`reason="the peer is user 65534"`)
}

func TestAMessageOfAnySizeIsSurvived(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := open(t, Alias{Name: "devvm", Address: "127.0.0.1:1", User: "u", HostKey: key.PublicKey(), Signer: key})
	for _, size := range []uint32{0, maxMessage + 1, 1 << 31} {
		c, err := net.Dial("unix", s.agent.socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write(binary.BigEndian.AppendUint32(nil, size))
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a message of %d bytes: read %d, %v; want the end", size, n, err)
		}
		_ = c.Close()
	}
	stubborn := dial(t, s.agent)
	for range maxRefusals {
		if err := stubborn.RemoveAll(); err == nil {
			t.Fatal("the keys were removed")
		}
	}
	if _, err := stubborn.List(); err == nil {
		t.Error("a client that was refused sixteen times is still served")
	}
	if _, err := dial(t, s.agent).List(); err != nil {
		t.Error(err)
	}
}

// slow signs when it is released.
type slow struct {
	ssh.Signer
	asked, release chan struct{}
}

func (s slow) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	close(s.asked)
	<-s.release
	return s.Signer.Sign(rand, data)
}

func TestCloseWaitsForASignature(t *testing.T) {
	t.Parallel()
	key, host := slow{newKey(t), make(chan struct{}), make(chan struct{})}, newKey(t)
	s := open(t, Alias{Name: "devvm", Address: "127.0.0.1:1", User: "u", HostKey: host.PublicKey(), Signer: key})
	client := dial(t, s.agent)
	if err := bind(t, client, host, []byte("session"), false); err != nil {
		t.Fatal(err)
	}
	signed, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := client.Sign(key.PublicKey(), login([]byte("session"), "u", key.PublicKey(), nil))
		signed <- err
	}()
	<-key.asked
	go func() { closed <- s.agent.Close() }()
	if err := <-signed; err == nil {
		t.Error("a client got a signature from an agent that closes")
	}
	select { // the client's connection is closed, so Close is past its beginning
	case <-closed:
		close(key.release)
		t.Fatal("Close returned while a key was in use")
	case <-time.After(50 * time.Millisecond):
	}
	close(key.release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestAProcessOfAnotherSessionIsNotServed(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := open(t, Alias{Name: "devvm", Address: "127.0.0.1:1", User: "u", HostKey: key.PublicKey(), Signer: key})
	var asked atomic.Int64
	s.agent.Admit(func(pid int) bool { asked.Store(int64(pid)); return false })
	if keys, err := dial(t, s.agent).List(); err == nil {
		t.Errorf("it was told %v", keys)
	}
	if got := asked.Load(); got != int64(os.Getpid()) {
		t.Errorf("asked about process %d, want %d", got, os.Getpid())
	}
	s.agent.Admit(func(pid int) bool { return pid == os.Getpid() })
	if keys, err := dial(t, s.agent).List(); err != nil || len(keys) != 1 {
		t.Errorf("its own process got %v, %v", keys, err)
	}
}

func TestRefusalsWithoutEndFillNoLog(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	log := &journal{t: t}
	a, err := Open(t.TempDir(), []Alias{{Name: "devvm", Address: "127.0.0.1:1", User: "u", HostKey: key.PublicKey(), Signer: key}},
		slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.mu.Lock()
	a.may = func(int) bool { return false }
	a.mu.Unlock()
	began := time.Now()
	for range 300 {
		c, err := net.Dial("unix", a.socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Read(make([]byte, 1)) // it is shut
		_ = c.Close()
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if n, most := bytes.Count(log.all.Bytes(), []byte("is not of this session")), 52+int(time.Since(began).Seconds()); n < 50 || n > most {
		t.Errorf("%d lines, at most %d were due", n, most)
	}
}
