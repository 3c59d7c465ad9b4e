package sshagent

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// What may stand in the config file and the wrapper. Both are text for other programs, so nothing that they could read
// as more than a word gets in: no blanks, quotes, %, $ or line ends.
var (
	bareName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	bareUser = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)
	bareHost = regexp.MustCompile(`^[A-Za-z0-9:][A-Za-z0-9:.-]{0,252}$`)
	barePath = regexp.MustCompile(`^/[A-Za-z0-9/._+=@,-]*$`)
)

// check says what is wrong with the alias; before are those that it must differ from.
func (al *Alias) check(before []Alias) error {
	host, port, err := net.SplitHostPort(al.Address)
	if err != nil {
		return fmt.Errorf("the address %q is not host:port", al.Address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || !bareHost.MatchString(host) {
		return fmt.Errorf("the address %q is not host:port", al.Address)
	}
	switch {
	case !bareName.MatchString(al.Name):
		return errors.New("a name is lower case letters, digits and dashes")
	case slices.ContainsFunc(before, func(b Alias) bool { return b.Name == al.Name }):
		return errors.New("it is there twice")
	case !bareUser.MatchString(al.User):
		return fmt.Errorf("the user %q is not a user name", al.User)
	case al.HostKey == nil && al.HostCA == nil:
		return errors.New("it has neither a host key nor a host CA, so no host would be the right one")
	case al.Signer == nil:
		return errors.New("it has no key to log in with")
	case al.Limit < 0 || al.Timeout < 0 || al.Timeout%time.Second != 0:
		return errors.New("limit and timeout are not negative, and the timeout is in whole seconds")
	}
	switch t := al.Signer.PublicKey().Type(); t {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA:
		return nil
	default:
		return fmt.Errorf("a key of type %s is not served; use ed25519", t)
	}
}

// is says whether host is the alias's host: the pinned key, or a certificate by its CA that is valid now for its name.
func (al *Alias) is(host ssh.PublicKey) bool {
	if al.HostKey != nil && equal(host, al.HostKey) {
		return true
	}
	cert, ok := host.(*ssh.Certificate)
	if !ok || al.HostCA == nil || cert.CertType != ssh.HostCert || !equal(cert.SignatureKey, al.HostCA) {
		return false
	}
	// x/crypto takes a certificate without principals as good for every host; OpenSSH refuses it, and so do we.
	if len(cert.ValidPrincipals) == 0 {
		return false
	}
	var checker ssh.CertChecker // no critical option is supported
	return checker.CheckCert(al.Name, cert) == nil
}

// sign signs data with the algorithm that the login names, which must be one of the alias's key.
func (al *Alias) sign(data []byte, algorithm string) (*ssh.Signature, error) {
	if t := al.Signer.PublicKey().Type(); t != ssh.KeyAlgoRSA {
		if algorithm != t {
			return nil, fmt.Errorf("the login wants %.40q of a key of type %s", algorithm, t)
		}
		return al.Signer.Sign(rand.Reader, data)
	}
	// ssh-rsa itself is SHA-1 (RFC 8332 names its successors).
	rsa, ok := al.Signer.(ssh.AlgorithmSigner)
	if !ok || (algorithm != ssh.KeyAlgoRSASHA256 && algorithm != ssh.KeyAlgoRSASHA512) {
		return nil, fmt.Errorf("the login wants %.40q of an RSA key", algorithm)
	}
	return rsa.SignWithAlgorithm(rand.Reader, data, algorithm)
}

func equal(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }
