package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Trust is how the host key of a machine is learned. The first that knows the machine decides.
type Trust struct {
	Pin        ssh.PublicKey // of the configuration
	KnownHosts []string      // files of ssh; one that does not exist says nothing
	Accept     []string      // ADDRESS=SHA256:…: that fingerprint, of that machine and no other
	// Ask puts the fingerprint of a machine that nobody knows before a person; nil if there is nobody to ask.
	Ask func(question string) bool
}

// hostKey returns the key that the machine must show, and who vouches for it. Only a machine that nobody knows is
// connected to. Its errors are [*Problem]s, or an [*unreached].
func (t Trust) hostKey(ctx context.Context, l Login) (key ssh.PublicKey, by string, err error) {
	if t.Pin != nil {
		return t.Pin, "the configuration", nil
	}
	if key, err = known(t.KnownHosts, l); err != nil {
		return nil, "", err
	} else if key != nil {
		return key, "known_hosts", nil
	}
	if key, err = l.scan(ctx); err != nil {
		return nil, "", err
	}
	fingerprint := ssh.FingerprintSHA256(key)
	accepted := t.accepted(l)
	switch {
	case slices.Contains(accepted, fingerprint):
		return key, "--accept-host-key", nil
	case len(accepted) > 0:
		return nil, "", problem("%s shows the host key %s, which --accept-host-key does not name. Nothing was sent.", l.at(), fingerprint)
	case t.Ask != nil && t.Ask(fmt.Sprintf("Nobody here knows %s yet. Its host key is\n  %s\nDoes its console say the same (%s)?", l.at(), fingerprint, keygen(key))):
		return key, "you", nil
	case t.Ask != nil:
		return nil, "", problem("The host key of %s was not accepted. Nothing was done.", l.at())
	}
	return nil, "", problem("Nobody here knows %s yet. Its host key is %s. Compare it at its console (%s), then say --accept-host-key %s.",
		l.at(), fingerprint, keygen(key), l.plain()+"="+fingerprint)
}

// accepted are the fingerprints that were given for a machine. One that counted for all would let the VM, which may be in
// the hands of somebody else, pass for the Proxmox host.
func (t Trust) accepted(l Login) (fingerprints []string) {
	for _, one := range t.Accept {
		address, fingerprint, _ := strings.Cut(one, "=")
		if address == l.plain() || address == l.Address.String() {
			fingerprints = append(fingerprints, fingerprint)
		}
	}
	return fingerprints
}

// plain is the address as a person types it.
func (l Login) plain() string {
	if l.Address.Port() == 22 {
		return l.Address.Addr().String()
	}
	return l.Address.String()
}

// Distinct refuses two machines with one host key: one of them is not what it says, or was cloned from the other, and a
// pin could not tell them apart.
func Distinct(host, vm ssh.PublicKey) error {
	if host == nil || vm == nil || !bytes.Equal(host.Marshal(), vm.Marshal()) {
		return nil
	}
	return problem("The VM and the Proxmox host show the same host key, %s, so that one may pass for the other. It is not pinned. "+
		"If the VM was cloned from the host's disk, make it new keys: ssh-keygen -A.", ssh.FingerprintSHA256(host))
}

// known looks the machine up in known_hosts. ed25519 is preferred, then the order of the file.
func known(files []string, l Login) (ssh.PublicKey, error) {
	var keys []ssh.PublicKey
	for _, file := range files {
		callback, err := readKnownHosts(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, &Problem{Text: fmt.Sprintf("%s cannot be used: %v. Name another file with --known-hosts.", file, err), Err: err}
		}
		remote := net.TCPAddrFromAddrPort(l.Address)
		// The library tells what it knows only to somebody who shows it another key.
		wrong, _ := errors.AsType[*knownhosts.KeyError](callback(l.Address.String(), remote, nobody{}))
		if wrong == nil {
			continue
		}
		for _, k := range wrong.Want {
			if _, revoked := errors.AsType[*knownhosts.RevokedError](callback(l.Address.String(), remote, k.Key)); !revoked {
				keys = append(keys, k.Key)
			}
		}
	}
	slices.SortStableFunc(keys, func(a, b ssh.PublicKey) int { return rank(a) - rank(b) })
	if len(keys) == 0 {
		return nil, nil
	}
	return keys[0], nil
}

// readKnownHosts leaves out the lines that the library does not understand, such as those of old kinds of keys: one of
// them would cost all the others. It leaves out certificate authorities as well: their keys are no machine's.
func readKnownHosts(file string) (ssh.HostKeyCallback, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	fit, err := os.CreateTemp("", "bgbot-known-hosts-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(fit.Name()) }()
	for line := range bytes.Lines(text) {
		if marker, _, _, _, _, err := ssh.ParseKnownHosts(line); err == nil && marker != "cert-authority" {
			_, _ = fit.Write(append(bytes.TrimRight(line, "\r\n"), '\n')) // Close tells
		}
	}
	if err := fit.Close(); err != nil {
		return nil, err
	}
	return knownhosts.New(fit.Name())
}

func rank(k ssh.PublicKey) int {
	if k.Type() == ssh.KeyAlgoED25519 {
		return 0
	}
	return 1
}

// nobody is a key that no machine has.
type nobody struct{}

func (nobody) Type() string                        { return "nobody" }
func (nobody) Marshal() []byte                     { return []byte("nobody") }
func (nobody) Verify([]byte, *ssh.Signature) error { return errors.New("nobody signs") }

// scan asks a machine for its host key and hangs up. The key is proven: it signed the exchange.
func (l Login) scan(ctx context.Context) (ssh.PublicKey, error) {
	var seen atomic.Pointer[ssh.PublicKey]
	enough := errors.New("that was all")
	client, err := l.handshake(ctx, &ssh.ClientConfig{
		User: l.User,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			seen.Store(&key)
			return enough
		},
		HostKeyAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
		},
	})
	if client != nil {
		_ = client.Close()
	}
	if key := seen.Load(); key != nil {
		return *key, nil
	}
	if err == nil {
		err = problem("%s shows no host key.", l.at())
	}
	return nil, err
}

// keygen is the command that shows the fingerprint of such a key where it is kept.
func keygen(key ssh.PublicKey) string {
	kind := "rsa"
	for _, k := range []string{"ed25519", "ecdsa"} {
		if strings.Contains(key.Type(), k) {
			kind = k
		}
	}
	return "ssh-keygen -lf /etc/ssh/ssh_host_" + kind + "_key.pub"
}
