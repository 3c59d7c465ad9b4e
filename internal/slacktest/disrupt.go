package slacktest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gorilla/websocket"
)

// Disruption is something that happens to an open socket.
type Disruption int

// Disruptions.
const (
	Warning       Disruption = iota + 1 // disconnect: warning; after Options.WarnAhead as Refresh
	Refresh                             // disconnect: refresh_requested, and the end of the connection
	RefreshSilent                       // disconnect: refresh_requested, and then nothing, not even a FIN
	LinkDisabled                        // disconnect: link_disabled, and the end
	TooMany                             // disconnect: too_many_websockets, and the end
	HalfOpen                            // no reads, no pings, no envelopes, and no word about it
	ResetSocket                         // RST
	Hangup                              // FIN without a closing handshake
	CloseFrame                          // a closing handshake, begun by Slack
	CutFrame                            // half a frame and then FIN
	GarbageFrame                        // a text frame that is no JSON
	EmptyFrame                          // a text frame with nothing in it
	BinaryFrame                         // a binary frame
	UnknownFrame                        // JSON of a type that is not documented
	SlowFrame                           // a frame that comes in pieces, 4 bytes every 10 ms
)

func (d Disruption) String() string {
	names := []string{
		"none", "warning", "refresh", "silent refresh", "link disabled", "too many", "half-open", "reset", "hangup", "close frame",
		"cut frame", "garbage", "empty frame", "binary frame", "unknown frame", "slow frame",
	}
	if d < 0 || int(d) >= len(names) {
		return "unknown"
	}
	return names[d]
}

// Disrupt lets it happen to every open socket and says how many these were.
func (s *Server) Disrupt(d Disruption) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.openSockets()
	for _, k := range open {
		s.disrupt(k, d)
	}
	return len(open)
}

// DisruptOne lets it happen to one open socket, chosen by lot, and says whether there was one.
func (s *Server) DisruptOne(d Disruption) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.openSockets()
	if len(open) > 0 {
		s.disrupt(open[rand.IntN(len(open))], d)
	}
	return len(open) > 0
}

func (s *Server) disrupt(k *socket, d Disruption) {
	hangup := frame{do: func(k *socket) { _ = k.conn.UnderlyingConn().Close() }}
	switch d {
	case Warning:
		if !k.open {
			return
		}
		s.disconnect(k, "warning")
		s.after(s.opt.WarnAhead, func() { s.disrupt(k, Refresh) })
	case Refresh:
		s.disconnect(k, "refresh_requested")
		k.push(hangup)
	case RefreshSilent:
		s.disconnect(k, "refresh_requested")
		k.push(frame{do: func(k *socket) { s.kill(k) }})
	case LinkDisabled:
		s.disconnect(k, "link_disabled")
		k.push(hangup)
	case TooMany:
		s.disconnect(k, "too_many_websockets")
		k.push(hangup)
	case HalfOpen:
		k.dead = true // it stays among the open ones: Slack believes in it and sends envelopes there
	case ResetSocket:
		k.open = false
		k.push(frame{do: func(k *socket) { reset(k.conn.UnderlyingConn()) }})
	case Hangup:
		k.open = false
		k.push(hangup)
	case CloseFrame:
		k.open = false
		k.push(frame{kind: websocket.CloseMessage, data: websocket.FormatCloseMessage(websocket.CloseGoingAway, "")})
	case CutFrame:
		k.open = false
		k.push(frame{do: cut})
		k.push(hangup)
	case GarbageFrame:
		k.push(frame{kind: websocket.TextMessage, data: []byte(`{"envelope_id":"x","type":`)})
	case EmptyFrame:
		k.push(frame{kind: websocket.TextMessage})
	case BinaryFrame:
		k.push(frame{kind: websocket.BinaryMessage, data: []byte{0, 1, 2, 3}})
	case UnknownFrame:
		k.send(object{"type": "tea_break", "reason": "undocumented"})
	case SlowFrame:
		data := encode(object{"type": "tea_break", "padding": "slow"})
		k.push(frame{do: func(k *socket) { s.slowly(k, data) }})
	}
	s.notify()
}

func (s *Server) kill(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.dead = true
}

// cut writes the first half of a text frame.
func cut(k *socket) {
	half := append([]byte{0x81, 126}, binary.BigEndian.AppendUint16(nil, 200)...)
	_, _ = k.conn.UnderlyingConn().Write(append(half, `{"type":"hel`...))
}

// pause lets a slow frame be slow; it is false when the socket has ended.
func (s *Server) pause(k *socket) bool {
	select {
	case <-time.After(10 * time.Millisecond):
		return true
	case <-k.gone:
	case <-s.done:
	}
	return false
}

// slowly writes a text frame of less than 126 bytes in pieces.
func (s *Server) slowly(k *socket, data []byte) {
	whole := append([]byte{0x81, byte(len(data))}, data...)
	for piece := range slices.Chunk(whole, 4) {
		if _, err := k.conn.UnderlyingConn().Write(piece); err != nil || !s.pause(k) {
			return
		}
	}
}
