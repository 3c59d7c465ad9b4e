package slack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// socket is one WebSocket to Slack. It reads frames, keeps itself alive and knows when it must be replaced; what frames
// mean is the link's business. Two goroutines belong to it, one reads and one keeps watch; done is closed after both.
type socket struct {
	conn   *websocket.Conn
	timing linkTiming
	began  time.Time
	asked  atomic.Int64 // when the latest ping left that was answered, in nanoseconds since began

	writing sync.Mutex // one writer at a time, pings aside

	greeted chan struct{} // closed at its hello
	life    time.Duration // from hello to when a successor is wanted; set before greeted is closed; 0 = open
	leaving chan struct{} // closed when Slack wants a successor
	reason  string        // why; set before leaving is closed
	retired chan struct{} // closed when the successor is there
	retire  func()
	done    chan struct{} // closed when nothing more comes and nothing runs any more
	err     error         // why; set before done is closed
	close   func()
}

// What the frames of one socket may measure.
const (
	maxFrame   = 1 << 20  // what is read of a frame; Slack's largest known payload, a view, has 250 kB
	maxMessage = 64 << 20 // what may come in one frame, the part that is thrown away included
	ackBuffer  = 32 << 10 // above maxAck: a frame that outgrows the buffer leaves in parts, which Slack drops (slack-go)
)

// dialSocket opens a socket. Nothing that it returns or logs has the address in it.
func dialSocket(ctx context.Context, u *url.URL, t linkTiming) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, t.open)
	defer cancel()
	var stop func() bool
	tcp := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	d := websocket.Dialer{
		Proxy:           http.ProxyFromEnvironment,
		ReadBufferSize:  4 << 10,
		WriteBufferSize: ackBuffer,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := tcp.DialContext(ctx, network, addr)
			if err == nil { // the handshake itself looks at deadlines, not at ctx
				stop = context.AfterFunc(ctx, func() { _ = c.Close() })
			}
			return c, err
		},
	}
	conn, resp, err := d.DialContext(ctx, u.String(), nil)
	if stop != nil && !stop() && err == nil {
		_ = conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		status := ""
		if resp != nil {
			status = ", HTTP " + resp.Status
		}
		return nil, errors.New("socket: " + withoutAddress(err.Error(), u) + status)
	}
	conn.SetReadLimit(maxMessage)
	s := &socket{
		conn: conn, timing: t, began: time.Now(),
		greeted: make(chan struct{}), leaving: make(chan struct{}), retired: make(chan struct{}), done: make(chan struct{}),
	}
	s.retire = sync.OnceFunc(func() { close(s.retired) })
	s.close = sync.OnceFunc(s.sayGoodbye)
	return s, nil
}

// withoutAddress takes the ticket out of a text that may have the socket's address in it.
func withoutAddress(text string, u *url.URL) string {
	for _, secret := range []string{u.String(), u.RequestURI(), u.RawQuery} {
		if len(secret) > 1 {
			text = strings.ReplaceAll(text, secret, "[socket]")
		}
	}
	return text
}

// serve reads frames and gives each text frame to receive, in order, until the socket ends; then it calls ended.
func (s *socket) serve(receive func(data []byte), ended func()) {
	pong := s.conn.PingHandler()
	s.conn.SetPingHandler(func(data string) error { s.extend(); return pong(data) })
	s.conn.SetPongHandler(func(data string) error { s.extend(); s.answered(data); return nil })
	over := make(chan struct{})
	var keeper sync.WaitGroup
	keeper.Go(func() { s.keep(over) })
	s.err = s.read(receive)
	_ = s.conn.Close()
	close(over)
	keeper.Wait()
	ended()
	close(s.done)
}

// read returns why there is nothing more to read.
func (s *socket) read(receive func([]byte)) error {
	for {
		s.extend()
		kind, r, err := s.conn.NextReader()
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return fmt.Errorf("nothing came for %s", s.timing.dead)
		} else if err != nil {
			return err
		}
		data, err := s.slurp(r)
		if err != nil {
			return err
		}
		if kind == websocket.TextMessage { // binary frames mean nothing; Slack's own clients skip them
			receive(data)
		}
	}
}

// answered notes a pong, which repeats what its ping said: when it left.
func (s *socket) answered(data string) {
	asked, err := strconv.ParseInt(data, 10, 64)
	if err == nil && asked > s.asked.Load() && asked < int64(time.Since(s.began)) {
		s.asked.Store(asked)
	}
}

// whole is until when all that Slack sent here has come: what was on its way before it answered a ping came before the
// answer. When the last frame came says less, since that frame may have been under way for long. A clock that is set
// meanwhile does not matter.
func (s *socket) whole() time.Time { return s.began.Add(time.Duration(s.asked.Load())) }

// parting is the reason that Slack gave for the end of the socket; "" = none yet.
func (s *socket) parting() string {
	select {
	case <-s.leaving:
		return s.reason
	default:
		return ""
	}
}

// over says that the socket has ended.
func (s *socket) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// extend grants the other side another while of silence.
func (s *socket) extend() { _ = s.conn.SetReadDeadline(time.Now().Add(s.timing.dead)) }

// slurp reads one frame. A slow frame is alive as long as bytes come, up to a bound; of a frame that is too long the
// beginning is kept, which has the envelope's id: ending the connection would only make Slack send it again.
func (s *socket) slurp(r io.Reader) ([]byte, error) {
	until := time.Now().Add(s.timing.frame)
	data := make([]byte, 0, 4<<10)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case errors.Is(err, io.EOF), len(data) >= maxFrame:
			return data, nil // gorilla skips what is left
		case err != nil:
			return nil, err
		case time.Now().After(until):
			return nil, fmt.Errorf("a frame took longer than %s", s.timing.frame)
		}
		s.extend()
	}
}

// keep pings, so that both ends and all that is between them know that the line is in use, and ends a socket some time
// after it has been replaced.
func (s *socket) keep(over <-chan struct{}) {
	ping := time.NewTicker(s.timing.ping)
	defer ping.Stop()
	retired := s.retired
	var bound <-chan time.Time
	for {
		select {
		case <-over:
			return
		case <-ping.C:
			left := strconv.FormatInt(int64(time.Since(s.began)), 10)
			if err := s.conn.WriteControl(websocket.PingMessage, []byte(left), time.Now().Add(s.timing.write)); err != nil {
				_ = s.conn.Close()
			}
		case <-retired:
			retired, bound = nil, time.After(s.timing.drain)
		case <-bound:
			s.close()
		}
	}
}

// write sends one frame.
func (s *socket) write(frame []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.timing.write))
	err := s.conn.WriteMessage(websocket.TextMessage, frame)
	if err != nil {
		_ = s.conn.Close() // nothing can be written to it any more; the reader ends too
	}
	return err
}

// sayGoodbye ends the connection. It does not wait for an answer: Slack does not close its side after the handshake
// (release notes of @slack/socket-mode 3.2.0).
func (s *socket) sayGoodbye() {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = s.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(min(s.timing.write, time.Second)))
	_ = s.conn.Close()
}
