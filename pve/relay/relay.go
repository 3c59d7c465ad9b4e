// Package relay is what the agent reaches as `ssh pve VERB`: an SSH server on loopback that knows the verbs and nothing
// else. It owns who may connect, which is one throw-away key for each session, and what goes over the wire. What a verb
// does, and whether it may be done, is the handler's that comes with the key; the Proxmox host's key is never here.
package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"bgbot/internal/seldom"
	"bgbot/pve"

	"golang.org/x/crypto/ssh"
)

// User is the one user name that the relay takes.
const User = "agent"

const (
	maxConns      = 64               // at once, before and after the login
	maxGuestConns = 8                // of one session
	patience      = 10 * time.Second // with a client, for the login and the one request together
)

// Handler runs a verb for a session. It calls step as things happen; step never waits for the client.
//
// For a verb that changes the VM, ctx ends with nothing: neither a client that hangs up nor the end of the server cuts a
// change. For one that only reads, ctx ends with the client, the session or the server, and its cause says which.
//
// The report's exit code becomes the client's. An error is told to the client if it has a UserMessage.
type Handler func(ctx context.Context, v pve.Verb, step func(pve.Step)) (pve.Report, error)

// Server is the relay. Its methods may be called from many goroutines at once.
type Server struct {
	log      *slog.Logger
	warned   seldom.Pace // of connections that come to nothing
	listener net.Listener
	host     ssh.Signer
	patience time.Duration
	wg       sync.WaitGroup

	mu     sync.Mutex // guards what follows, and each guest's links
	conns  int
	guests map[string]*guest // by public key
}

// guest is a session that was admitted.
type guest struct {
	name    string
	handler Handler
	links   []*link
}

// Listen opens the relay on a free port of 127.0.0.1 with a fresh host key. [Server.Serve] must follow.
func Listen(log *slog.Logger) (*Server, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	host, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return &Server{log: log, listener: l, host: host, patience: patience, guests: map[string]*guest{}}, nil
}

// Address is where the relay listens, as host:port.
func (s *Server) Address() string { return s.listener.Addr().String() }

// HostKey is the relay's public host key, for the clients' pin.
func (s *Server) HostKey() ssh.PublicKey { return s.host.PublicKey() }

// Admit lets whoever holds key run verbs through h, under a session's name, until revoke. Revoke closes the session's
// connections, which ends its reads; a change that runs goes on. A key that is admitted already changes hands.
func (s *Server) Admit(name string, key ssh.PublicKey, h Handler) (revoke func()) {
	id := string(key.Marshal())
	g := &guest{name: name, handler: h}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.guests[id]; old != nil {
		old.expel()
	}
	s.guests[id] = g
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.guests[id] == g {
			delete(s.guests, id)
		}
		g.expel()
	}
}

func (g *guest) expel() {
	for _, l := range g.links {
		l.cut(errRevoked)
	}
}

var (
	errRevoked  = errors.New("the session was revoked")
	errHungUp   = errors.New("the client hung up")
	errStopping = errors.New("the relay is stopping")
)

// Serve takes connections until ctx ends, then waits for all connections and handlers, changes included. It returns an
// error only if it cannot go on listening.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer s.wg.Wait()
	defer cancel(errStopping)
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	defer stop()
	for {
		c, err := s.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED):
			s.log.ErrorContext(ctx, "relay cannot accept", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		case err != nil:
			return fmt.Errorf("relay: %w", err)
		case !s.enter():
			if left, now := s.warned.At(time.Now()); now {
				s.log.WarnContext(ctx, "relay is full", "connections", maxConns, "left_out", left)
			}
			_ = c.Close()
		default:
			s.wg.Go(func() {
				defer s.leave()
				s.serve(ctx, c)
			})
		}
	}
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= maxConns {
		return false
	}
	s.conns++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
}

// config lets in who holds an admitted key. The key is kept with the proof: a callback may be asked about several keys
// and only the last one was proven (CVE-2024-45337).
func (s *Server) config() *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		MaxAuthTries: 2,
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			id := string(key.Marshal())
			s.mu.Lock()
			defer s.mu.Unlock()
			if meta.User() != User || s.guests[id] == nil {
				return nil, errors.New("no such key")
			}
			return &ssh.Permissions{Extensions: map[string]string{"key": id}}, nil
		},
	}
	c.AddHostKey(s.host)
	return c
}

// join ties l to the guest that logged in; nil means that it has been revoked since, or has too many connections.
func (s *Server) join(p *ssh.Permissions, l *link) *guest {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.guests[p.Extensions["key"]]
	if g == nil || len(g.links) >= maxGuestConns {
		return nil
	}
	g.links = append(g.links, l)
	return g
}

func (s *Server) part(g *guest, l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.links = slices.DeleteFunc(g.links, func(o *link) bool { return o == l })
}
