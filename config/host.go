package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"
)

var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// validate checks the way into a machine; key is the section, what the machine in words.
func (h Host) validate(key, what string, p *problems) {
	if h.Address == "" {
		p.add(key+".address", "missing; set it to the IP and port of %s, such as %s", what, h.example(key))
	} else if err := checkAddress(h.Address); err != nil {
		p.add(key+".address", "%s", err)
	}
	if !userName.MatchString(h.User) {
		p.add(key+".user", "%q is not the name of a user", h.User)
	}
	if err := checkKeyFile(h.KeyFile); err != nil {
		p.add(key+".key_file", "%s", err)
	}
	switch {
	case h.HostKey != "" && h.HostCA != "":
		p.add(key+".host_ca", "given together with %s.host_key; keep one", key)
	case h.HostKey != "":
		if err := checkPublicKey(h.HostKey); err != nil {
			p.add(key+".host_key", "%s", err)
		}
	case h.HostCA != "":
		if err := checkPublicKey(h.HostCA); err != nil {
			p.add(key+".host_ca", "%s", err)
		}
	default:
		p.add(key+".host_key", "missing; run `%s` on a machine you trust, compare it with /etc/ssh/ssh_host_ed25519_key.pub on %s, and paste it from \"ssh-ed25519\" on", h.keyscan(), what)
	}
}

// example is an address as the one of this section may look.
func (Host) example(key string) string {
	if key == "ssh" {
		return "10.0.10.10:22"
	}
	return "192.168.1.127:22"
}

func (h Host) keyscan() string {
	at, err := netip.ParseAddrPort(h.Address)
	switch {
	case err != nil:
		return "ssh-keyscan -t ed25519 -p PORT IP"
	case at.Port() == 22:
		return fmt.Sprintf("ssh-keyscan -t ed25519 %s", at.Addr())
	default:
		return fmt.Sprintf("ssh-keyscan -t ed25519 -p %d %s", at.Port(), at.Addr())
	}
}

// checkAddress wants an IP, localhost included: whoever writes a name here finds out in the incident.
func checkAddress(s string) error {
	if at, err := netip.ParseAddrPort(s); err == nil {
		if at.Port() == 0 || at.Addr().IsUnspecified() || at.Addr().IsMulticast() {
			return fmt.Errorf("%q is no address that one can connect to; write IP:port", s)
		}
		return nil
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return fmt.Errorf("%q has no port; write %s", s, netip.AddrPortFrom(ip, 22))
	}
	host, _, err := net.SplitHostPort(s)
	if err != nil {
		host = s
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !strings.Contains(host, ":") && !strings.ContainsAny(s, "/@ ") {
		return fmt.Errorf("%q is a name; give the IP, for there may be no DNS in an incident", s)
	}
	return fmt.Errorf("%q is not IP:port, such as 192.168.1.127:22", s)
}

func checkKeyFile(path string) error {
	switch {
	case path == "":
		return errors.New("missing; make a key with `ssh-keygen -t ed25519 -N '' -f FILE` and give its path")
	case strings.HasSuffix(path, ".pub"):
		return fmt.Errorf("%s is the public key; give the private one, without .pub", path)
	}
	text, err := readPrivate(path)
	if err != nil {
		return err
	}
	// ssh wants the newline at the end that readPrivate takes away.
	switch _, err := ssh.ParseRawPrivateKey([]byte(text + "\n")); {
	case err == nil:
		return nil
	case isPassphrase(err):
		return fmt.Errorf("%s wants a passphrase, and in an incident nobody can type it; make a key without one", path)
	default:
		return fmt.Errorf("%s is not a private key that ssh can read", path)
	}
}

// sameKey says that both files hold one private key, in whatever format. A file that cannot be read has its own sentence.
func sameKey(one, two string) bool {
	var public [2]string
	for i, path := range []string{one, two} {
		text, err := readPrivate(path)
		if err != nil {
			return false
		}
		signer, err := ssh.ParsePrivateKey([]byte(text + "\n"))
		if err != nil {
			return false
		}
		public[i] = string(signer.PublicKey().Marshal())
	}
	return public[0] == public[1]
}

func isPassphrase(err error) bool {
	_, ok := errors.AsType[*ssh.PassphraseMissingError](err)
	return ok
}

// checkPublicKey wants one bare key, as in a .pub file. It tells apart what people paste instead.
func checkPublicKey(line string) error {
	switch {
	case strings.Contains(line, "PRIVATE KEY"):
		return errors.New("this is a private key; give the public one, \"ssh-ed25519 AAAA…\", and make a new pair if others saw it")
	case strings.HasPrefix(line, "SHA256:") || strings.HasPrefix(line, "MD5:"):
		return errors.New("this is a fingerprint; give the key itself, \"ssh-ed25519 AAAA…\"")
	}
	key, _, before, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return errors.New("this is not a public key; write it as in a .pub file, \"ssh-ed25519 AAAA…\"")
	case len(before) > 0:
		return fmt.Errorf("leave out %q before the key; it begins with %q", strings.Join(before, ","), key.Type())
	case strings.TrimSpace(string(rest)) != "":
		return errors.New("these are several keys; keep one")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return errors.New("this is a certificate; give the public key of the CA as host_ca")
	}
	return nil
}
