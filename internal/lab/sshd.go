package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshd serves SSH for one user and a few keys. It knows sessions alone: no forwarding, no terminal, no agent.
type sshd struct {
	config *ssh.ServerConfig
	run    func(context.Context, *login) ending
}

// login is one session that asks for something.
type login struct {
	kind    string // exec, shell or subsystem
	command string // of an exec; empty otherwise
	who     string // the name of the key
	conn    ssh.ConnMetadata
	in      io.Reader
	out     io.Writer
	errout  io.Writer
}

// ending is how a session's program ended: by a signal, if that is set.
type ending struct {
	code   int
	signal ssh.Signal
}

// newSSHD admits user with any of keys, which maps the wire form of a public key to its name.
func newSSHD(hostKey ssh.Signer, user string, keys map[string]string, run func(context.Context, *login) ending) *sshd {
	config := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3",
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			name, ok := keys[string(key.Marshal())]
			if !ok || c.User() != user {
				return nil, fmt.Errorf("no such key for %q", c.User())
			}
			return &ssh.Permissions{Extensions: map[string]string{"key": name}}, nil
		},
	}
	config.AddHostKey(hostKey)
	return &sshd{config: config, run: run}
}

// serve accepts until ctx is done, then closes every connection and returns when the last session has ended.
func (s *sshd) serve(ctx context.Context, listener net.Listener) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	release := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer release()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return
			}
			select { // out of file descriptors and the like pass
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		all.Go(func() { s.connection(ctx, conn) })
	}
}

func (s *sshd) connection(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer release()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	server, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	_ = conn.SetDeadline(time.Time{})
	var sessions sync.WaitGroup
	defer sessions.Wait()
	sessions.Go(func() { ssh.DiscardRequests(requests) })
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.Prohibited, "administratively prohibited")
			continue
		}
		channel, asks, err := c.Accept()
		if err != nil {
			continue
		}
		sessions.Go(func() { s.session(ctx, server, channel, asks) })
	}
}

// session runs the one program that a session may ask for. Its context ends when the client closes the channel.
func (s *sshd) session(ctx context.Context, server *ssh.ServerConn, channel ssh.Channel, asks <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	var program sync.WaitGroup
	defer program.Wait()
	defer cancel()
	started := false
	for ask := range asks {
		l := &login{
			kind: ask.Type, who: server.Permissions.Extensions["key"], conn: server,
			in: channel, out: channel, errout: channel.Stderr(),
		}
		switch ask.Type {
		case "exec", "subsystem":
			var payload struct{ Text string }
			if ssh.Unmarshal(ask.Payload, &payload) != nil {
				_ = ask.Reply(false, nil)
				continue
			}
			if ask.Type == "exec" {
				l.command = payload.Text
			}
		case "shell":
		case "env", "signal": // taken and ignored
			_ = ask.Reply(ask.Type == "env", nil)
			continue
		default: // pty-req, x11-req, auth-agent-req@openssh.com
			_ = ask.Reply(false, nil)
			continue
		}
		_ = ask.Reply(!started, nil)
		if started {
			continue
		}
		started = true
		program.Go(func() { finish(channel, s.run(ctx, l)) })
	}
}

func finish(channel ssh.Channel, e ending) {
	if e.signal != "" {
		_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal     string
			Dumped     bool
			Text, Lang string
		}{Signal: string(e.signal)}))
	} else {
		_, _ = channel.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, uint32(e.code&0xff)))
	}
	_ = channel.Close()
}

// script reads what a session without a command sends as its standard input, as a shell without a terminal would.
func script(in io.Reader) string {
	var b bytes.Buffer
	_, _ = io.Copy(&b, io.LimitReader(in, 64<<10))
	return b.String()
}
