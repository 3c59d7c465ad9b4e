package agentrun

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

// Turn is one prompt on its way to its result. Its methods may be called from many goroutines at once.
type Turn struct {
	r      *Runner
	prompt Prompt
	uuid   string
	gate   Gate
	began  time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc
	events *feed
	proven chan struct{} // closed when stopped is valid
	done   chan struct{} // closed when the turn has let go of everything

	stopped Stopped

	asking sync.WaitGroup // the gate's goroutines

	mu      sync.Mutex // guards the rest
	proc    *process   // nil before the prompt is written
	over    bool
	early   []said            // said before the prompt could be written
	waiting map[string]string // uuid to id of what was said and not yet taken up
}

// said is a message that joins a running turn.
type said struct{ uuid, id, text string }

// Events yields what happens, until the turn is over. An error comes at most once, last, and means that the turn did not
// end by itself: the cause of its context, or an [*Ended]; each has a UserMessage. A turn goes on when nobody ranges
// over it. Only one loop may do so.
func (t *Turn) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			e, err, more := t.events.next()
			if err != nil {
				yield(nil, err)
				return
			}
			if !more || !yield(e, nil) {
				return
			}
		}
	}
}

// Say folds a message of a person into the running turn; a [Folded] event tells when the agent has taken it up. If it
// comes too late for that, the turn goes on and answers it too. It returns [ErrOver] when the turn has ended. The same
// id is never said twice in a session.
func (t *Turn) Say(_ context.Context, id, text string) error {
	s := said{uuid: t.r.uuid(t.prompt.Session, id), id: id, text: text}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.ctx.Err() != nil {
		return ErrOver
	}
	if t.proc == nil {
		t.early = append(t.early, s)
		return nil
	}
	return t.tell(s)
}

// tell writes s to the CLI; t.mu is held.
func (t *Turn) tell(s said) error {
	if t.proc.seen[s.uuid] {
		return nil
	}
	if err := t.proc.send(sayUser(s.uuid, s.text)); err != nil {
		return ErrOver
	}
	t.proc.seen[s.uuid] = true
	t.waiting[s.uuid] = s.id
	return nil
}

// begin writes the prompt, and what was said while it waited.
func (t *Turn) begin(p *process) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.used = true
	if p.seen[t.uuid] {
		return ErrRepeated
	}
	p.seen[t.uuid] = true
	if err := p.send(sayUser(t.uuid, t.prompt.Text)); err != nil {
		return nil // it has ended or hangs: its last lines, or their absence, tell more
	}
	t.proc = p
	for _, s := range t.early {
		if err := t.tell(s); err != nil {
			return nil
		}
	}
	return nil
}

// taken follows a message that was said into this turn. ours is false for any other.
func (t *Turn) taken(m *lifecycleLine) (id string, ours bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ours = t.waiting[m.ID]
	if ours && m.State != "queued" {
		delete(t.waiting, m.ID)
	}
	return id, ours
}

// unread is how many messages were said into this turn and not taken up.
func (t *Turn) unread() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.proc == nil {
		return len(t.early)
	}
	return len(t.waiting)
}

// closeIfQuiet refuses more messages, unless one still waits to be taken up.
func (t *Turn) closeIfQuiet() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.over = true
	}
	return t.over
}

// close refuses more messages.
func (t *Turn) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

// run is the life of a turn; its error is the last word of its events.
func (t *Turn) run(s *session) error {
	select {
	case s.turn <- struct{}{}:
	case <-t.ctx.Done():
		return because(t.ctx)
	}
	defer func() { <-s.turn }()
	if err := t.r.claim(); err != nil {
		return err
	}
	p, err := t.r.obtain(t.ctx, t, s)
	if err != nil {
		return err
	}
	d := newDrive(t, p)
	alive := false
	switch err = d.run(); {
	case err == nil:
		d.strays()
		alive = true
	case errors.Is(err, ErrRepeated):
		alive = true
	case t.ctx.Err() != nil:
		err = because(t.ctx)
		alive = d.halt()
	default:
		d.abandon()
	}
	t.close()
	close(t.proven)
	for _, e := range d.reader.abandoned(time.Now()) {
		t.events.add(e)
	}
	if err == nil {
		t.events.add(*d.result)
	}
	if alive {
		t.r.park(s, p)
		return err
	}
	t.r.bury(p)
	t.r.free()
	return err
}

// finish is the last act of a turn, also of one that never had a process.
func (t *Turn) finish(err error) {
	t.close()
	select {
	case <-t.proven:
	default:
		t.stopped.Unread = t.unread()
		close(t.proven)
	}
	t.events.close(err)
	t.cancel(err)
	t.asking.Wait()
	close(t.done)
}
