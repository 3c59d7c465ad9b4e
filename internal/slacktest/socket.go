package slacktest

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/websocket"
)

// maxSockets is how many an app may have.
const maxSockets = 10

// maxFrame is the largest frame that Slack takes from a client; it closes with 1009 on a larger one.
const maxFrame = 20480

// leastPatience is how long a socket may be silent however short the time between pings: test machines are busy.
const leastPatience = 2 * time.Second

// Link is how sockets behave. The zero value is a good day.
type Link struct {
	Status        int           // HTTP status in place of the upgrade
	Hang          bool          // no answer to the upgrade
	Refuse        string        // disconnect with this reason in place of hello, for example link_disabled
	NoHello       bool          // the socket opens and stays silent
	HelloAfter    time.Duration // hello comes late
	NoPings       bool          // no pings of the server
	Deaf          bool          // pings and pongs, and no envelope arrives
	Twice         bool          // each envelope is sent twice, both times as the first attempt
	Swap          bool          // of each two envelopes the second goes first
	AckSameSocket bool          // an ack counts only on a socket on which the envelope was sent
	Foreign       int           // sockets of somebody else on the same token, counted by hello; they take their share of envelopes
}

// SetLink changes how sockets behave from now on.
func (s *Server) SetLink(l Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
	s.unswap()
}

// socket is one Socket Mode connection. Its fields are guarded by the lock of the server.
type socket struct {
	id      int
	conn    *websocket.Conn
	heardAt time.Time // the last sign of life
	open    bool      // hello was sent, and envelopes may come here
	dead    bool      // half-open: it reads nothing and writes nothing
	closing bool      // the client has begun or answered a closing handshake
	out     []frame
	wake    chan struct{} // the writer has something to do
	gone    chan struct{} // the reader has ended
}

// frame is something to write: a message, or what else do does to the connection.
type frame struct {
	kind int // of websocket
	data []byte
	do   func(*socket)
}

// Sockets is how many sockets are open and have been greeted.
func (s *Server) Sockets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.openSockets())
}

// Dialled is how many sockets there have ever been.
func (s *Server) Dialled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialled
}

// AwaitSockets returns when n sockets are open, and more than this many have ever been dialled.
func (s *Server) AwaitSockets(ctx context.Context, n, dialledBefore int) error {
	return s.wait(ctx, func() bool { return len(s.openSockets()) == n && s.dialled > dialledBefore })
}

func (s *Server) openSockets() []*socket {
	var open []*socket
	for _, k := range s.sockets {
		if k.open {
			open = append(open, k)
		}
	}
	return open
}

// count is how many sockets Slack believes in.
func (s *Server) count() int {
	n := 0
	for _, k := range s.sockets {
		if k.open || !k.dead {
			n++
		}
	}
	return n
}

func (s *Server) connectionsOpen(c *call) (object, error) {
	ticket := s.id("ticket") + "-" + rand.Text()
	short := c.yes("debug_reconnects")
	s.tickets[ticket] = short
	return object{"url": "ws://" + s.address + "/link/?ticket=" + ticket + "&app_id=" + appID}, nil
}

// dial takes a ticket and serves a socket until it ends.
func (s *Server) dial(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	ticket := r.URL.Query().Get("ticket")
	_, ok := s.tickets[ticket]
	delete(s.tickets, ticket) // whatever happens, it was used
	link := s.link
	s.mu.Unlock()
	switch {
	case !ok:
		http.Error(w, "invalid ticket", http.StatusForbidden)
		return
	case link.Status != 0:
		http.Error(w, "injected", link.Status)
		return
	case link.Hang:
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
		return
	}
	conn, err := s.upgrade.Upgrade(w, r, nil)
	if err != nil {
		return // it has answered already
	}
	k := &socket{conn: conn, heardAt: time.Now(), wake: make(chan struct{}, 1), gone: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = conn.Close()
		return
	}
	s.dialled++
	k.id = s.dialled
	s.sockets = append(s.sockets, k)
	s.greet(k, link, r.URL.Query().Get("debug_reconnects") == "true")
	s.busy.Go(func() { s.write(k) })
	s.mu.Unlock()
	s.read(k)
}

