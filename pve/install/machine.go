package install

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"bgbot/pve"
)

//go:embed scripts/*.sh
var scripts embed.FS

// The deadlines of what is done over there.
const (
	dialLimit   = 8 * time.Second
	loginLimit  = 60 * time.Second // somebody may have to touch a security key
	scriptLimit = 60 * time.Second
	uploadLimit = 5 * time.Minute // 4 MB through a phone
)

// What a script may say at most.
const (
	maxOut = 1 << 20
	maxErr = 8 << 10
)

// begin is what every script says first. What a login shell's own set-up files print comes before it and is cut off.
const begin = "::bgbot::"

// Login is an administrator's way into a machine, for as long as the installation takes.
type Login struct {
	Name    string // how sentences call the machine
	Address netip.AddrPort
	User    string
	Signers []ssh.Signer
	HostKey ssh.PublicKey
	Sudo    bool     // the user becomes root with sudo
	Through *Machine // the way there, if it is not reached from here

	Root string // as in [Options]
}

// Machine is a machine that an administrator is logged in to. It is for one goroutine. Close it.
type Machine struct {
	Login
	Facts
	client *ssh.Client
}

// Facts are what a machine says of itself.
type Facts struct {
	Arch    string     // as of uname -m
	OpenSSH string     // the version, such as "9.2"
	Client  netip.Addr // how it sees this side
	missing []string   // programs
}

// open logs in and looks round. Its errors are [*Problem]s.
func (l Login) open(ctx context.Context) (*Machine, error) {
	config := &ssh.ClientConfig{
		User: l.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(l.Signers...)},
		HostKeyCallback: ssh.FixedHostKey(l.HostKey), HostKeyAlgorithms: algorithms(l.HostKey.Type()),
	}
	client, err := l.handshake(ctx, config)
	if err != nil {
		return nil, err
	}
	m := &Machine{Login: l, client: client}
	if err := m.survey(ctx); err != nil {
		_ = client.Close()
		return nil, err
	}
	return m, nil
}

// Close ends the connection.
func (m *Machine) Close() error { return m.client.Close() }

// at is the machine as sentences call it.
func (l Login) at() string { return fmt.Sprintf("%s (%s)", l.Name, l.Address) }

func (l Login) handshake(ctx context.Context, config *ssh.ClientConfig) (*ssh.Client, error) {
	conn, err := l.connect(ctx)
	if err != nil {
		return nil, l.noConnection(err)
	}
	// A connection through another machine has no deadlines of its own, so closing it is what ends a hung handshake.
	ctx, cancel := context.WithTimeoutCause(ctx, loginLimit, errors.New("no answer to the login within a minute"))
	defer cancel()
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	inner, channels, requests, err := ssh.NewClientConn(conn, l.Address.String(), config)
	if !release() && err == nil {
		_ = inner.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, l.refused(err)
	}
	return ssh.NewClient(inner, channels, requests), nil
}

func (l Login) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	if l.Through != nil {
		return l.Through.client.DialContext(ctx, "tcp", l.Address.String())
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", l.Address.String())
}

// unreached is the error of a machine that there is no connection to; it may be reached another way.
type unreached struct{ Problem }

func (l Login) noConnection(err error) error {
	return &unreached{Problem{Text: l.at() + " cannot be reached from here: " + strings.TrimPrefix(reason(err), "dial tcp ") + ".", Err: err}}
}

// reason is an error of the network without the addresses that the sentence has.
func reason(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "it does not answer"
	}
	return err.Error()
}

