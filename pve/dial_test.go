package pve_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/internal/sshdtest"
	"bgbot/pve"

	"golang.org/x/crypto/ssh"
)

func hostOf(s *sshdtest.Server) pve.Host {
	return pve.Host{Name: "the Proxmox host", Address: s.Address, User: s.User, Signer: s.ClientSigner, HostKey: s.HostKey}
}

// wantUnreachable checks the reason and the whole sentence. HOST stands for the name and address.
func wantUnreachable(t *testing.T, err error, h pve.Host, why pve.Why, sentence string) *pve.Unreachable {
	t.Helper()
	e, ok := errors.AsType[*pve.Unreachable](err)
	if !ok || e.Why != why {
		t.Fatalf("got %v, want %s", err, why)
	}
	if want := strings.ReplaceAll(sentence, "HOST", fmt.Sprintf("%s (%s)", h.Name, h.Address)); e.UserMessage() != want {
		t.Errorf("got  %q\nwant %q", e.UserMessage(), want)
	}
	return e
}

func TestReachMeansThatACommandCameBack(t *testing.T) {
	t.Parallel()
	s := sshdtest.New(t, sshdtest.Options{})
	if err := pve.Reach(t.Context(), hostOf(s)); err != nil {
		t.Error(err)
	}
	bad := sshdtest.New(t, sshdtest.Options{KeyOptions: sshdtest.ForcedCommand("false")})
	wantUnreachable(t, pve.Reach(t.Context(), hostOf(bad)), hostOf(bad), pve.Stuck,
		"HOST lets us in, but commands do not come back: the machine is likely hung.")
}

func TestAHostThatRefuses(t *testing.T) {
	t.Parallel()
	s := sshdtest.New(t, sshdtest.Options{})
	h := hostOf(s)
	s.Stop()
	_, err := h.Dial(t.Context())
	wantUnreachable(t, err, h, pve.ConnectionRefused,
		"HOST refuses the connection: nothing listens on the port. Check that it has booted and that sshd runs.")
}

func TestABlackHoleThatAcceptsAndNeverSpeaks(t *testing.T) {
	t.Parallel()
	h := hostOf(sshdtest.New(t, sshdtest.Options{}))
	h.Address = silent(t)
	began := time.Now()
	_, err := h.Dial(t.Context())
	wantUnreachable(t, err, h, pve.HandshakeHung,
		"HOST accepts the connection but does not speak SSH: the machine is likely hung.")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// silent accepts connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return l.Addr().String()
}

func TestAPortThatIsFullLooksLikeAHostThatIsOff(t *testing.T) {
	t.Parallel()
	h := hostOf(sshdtest.New(t, sshdtest.Options{}))
	h.Address = full(t)
	_, err := h.Dial(t.Context())
	wantUnreachable(t, err, h, pve.TimedOut,
		"HOST does not answer at all: it is off, hung, or a firewall drops the packets. Check its power and the network.")
}

// full is a port whose queue of new connections is full: the kernel drops the packets of any further one, which is a
// black hole without leaving the machine.
func full(t *testing.T) string {
	t.Helper()
	address := backlogOfOne(t)
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		cancel()
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the queue never got full")
	return ""
}

