package slack

import (
	"context"
	"slices"
	"time"
)

// receive is given every text frame of every socket. It does nothing that lasts: a reader that waits is a deaf socket.
func (l *link) receive(ctx context.Context, s *socket, data []byte) {
	f, err := parseFrame(data)
	e := envelope{
		ID: f.EnvelopeID, Type: f.Type, Payload: f.Payload, Attempt: f.RetryAttempt, Reason: f.RetryReason,
		AcceptsPayload: f.AcceptsPayload, Received: time.Now(), from: s,
	}
	switch {
	case err == nil && f.Type == "hello":
		l.greet(s, f)
	case err == nil && f.Type == "disconnect":
		l.part(s, f.Reason)
	case err == nil && e.ID != "" && envelopeKinds[e.Type]:
		l.accept(ctx, e)
	case e.ID != "":
		l.log.WarnContext(ctx, "an envelope that cannot be understood is acknowledged and dropped", "type", e.Type, "envelope", e.ID, "bytes", len(data), "err", err)
		l.ack(ctx, e, nil)
	default:
		l.log.WarnContext(ctx, "a frame that cannot be understood is dropped", "type", e.Type, "bytes", len(data), "err", err)
	}
}

// accept queues an envelope for take. If there is no room, it is left to Slack to send it again, and people are told.
func (l *link) accept(ctx context.Context, e envelope) {
	if ctx.Err() != nil {
		return // the next start gets it
	}
	select {
	case l.queue <- e:
		return
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.miss(e)
	if !l.shedding {
		l.shedding = true
		l.say("⚠️ I cannot record what Slack sends as fast as it comes.\nWhat I leave now, Slack sends again within minutes; the log says more.")
	}
}

// miss notes that an envelope was not recorded. Called with mu held.
func (l *link) miss(e envelope) {
	if l.unheard == nil {
		l.unheard = &e.Received
	}
}

// takeAll has envelopes recorded, one by one, and acknowledges them. At the end it goes on for a moment with those that
// are here: a command that nobody acknowledges fails before the eyes of the person who typed it.
func (l *link) takeAll(ctx context.Context, take func(context.Context, envelope) ([]byte, error)) {
	going := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		select {
		case e := <-l.queue:
			l.takeOne(going, e, take)
		case <-ctx.Done():
		}
	}
	finish, cancel := context.WithTimeout(going, l.timing.finish)
	defer cancel()
	for finish.Err() == nil {
		select {
		case e := <-l.queue:
			l.takeOne(finish, e, take)
		default:
			return
		}
	}
}

func (l *link) takeOne(ctx context.Context, e envelope, take func(context.Context, envelope) ([]byte, error)) {
	bounded, cancel := context.WithTimeout(ctx, l.timing.take)
	defer cancel()
	stuck := time.AfterFunc(l.timing.take, func() {
		l.say("⚠️ Recording a message takes longer than " + l.timing.take.String() + ", and those behind it wait.\nThe log says more.")
	})
	answer, err := take(bounded, e)
	stuck.Stop()
	if err != nil {
		l.log.ErrorContext(ctx, "an envelope was not recorded, slack sends it again", "type", e.Type, "envelope", e.ID, "attempt", e.Attempt, "err", err)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.miss(e)
		return
	}
	l.ack(ctx, e, answer)
	l.recovered()
}

// recovered has the time read back in which envelopes were not recorded: Slack gives up after a few attempts.
func (l *link) recovered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.shedding = false
	}
	if l.unheard != nil && !l.shedding {
		l.owe(*l.unheard)
		l.unheard = nil
	}
}

// ack acknowledges an envelope, on the socket on which it came if that still lives, else on any. If there is none just
// now, the next one gets it: Slack takes it there too, or sends the envelope again, and then it is known.
func (l *link) ack(ctx context.Context, e envelope, answer []byte) {
	frame, err := e.ack(answer)
	if err != nil {
		l.log.ErrorContext(ctx, "an envelope is acknowledged without its answer", "type", e.Type, "envelope", e.ID, "err", err)
	}
	tried := append([]*socket{e.from}, l.held()...)
	if slices.ContainsFunc(tried, func(s *socket) bool { return !s.over() && s.write(frame) == nil }) {
		return
	}
	l.mu.Lock()
	if len(l.unsent) < linkQueue {
		l.unsent = append(l.unsent, unsent{frame, e.Received})
	}
	l.mu.Unlock()
	for _, s := range l.held() {
		if !slices.Contains(tried, s) { // it came just now, and may have looked for such before this was one
			l.ackLate(s)
			return
		}
	}
}

// unsent is an acknowledgement that found no socket.
type unsent struct {
	frame    []byte
	received time.Time
}

// patience is how long Slack waits for an acknowledgement before it sends the envelope again; the person who typed a
// command sees an error then.
const patience = 3 * time.Second

// ackLate sends on a new socket what found none before, as far as Slack still waits for it.
func (l *link) ackLate(s *socket) {
	l.mu.Lock()
	waiting := l.unsent
	l.unsent = nil
	l.mu.Unlock()
	for _, u := range waiting {
		if time.Since(u.received) < patience && s.write(u.frame) != nil {
			return
		}
	}
}