func (l Login) refused(err error) error {
	text := fmt.Sprintf("The login at %s failed: %v.", l.at(), err)
	switch {
	case strings.Contains(err.Error(), "unable to authenticate"):
		text = fmt.Sprintf("%s refuses the login of %s with %s. `ssh %s@%s` must work first; name the key with --identity.",
			l.at(), l.User, count(len(l.Signers), "key"), l.User, l.Address.Addr())
	case strings.Contains(err.Error(), "host key mismatch"):
		text = fmt.Sprintf("%s does not show the host key that is known of it (%s). If it was reinstalled, compare its key at its console "+
			"and mend known_hosts or bgbot.yaml; if not, someone may be in between. Nothing was sent.", l.at(), ssh.FingerprintSHA256(l.HostKey))
	case strings.Contains(err.Error(), "no common algorithm for host key"):
		text = fmt.Sprintf("%s offers no host key of the kind that is known of it (%s). Compare its keys at its console and mend known_hosts or bgbot.yaml.",
			l.at(), l.HostKey.Type())
	}
	return &Problem{Text: text, Err: err}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// algorithms asks for the key that is known. An RSA key has newer names.
func algorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// said is how a script ended.
type said struct {
	out  []byte
	err  string // the end of its stderr
	exit int    // -1 if it never said
}

// script runs one of our scripts. An error means that it did not run, or that its end is not known.
func (m *Machine) script(ctx context.Context, name string, stdin io.Reader, args ...string) (said, error) {
	limit := scriptLimit
	if stdin != nil {
		limit = uploadLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no end of it within %s", limit))
	defer cancel()
	release := context.AfterFunc(ctx, func() { _ = m.client.Close() }) // a session knows no context
	defer release()
	text, err := scripts.ReadFile("scripts/" + name + ".sh")
	if err != nil {
		return said{}, err
	}
	out, errOut := &capped{most: maxOut}, &capped{most: maxErr}
	session, err := pve.OpenSession(m.client)
	if err == nil {
		defer func() { _ = session.Close() }()
		session.Stdin, session.Stdout, session.Stderr = stdin, out, errOut
		err = session.Run(m.commandLine(string(text), args))
	}
	s := said{err: printable(strings.TrimSpace(errOut.String()))}
	exit, ended := errors.AsType[*ssh.ExitError](err)
	switch {
	case ended:
		s.exit = exit.ExitStatus()
	case err != nil:
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return s, &Problem{Text: fmt.Sprintf("The connection to %s ended in the middle (%v). What became of the last step is not known; "+
			"run this again, it goes on from where things stand.", m.at(), err), Err: err}
	}
	if out.full {
		return s, problem("%s says more than %d bytes; that is none of what was expected.", m.at(), maxOut)
	}
	_, rest, began := bytes.Cut(out.Bytes(), []byte(begin+"\n"))
	if !began {
		return s, m.notOurs(s, out.Bytes())
	}
	s.out = rest
	return s, nil
}

// commandLine hands the script to sh as a word. The login shell that reads it may be any: neither the scripts nor their
// words have a quote or a backslash, on which the shells differ.
func (m *Machine) commandLine(text string, args []string) string {
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if m.Root != "" {
		path = fmt.Sprintf("%s/usr/sbin:%s/usr/bin:%s", m.Root, m.Root, path)
	}
	words := []string{"env", "PATH=" + path}
	if m.Sudo {
		words = append(words, "sudo", "-n")
	}
	words = append(words, "sh", "-c", fmt.Sprintf("PATH=%s LC_ALL=C\nexport PATH LC_ALL\nset -eu\numask 077\necho %s\n%s", path, begin, text), "bgbot")
	return commandLine(append(words, args...)...)
}

// notOurs is a login that does not run our scripts.
func (m *Machine) notOurs(s said, out []byte) error {
	words := strings.TrimSpace(string(out) + "\n" + s.err)
	if len(words) > 300 {
		words = words[:300] + "…"
	}
	switch {
	case m.Sudo && strings.Contains(s.err, "password"):
		return problem("%s wants a password for sudo of %s. Log in as root, or paste the printed commands there.", m.at(), m.User)
	case m.Sudo && strings.Contains(s.err, "sudo"):
		return problem("%s has no sudo for %s (%s). Install sudo there, or log in as root.", m.at(), m.User, lastLine(s.err))
	}
	return problem("%s lets %s in but runs no commands for it (exit %d). It must be a login with a POSIX shell, not a forced command. It said: %q",
		m.at(), m.User, s.exit, words)
}

// printable is what a terminal may be given of a far machine's words: lines, and no commands to the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(s, "?"))
}

func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }

// capped keeps the first bytes and notes that there were more.
type capped struct {
	bytes.Buffer
	most int
	full bool
}

func (c *capped) Write(p []byte) (int, error) {
	room := max(0, c.most-c.Len())
	c.full = c.full || len(p) > room
	_, _ = c.Buffer.Write(p[:min(len(p), room)])
	return len(p), nil
}