func TestACancelledDialReturnsAtOnce(t *testing.T) {
	t.Parallel()
	h := hostOf(sshdtest.New(t, sshdtest.Options{}))
	h.Address = silent(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := h.Dial(ctx)
	if took := time.Since(began); err == nil || took > 2*time.Second {
		t.Errorf("got %v after %s", err, took)
	}
}

func TestAKeyThatIsNotLetIn(t *testing.T) {
	t.Parallel()
	s, other := sshdtest.New(t, sshdtest.Options{}), sshdtest.New(t, sshdtest.Options{})
	h := hostOf(s)
	h.Signer = other.ClientSigner
	_, err := h.Dial(t.Context())
	wantUnreachable(t, err, h, pve.LoginRefused,
		"HOST refuses our key. Check its authorized_keys: the key, and that from= allows this address.")
}

func TestAHostThatHangsUp(t *testing.T) {
	t.Parallel()
	h := hostOf(sshdtest.New(t, sshdtest.Options{}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if conn, err := l.Accept(); err == nil {
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	h.Address = l.Addr().String()
	_, err = h.Dial(t.Context())
	wantUnreachable(t, err, h, pve.Closed,
		"HOST closed the connection before the login was done. It may be starting, shutting down or shedding load; try again.")
}

func TestANameThatNobodyKnows(t *testing.T) {
	t.Parallel()
	h := hostOf(sshdtest.New(t, sshdtest.Options{}))
	h.Address = "no-such-host.invalid:22"
	_, err := h.Dial(t.Context())
	e, ok := errors.AsType[*pve.Unreachable](err)
	if !ok || (e.Why != pve.NoRoute && e.Why != pve.TimedOut) { // a machine without DNS times out
		t.Errorf("got %v", err)
	}
}

func TestAChangedHostKeyShowsBothFingerprints(t *testing.T) {
	t.Parallel()
	s := sshdtest.New(t, sshdtest.Options{})
	h := hostOf(s)
	s.Stop()
	s.NewHostKey()
	s.Start()
	_, err := h.Dial(t.Context())
	want, got := ssh.FingerprintSHA256(h.HostKey), ssh.FingerprintSHA256(s.HostKey)
	e := wantUnreachable(t, err, h, pve.HostKeyChanged, "HOST shows a host key that is not the expected one, so we do not talk to it: "+
		"expected "+want+", got "+got+" (another host key than the pinned one). "+
		"If it was reinstalled, compare the key at its console and update the pin; if not, someone may be in between.")
	if e.Want != want || e.Got != got || want == got {
		t.Errorf("want %s, got %s", e.Want, e.Got)
	}
}

func TestOnePinAmongSeveralHostKeys(t *testing.T) {
	t.Parallel()
	s := sshdtest.New(t, sshdtest.Options{ECDSA: true, Principals: []string{"127.0.0.1"}})
	if err := pve.Reach(t.Context(), hostOf(s)); err != nil { // Go alone would pick the ecdsa key and raise an alarm
		t.Error(err)
	}
	h := hostOf(sshdtest.New(t, sshdtest.Options{}))
	h.HostKey = rsaKey(t)
	_, err := h.Dial(t.Context())
	wantUnreachable(t, err, h, pve.HostKeyChanged, "HOST offers no host key of the pinned kind (expected "+ssh.FingerprintSHA256(h.HostKey)+
		"), so we do not talk to it. If it was reinstalled, compare its key at the console and update the pin.")
}

func TestAHostCA(t *testing.T) {
	t.Parallel()
	s := sshdtest.New(t, sshdtest.Options{Principals: []string{"devvm"}})
	h := hostOf(s)
	h.Name, h.HostKey, h.HostCA = "devvm", nil, s.HostCA
	if err := pve.Reach(t.Context(), h); err != nil {
		t.Errorf("a certificate for the name: %v", err)
	}
	h.Name = "buildvm" // the certificate of another host, by the same CA
	ca, key := ssh.FingerprintSHA256(s.HostCA), ssh.FingerprintSHA256(s.HostKey)
	const refused = "HOST shows a host certificate that does not hold, so we do not talk to it (WHY). It must be signed by the CA "
	_, err := h.Dial(t.Context())
	wantUnreachable(t, err, h, pve.HostKeyChanged, strings.Replace(refused, "WHY",
		`ssh: principal "127.0.0.1" not in the set of valid principals for given certificate: ["devvm"]`, 1)+
		ca+" and name this host; the host key is "+key+".")
	h.Name, h.HostCA = "devvm", s.HostKey // another CA
	_, err = h.Dial(t.Context())
	wantUnreachable(t, err, h, pve.HostKeyChanged, strings.Replace(refused, "WHY",
		"ssh: no authorities for hostname: "+h.Address, 1)+key+" and name this host; the host key is "+key+".")
	h.Address, h.HostCA = hostOf(sshdtest.New(t, sshdtest.Options{})).Address, s.HostCA // no certificate
	_, err = h.Dial(t.Context())
	wantUnreachable(t, err, h, pve.HostKeyChanged,
		"HOST offers no host certificate, so we do not talk to it. Sign its host key with the CA "+ca+" and set HostCertificate.")
	h.Address = s.Address
	s.Stop()
	s.NewHostKey() // a rebuilt machine with a new CA and certificate
	s.Start()
	h.HostCA = s.HostCA
	if err := pve.Reach(t.Context(), h); err != nil {
		t.Errorf("after a rebuild: %v", err)
	}
}

func TestAnIncompleteHostIsNotDialled(t *testing.T) {
	t.Parallel()
	s := sshdtest.New(t, sshdtest.Options{Principals: []string{"127.0.0.1"}})
	both, none, keyless := hostOf(s), hostOf(s), hostOf(s)
	both.HostCA, none.HostKey, keyless.Signer = s.HostCA, nil, nil
	for want, h := range map[string]pve.Host{
		"the Proxmox host needs exactly one of a host key and a host CA": both,
		"the Proxmox host needs an address, a user and a key":            keyless,
		"an ssh host has no name":                                        {},
	} {
		if _, err := h.Dial(t.Context()); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := none.Dial(t.Context()); err == nil {
		t.Error("a host without a pin was dialled")
	}
}

func TestParseHostKey(t *testing.T) {
	t.Parallel()
	s := sshdtest.New(t, sshdtest.Options{})
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.HostKey)))
	for _, good := range []string{line, line + " root@pve\n", " " + line} {
		if key, err := pve.ParseHostKey(good); err != nil || ssh.FingerprintSHA256(key) != ssh.FingerprintSHA256(s.HostKey) {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "AAAA", "ssh-ed25519", "ssh-ed25519 !!!!", line + "\n" + line, `command="x" ` + line} {
		if _, err := pve.ParseHostKey(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
