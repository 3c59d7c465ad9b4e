package pve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// The deadlines of the steps towards a host. ClientConfig.Timeout covers the TCP connect alone (golang/go#51926), so
// every later step gets its own.
const (
	dialLimit      = 5 * time.Second
	handshakeLimit = 5 * time.Second
	sessionLimit   = 5 * time.Second
	reachLimit     = 10 * time.Second
)

// Host is a machine that is reached by SSH with one key and one way to know that it is the right machine.
type Host struct {
	Name    string // how sentences call it: "the Proxmox host", "devvm"
	Address string // host:port
	User    string
	Signer  ssh.Signer

	HostKey ssh.PublicKey // the pinned key, or
	HostCA  ssh.PublicKey // the authority that signed the host's certificate for its address or its Name
}

// ParseHostKey reads a public key as sshd keeps it: "ssh-ed25519 AAAA… [comment]".
func ParseHostKey(line string) (ssh.PublicKey, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return nil, errors.New("not a host key; write the line of the host's /etc/ssh/ssh_host_ed25519_key.pub, " +
			"which reads: ssh-ed25519 AAAA…")
	case len(options) > 0 || len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("more than one host key; write the key's type and its base64 text only")
	}
	if _, isCert := key.(*ssh.Certificate); isCert {
		return nil, errors.New("a certificate is no host key; write the public key of the authority instead")
	}
	return key, nil
}

// Dial logs in to the host. It gives up on each step after 5 s; its errors are [*Unreachable], or plain ones when h
// itself is incomplete. The caller closes the client.
func (h Host) Dial(ctx context.Context) (*ssh.Client, error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialLimit}
	conn, err := dialer.DialContext(ctx, "tcp", h.Address)
	if err != nil {
		return nil, h.unreachable(whyDial(err), causeOr(ctx, err))
	}
	if err := conn.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		_ = conn.Close()
		return nil, h.unreachable(Closed, err)
	}
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	pin := &pin{host: h}
	inner, channels, requests, err := ssh.NewClientConn(conn, h.Address, &ssh.ClientConfig{
		User:              h.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(h.Signer)},
		HostKeyCallback:   pin.check,
		HostKeyAlgorithms: h.algorithms(),
	})
	if !release() && err == nil {
		_ = inner.Close()
		return nil, h.unreachable(Closed, context.Cause(ctx))
	}
	if err != nil {
		_ = conn.Close()
		if wrong := pin.wrong.Load(); wrong != nil {
			return nil, wrong
		}
		return nil, h.unreachable(whyHandshake(err), causeOr(ctx, err))
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		_ = inner.Close()
		return nil, h.unreachable(Closed, err)
	}
	return ssh.NewClient(inner, channels, requests), nil
}

// Reach logs in and runs `true`: what "SSH answered" means. It takes at most about 20 s.
func Reach(ctx context.Context, h Host) error {
	client, err := h.Dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeoutCause(ctx, reachLimit, fmt.Errorf("no answer within %s", reachLimit))
	defer cancel()
	// Sessions know no context; closing the client ends whatever waits on it.
	release := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer release()
	session, err := OpenSession(client)
	if err == nil {
		err = session.Run("true")
	}
	if err != nil {
		return h.unreachable(Stuck, causeOr(ctx, err))
	}
	return nil
}

func (h Host) validate() error {
	switch {
	case h.Name == "":
		return errors.New("an ssh host has no name")
	case h.Address == "" || h.User == "" || h.Signer == nil:
		return fmt.Errorf("%s needs an address, a user and a key", h.Name)
	case (h.HostKey == nil) == (h.HostCA == nil):
		return fmt.Errorf("%s needs exactly one of a host key and a host CA", h.Name)
	}
	return nil
}

// algorithms asks for what the pin can prove. Without it Go negotiates the first type in its own order, and reports a
// host with several keys, or with a certificate beside the pinned key, as changed (golang/go#29286).
func (h Host) algorithms() []string {
	if h.HostCA != nil {
		return []string{
			ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
			ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
		}
	}
	if t := h.HostKey.Type(); t != ssh.KeyAlgoRSA {
		return []string{t}
	}
	return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
}

// pin checks one handshake. It keeps its own finding, since the handshake wraps errors as it likes.
type pin struct {
	host  Host
	wrong atomic.Pointer[Unreachable]
}

func (p *pin) check(_ string, remote net.Addr, key ssh.PublicKey) error {
	want := p.host.HostKey
	var err error
	if want != nil {
		if !same(key, want) {
			err = errors.New("another host key than the pinned one")
		}
	} else {
		want, err = p.host.HostCA, p.certificate(remote, key)
	}
	if err == nil {
		return nil
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
	}
	wrong := p.host.unreachable(HostKeyChanged, err)
	wrong.Want, wrong.Got = ssh.FingerprintSHA256(want), ssh.FingerprintSHA256(key)
	if p.host.HostKey != nil {
		wrong.Presented = key
	}
	p.wrong.Store(wrong)
	return wrong
}

// certificate accepts a certificate of the CA that names the host's address or its Name. One without names would be
// good for every host that the CA ever signed, so it is refused.
func (p *pin) certificate(remote net.Addr, key ssh.PublicKey) error {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return errors.New("a plain host key without a certificate")
	}
	if len(cert.ValidPrincipals) == 0 {
		return errors.New("a certificate that names no host; sign it again with ssh-keygen -h -n")
	}
	deny := errors.New("not asked for")
	checker := &ssh.CertChecker{
		IsHostAuthority: func(ca ssh.PublicKey, _ string) bool { return same(ca, p.host.HostCA) },
		IsUserAuthority: func(ssh.PublicKey) bool { return false },
		IsRevoked:       func(*ssh.Certificate) bool { return false },
		UserKeyFallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, deny },
		HostKeyFallback: func(string, net.Addr, ssh.PublicKey) error { return deny },
	}
	err := checker.CheckHostKey(p.host.Address, remote, key)
	if err != nil && checker.CheckHostKey(net.JoinHostPort(p.host.Name, "22"), remote, key) == nil {
		return nil
	}
	return err
}

func same(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// causeOr prefers why ctx ended over the broken connection that this left behind.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (h Host) at() string {
	if strings.Contains(h.Name, h.Address) {
		return h.Name
	}
	return h.Name + " (" + h.Address + ")"
}
