package sshagent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// The part of the agent protocol that is served (RFC 9987; the extension is OpenSSH PROTOCOL.agent, section 1). All
// else is refused by its number, unparsed: adding, removing, locking, smart cards, other extensions.
const (
	msgFailure          = 5
	msgSuccess          = 6
	msgListKeys         = 11
	msgKeys             = 12
	msgSign             = 13
	msgSignature        = 14
	msgExtension        = 27
	msgExtensionFailure = 28

	sessionBind = "session-bind@openssh.com"
)

const (
	maxMessage  = 256 << 10        // as ssh-agent's own AGENT_MAX_LEN
	maxConns    = 32               // at once; ssh needs one for the moment of its login
	maxRefusals = 16               // of one connection, then it is closed
	idleTime    = 60 * time.Second // ssh asks within moments of connecting
)

// conn is one connection to the agent. One ssh process has one, so it is bound to one session, once.
type conn struct {
	agent   *Agent
	link    *net.UnixConn
	tried   bool // a session-bind was seen, good or not
	host    ssh.PublicKey
	session []byte
	refused int
}

func (a *Agent) accept() {
	for {
		link, err := a.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely; they come back
			a.log.Error("ssh agent cannot accept", "err", err)
			select {
			case <-a.closing:
			case <-time.After(time.Second):
			}
			continue
		}
		c := &conn{agent: a, link: link}
		if err := a.admit(c); err != nil {
			c.refuse("", err)
			_ = link.Close()
			continue
		}
		a.wg.Go(c.serve)
	}
}

// admit registers c so that Close can end it.
func (a *Agent) admit(c *conn) error {
	pid, err := peer(c.link)
	if err != nil {
		return err
	}
	a.mu.Lock()
	may := a.may
	a.mu.Unlock()
	if may != nil && !may(pid) {
		return fmt.Errorf("the process %d is not of this session", pid)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return net.ErrClosed
	}
	if may == nil && a.may != nil {
		return errors.New("it came before anybody was asked about it")
	}
	if len(a.conns) >= maxConns {
		return errors.New("too many connections")
	}
	a.conns[c] = struct{}{}
	return nil
}

// peer asks the kernel who is on the other end; the socket's mode does not stop root, nor a descriptor passed on.
func peer(link *net.UnixConn) (pid int, err error) {
	raw, err := link.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	if int(cred.Uid) != os.Getuid() {
		return 0, fmt.Errorf("the peer is user %d", cred.Uid)
	}
	return int(cred.Pid), nil
}

func (c *conn) serve() {
	defer func() {
		_ = c.link.Close()
		c.agent.mu.Lock()
		delete(c.agent.conns, c)
		c.agent.mu.Unlock()
	}()
	for c.refused < maxRefusals {
		_ = c.link.SetDeadline(time.Now().Add(idleTime))
		msg, err := readMessage(c.link)
		if err != nil {
			return // the peer left, was silent or is no ssh client: nobody is there to be told
		}
		reply := c.answer(msg)
		//nolint:gosec // a reply is far below 4 GiB
		if _, err := c.link.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func readMessage(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	msg := make([]byte, n)
	_, err := io.ReadFull(r, msg)
	return msg, err
}

// answer is the reply to one message, without its length.
func (c *conn) answer(msg []byte) []byte {
	switch msg[0] {
	case msgListKeys:
		return c.agent.list()
	case msgSign:
		alias, sig, err := c.sign(msg[1:])
		if err != nil {
			return c.refuse(alias, err)
		}
		c.agent.log.Info("ssh agent signed a login", "alias", alias)
		return ssh.Marshal(struct {
			Type byte
			Sig  []byte
		}{msgSignature, ssh.Marshal(sig)})
	case msgExtension:
		return c.extend(msg[1:])
	default:
		return c.refuse("", fmt.Errorf("request %d is not served", msg[0]))
	}
}

func (c *conn) refuse(alias string, err error) []byte {
	c.refused++
	const each = 50 // of them has a line; who goes on gets one a second
	left, now := 0, true
	if c.agent.countRefusal() > each {
		left, now = c.agent.warned.At(time.Now())
	}
	if now {
		c.agent.log.Warn("ssh agent refused", "alias", alias, "reason", err, "left_out", left)
	}
	return []byte{msgFailure}
}

// list names the public keys; they are no secret.
func (a *Agent) list() []byte {
	var keys []byte
	var n uint32
	seen := map[string]bool{}
	for _, al := range a.aliases {
		blob := al.Signer.PublicKey().Marshal()
		if seen[string(blob)] {
			continue
		}
		seen[string(blob)] = true
		n++
		keys = append(keys, ssh.Marshal(struct {
			Key     []byte
			Comment string
		}{blob, al.Name})...)
	}
	return ssh.Marshal(struct {
		Type byte
		N    uint32
		Keys []byte `ssh:"rest"`
	}{msgKeys, n, keys})
}

func (c *conn) extend(body []byte) []byte {
	var ext struct {
		Name     string
		Contents []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(body, &ext); err != nil || ext.Name != sessionBind {
		return c.refuse("", fmt.Errorf("extension %.40q is not served", ext.Name))
	}
	if err := c.bind(ext.Contents); err != nil {
		c.refuse("", err)
		return []byte{msgExtensionFailure}
	}
	return []byte{msgSuccess}
}

// bind ties the connection to the session that a host has signed for. There is no second try: ssh binds once, and a
// connection that is bound again is one that an agent forwarded.
func (c *conn) bind(contents []byte) error {
	if c.tried {
		return errors.New("the connection is bound already")
	}
	c.tried = true
	host, session, err := parseBinding(contents)
	if err != nil {
		return err
	}
	c.host, c.session = host, session
	return nil
}

// sign signs a login to the host that the connection is bound to, as the alias's user and with the alias's key. The
// name it returns is the alias's as soon as that is known.
//
// The plain method of RFC 4252 is taken beside OpenSSH's hostbound one, since servers other than OpenSSH from 8.9 on do
// not offer the latter (x/crypto does not). It is as safe here: the signature covers the session id, the host proved
// with session-bind that the session is its own, and nothing is forwarded; ssh-agent treats a first hop alike.
func (c *conn) sign(body []byte) (string, *ssh.Signature, error) {
	var req struct {
		Key   []byte
		Data  []byte
		Flags uint32 // not needed: the login names its algorithm
	}
	if err := ssh.Unmarshal(body, &req); err != nil {
		return "", nil, errors.New("a request to sign that cannot be parsed")
	}
	if c.host == nil {
		return "", nil, errors.New("the connection is bound to no host")
	}
	login, hostKey, err := parseUserauth(req.Data)
	if err != nil {
		return "", nil, err
	}
	if !bytes.Equal(login.SessionID, c.session) {
		return "", nil, errors.New("the login is for another session")
	}
	if hostKey != nil && !bytes.Equal(hostKey, c.host.Marshal()) {
		return "", nil, errors.New("the login is for another host")
	}
	if !bytes.Equal(login.Key, req.Key) {
		return "", nil, errors.New("the login names another key")
	}
	al, err := c.alias(login.User, login.Key)
	if err != nil {
		return "", nil, err
	}
	if err := c.agent.take(al); err != nil {
		return al.Name, nil, err
	}
	sig, err := al.sign(req.Data, login.Algorithm)
	return al.Name, sig, err
}

// alias finds the one whose host, user and key these are.
func (c *conn) alias(user string, key []byte) (*Alias, error) {
	found := errors.New("the host is none of ours")
	for i := range c.agent.aliases {
		al := &c.agent.aliases[i]
		switch {
		case !al.is(c.host):
		case !bytes.Equal(al.Signer.PublicKey().Marshal(), key):
			found = errors.New("the key is not for this host")
		case al.User != user:
			found = fmt.Errorf("the user %.40q is not the one for this host", user)
		default:
			return al, nil
		}
	}
	return nil, found
}
