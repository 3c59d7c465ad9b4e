package slacktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Sent is something that went to the app.
type Sent struct {
	TS       string // of the message, when it is one
	Envelope string // what [Server.AwaitAck] takes; empty when the app does not hear of it
	Trigger  string // of a command or click
}

// Ack is the app's answer to an envelope.
type Ack struct {
	After    time.Duration // since the envelope was first sent
	Attempts int           // how often it had been sent by then
	Payload  json.RawMessage
}

// errLost is of an envelope that was given up.
var errLost = errors.New("slacktest: the envelope was never acked")

// ErrDispatch is what a person reads who types a command while the app has no socket.
var ErrDispatch = errors.New("slacktest: /vm failed with the error \"dispatch_failed\"")

type envelope struct {
	id       string
	kind     string
	payload  json.RawMessage
	answers  bool // accepts_response_payload
	attempt  int
	firstAt  time.Time
	sockets  []int // on which it was sent
	sends    int
	ack      *Ack
	acks     int
	late     bool
	lost     bool
	dropped  bool // by DropQueued
	stolen   bool // somebody else on the same token got it
	timer    *time.Timer
	onAnswer func(json.RawMessage) // with the lock held
}

// Strays counts what clients sent that means nothing.
type Strays struct {
	Unknown int // acks of envelopes that do not exist, or on a socket that does not count
	Garbage int // frames that are no ack
}

// Send makes an envelope of this type around this payload, whatever it may be.
func (s *Server) Send(kind string, payload json.RawMessage) Sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Sent{Envelope: s.dispatch(kind, payload, true).id}
}

// dispatch sends an envelope now, or when there is a socket. The lock is held by the caller.
func (s *Server) dispatch(kind string, payload json.RawMessage, answers bool) *envelope {
	e := &envelope{id: s.uuid(), kind: kind, payload: payload, answers: answers}
	s.envelopes[e.id] = e
	s.order = append(s.order, e)
	s.route(e)
	return e
}

// route sends an envelope on some open socket, or keeps it until there is one.
func (s *Server) route(e *envelope) {
	open := s.openSockets()
	if len(open) == 0 {
		s.queued = append(s.queued, e)
		return
	}
	if s.link.Swap && s.swapped == nil && e.attempt == 0 {
		s.swapped = e
		s.after(100*time.Millisecond, s.unswap) // nobody came to overtake it
		return
	}
	s.transmit(e, open)
	if s.link.Twice && e.attempt == 0 {
		s.transmit(e, open)
	}
	s.unswap()
}

// unswap sends the envelope that was held back to be overtaken.
func (s *Server) unswap() {
	e := s.swapped
	s.swapped = nil
	if e == nil {
		return
	}
	if open := s.openSockets(); len(open) > 0 {
		s.transmit(e, open)
		return
	}
	s.queued = append(s.queued, e)
}

// transmit writes an envelope to one of the sockets and waits for its ack.
func (s *Server) transmit(e *envelope, open []*socket) {
	if e.firstAt.IsZero() {
		e.firstAt = time.Now()
	}
	e.sends++
	o := object{"envelope_id": e.id, "type": e.kind, "payload": e.payload, "accepts_response_payload": e.answers}
	if e.kind == "events_api" || e.attempt > 0 {
		reason := ""
		if e.attempt > 0 {
			reason = "timeout"
		}
		o["retry_attempt"], o["retry_reason"] = e.attempt, reason
	}
	s.stop(e.timer)
	e.timer = s.after(s.opt.AckTimeout, func() { s.overdue(e) })
	n := rand.IntN(len(open) + s.link.Foreign)
	if n >= len(open) {
		e.stolen, e.ack = true, &Ack{Attempts: e.sends}
		s.stop(e.timer)
		s.notify()
		return
	}
	if s.link.Deaf {
		return
	}
	e.sockets = append(e.sockets, open[n].id)
	open[n].send(o)
}

// overdue sends again what was not acked in time, or gives it up.
func (s *Server) overdue(e *envelope) {
	if e.ack != nil {
		return
	}
	e.late = true
	if e.attempt >= len(s.opt.Redeliver) {
		e.lost = true
		s.notify()
		return
	}
	e.timer = s.after(s.opt.Redeliver[e.attempt], func() {
		if e.ack == nil {
			e.attempt++
			s.route(e)
		}
	})
}

// flush sends what has waited for a socket.
func (s *Server) flush() {
	waiting := s.queued
	s.queued = nil
	for _, e := range waiting {
		if e.sends == 0 && e.attempt == 0 {
			e.attempt = 1 // the first attempt found no socket
		}
		s.route(e)
	}
}

// DropQueued forgets what waits for a socket, as Slack does after some minutes, and says how much it was.
func (s *Server) DropQueued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.queued)
	for _, e := range s.queued {
		e.lost, e.dropped = true, true
	}
	s.queued = nil
	s.notify()
	return n
}

// Repeat sends an envelope again exactly as it was, acked or not.
func (s *Server) Repeat(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, open := s.envelopes[id], s.openSockets()
	if e == nil || len(open) == 0 {
		return fmt.Errorf("slacktest: no envelope %q, or no socket", id)
	}
	s.transmit(e, open)
	return nil
}

// heard reads a frame of a client.
func (s *Server) heard(k *socket, data []byte) {
	var in struct {
		ID      string          `json:"envelope_id"`
		Payload json.RawMessage `json:"payload"`
	}
	if json.Unmarshal(data, &in) != nil || in.ID == "" {
		s.stray.Garbage++
		s.notify()
		return
	}
	e := s.envelopes[in.ID]
	if e == nil || s.link.AckSameSocket && !slices.Contains(e.sockets, k.id) {
		s.stray.Unknown++
		s.notify()
		return
	}
	e.acks++
	if e.ack != nil {
		return
	}
	e.ack = &Ack{After: time.Since(e.firstAt), Attempts: e.sends, Payload: in.Payload}
	e.late = e.late || e.ack.After > s.opt.AckTimeout
	s.stop(e.timer)
	if e.onAnswer != nil {
		e.onAnswer(in.Payload)
	}
	s.notify()
}

// AwaitAck returns when the app has acked an envelope. It fails when Slack has given the envelope up.
func (s *Server) AwaitAck(ctx context.Context, envelope string) (Ack, error) {
	var ack *Ack
	var lost bool
	if err := s.wait(ctx, func() bool {
		e := s.envelopes[envelope]
		if e == nil {
			lost = true
			return true
		}
		ack, lost = e.ack, e.lost
		return lost || ack != nil
	}); err != nil {
		return Ack{}, err
	}
	if ack == nil {
		return Ack{}, errLost
	}
	return *ack, nil
}