// greet sends hello, or what the link has in its place. The lock is held by the caller.
func (s *Server) greet(k *socket, link Link, short bool) {
	if s.count() > maxSockets && link.Refuse == "" {
		link.Refuse = "too_many_websockets"
	}
	switch {
	case link.Refuse != "":
		s.disconnect(k, link.Refuse)
		k.push(frame{do: func(k *socket) { _ = k.conn.Close() }})
		return
	case link.NoHello:
		return
	}
	s.after(link.HelloAfter, func() {
		if slices.Contains(s.sockets, k) {
			s.hello(k, link, short)
		}
	})
}

func (s *Server) hello(k *socket, link Link, short bool) {
	life := s.opt.SocketLife
	if short {
		life = 360 * time.Second
	}
	k.open = true
	k.send(object{
		"type": "hello", "num_connections": len(s.openSockets()) + link.Foreign,
		"connection_info": object{"app_id": appID},
		"debug_info": object{
			"host": "applink-testing", "build_number": 1, "approximate_connection_time": int(life.Seconds()),
		},
	})
	s.ping(k)
	s.after(max(0, life-s.opt.WarnAhead), func() { s.disrupt(k, Warning) })
	s.flush()
	s.notify()
}

// ping keeps a socket alive for as long as it is there, and gives up one that does not answer. The lock is held by the
// caller.
func (s *Server) ping(k *socket) {
	if k.closing || !slices.Contains(s.sockets, k) {
		return
	}
	if time.Since(k.heardAt) > max(3*s.opt.PingEvery, leastPatience) && !s.link.NoPings {
		k.open = false
		k.push(frame{do: func(k *socket) { _ = k.conn.UnderlyingConn().Close() }})
		s.notify()
		return
	}
	if !s.link.NoPings {
		k.push(frame{kind: websocket.PingMessage, data: []byte("Ping from applink-testing")})
	}
	s.after(s.opt.PingEvery, func() { s.ping(k) })
}

// disconnect announces the end of a socket: no further envelope comes here. The lock is held by the caller.
func (s *Server) disconnect(k *socket, reason string) {
	if reason != "warning" {
		k.open = false
	}
	k.send(object{"type": "disconnect", "reason": reason, "debug_info": object{"host": "applink-testing"}})
	s.notify()
}

// send queues a JSON frame. The lock is held by the caller.
func (k *socket) send(o object) {
	data := encode(o)
	k.push(frame{kind: websocket.TextMessage, data: data})
}

func (k *socket) push(f frame) {
	if k.dead {
		return
	}
	k.out = append(k.out, f)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// write is the goroutine that writes to a socket, until the reader has ended.
func (s *Server) write(k *socket) {
	for {
		select {
		case <-k.wake:
		case <-k.gone:
			return
		}
		s.mu.Lock()
		out := k.out
		k.out = nil
		s.mu.Unlock()
		for _, f := range out {
			_ = k.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
			switch {
			case f.do != nil:
				f.do(k)
			default:
				if err := k.conn.WriteMessage(f.kind, f.data); err != nil && !errors.Is(err, websocket.ErrCloseSent) {
					_ = k.conn.UnderlyingConn().Close() // the reader hears of it
					return
				}
			}
		}
	}
}

// read takes acks until the socket ends, and then forgets it.
func (s *Server) read(k *socket) {
	defer func() {
		_ = k.conn.Close()
		close(k.gone)
		s.mu.Lock()
		k.open = false
		s.sockets = slices.DeleteFunc(s.sockets, func(x *socket) bool { return x == k })
		s.notify()
		s.mu.Unlock()
	}()
	k.conn.SetReadLimit(maxFrame)
	k.conn.SetPingHandler(func(data string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		k.push(frame{kind: websocket.PongMessage, data: []byte(data)})
		return nil
	})
	k.conn.SetPongHandler(func(string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		k.heardAt = time.Now()
		return nil
	})
	k.conn.SetCloseHandler(func(code int, _ string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		k.open, k.closing = false, true
		k.push(frame{kind: websocket.CloseMessage, data: websocket.FormatCloseMessage(code, "")})
		return nil
	})
	for {
		_, data, err := k.conn.ReadMessage()
		s.mu.Lock()
		dead := k.dead
		k.heardAt = time.Now()
		if err == nil && !dead {
			s.heard(k, data)
		}
		s.mu.Unlock()
		if _, closing := errors.AsType[*websocket.CloseError](err); closing || dead {
			// Slack does not end the connection after the closing handshake; that is left to the client. And when the network
			// has gone, no side learns anything.
			_, _ = io.Copy(io.Discard, k.conn.UnderlyingConn())
			return
		}
		if err != nil {
			return
		}
	}
}
