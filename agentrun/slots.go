package agentrun

import (
	"context"
	"slices"
	"time"
)

// idlePatience is how long an idle CLI may take to end by itself; it needs 20 ms (measured).
const idlePatience = 2 * time.Second

// waiter is a turn in line for a process.
type waiter struct {
	turn  *Turn
	ready chan struct{} // closed when a slot is its own
}

// keeper holds the process of a session between two turns.
type keeper struct {
	r       *Runner
	p       *process
	since   time.Time
	give    chan *process // to the next turn of the session
	evict   chan struct{} // closed to make room
	evicted bool          // guarded by Runner.mu
	done    chan struct{} // closed when the process is given away, or nothing of it is left
}

// obtain returns a process for the turn: the idle one of its session, or a new one as soon as there is a slot.
func (r *Runner) obtain(ctx context.Context, t *Turn, s *session) (*process, error) {
	p, err := r.reuse(ctx, t, s)
	if p != nil || err != nil {
		return p, err
	}
	if err := r.queue(ctx, t); err != nil {
		return nil, err
	}
	r.shut(ctx, t)
	p, err = r.start(ctx, s, t.prompt)
	if err != nil {
		r.free()
		return nil, err
	}
	return p, nil
}

// reuse returns the idle process of the turn's session, or nil once none is left of it. One of another model is ended: a
// new one resumes. Who stops the turn does not wait for that end; it is the keeper's.
func (r *Runner) reuse(ctx context.Context, t *Turn, s *session) (*process, error) {
	if ctx.Err() != nil {
		return nil, because(ctx)
	}
	r.mu.Lock()
	k := s.keeper
	if k == nil {
		r.mu.Unlock()
		return nil, nil
	}
	if k.p.model != t.prompt.Model {
		k.leave()
	}
	give := k.give
	if k.evicted {
		give = nil
	}
	r.mu.Unlock()
	select {
	case p := <-give:
		return p, nil
	case <-k.done:
		return nil, nil
	case <-ctx.Done():
		return nil, because(ctx)
	}
}

// queue waits in line until a slot is the turn's own.
func (r *Runner) queue(ctx context.Context, t *Turn) error {
	if ctx.Err() != nil {
		return because(ctx)
	}
	r.mu.Lock()
	if r.live < r.cfg.Live && len(r.line) == 0 {
		r.live++
		r.mu.Unlock()
		return nil
	}
	w := &waiter{turn: t, ready: make(chan struct{})}
	r.line = append(r.line, w)
	t.events.add(Waiting{Place: len(r.line)})
	r.makeRoom()
	r.mu.Unlock()

	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	at := slices.Index(r.line, w)
	if at >= 0 {
		r.line = slices.Delete(r.line, at, at+1)
		r.callPlaces(at)
	}
	r.mu.Unlock()
	if at < 0 {
		r.free() // the slot came at the same moment
	}
	return because(ctx)
}

// callPlaces tells the line from place at on where they stand now; r.mu is held.
func (r *Runner) callPlaces(at int) {
	for i, w := range r.line[at:] {
		w.turn.events.add(Waiting{Place: at + i + 1})
	}
}

// free hands a slot to the first in line.
func (r *Runner) free() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.line) == 0 {
		r.live--
		return
	}
	close(r.line[0].ready)
	r.line = r.line[1:]
	r.callPlaces(0)
}

// makeRoom ends idle processes, the longest idle first, as many as turns wait; r.mu is held.
func (r *Runner) makeRoom() {
	var idle []*keeper
	need := len(r.line)
	for _, s := range r.sessions {
		switch {
		case s.keeper == nil:
		case s.keeper.evicted:
			need--
		default:
			idle = append(idle, s.keeper)
		}
	}
	slices.SortFunc(idle, func(a, b *keeper) int { return a.since.Compare(b.since) })
	for _, k := range idle[:max(0, min(need, len(idle)))] {
		k.leave()
	}
}

// leave has the keeper end its process; Runner.mu is held.
func (k *keeper) leave() {
	if !k.evicted {
		k.evicted = true
		close(k.evict)
	}
}

// park leaves the process to a keeper until the session's next turn. It is called by the turn, which counts in r.wg.
func (r *Runner) park(s *session, p *process) {
	k := &keeper{
		r: r, p: p, since: time.Now(), give: make(chan *process), evict: make(chan struct{}), done: make(chan struct{}),
	}
	r.mu.Lock()
	s.keeper = k
	if p.spent || r.closed {
		k.leave()
	}
	r.makeRoom()
	r.wg.Add(1)
	r.mu.Unlock()
	go func() {
		defer r.wg.Done()
		k.run(s)
	}()
}

// forget drops a session that has neither turn nor process; r.mu is held.
func (r *Runner) forget(s *session) {
	if s.turns == 0 && s.keeper == nil {
		delete(r.sessions, s.id)
	}
}

// run reads the lines of an idle process until a turn takes it, or ends it.
func (k *keeper) run(s *session) {
	defer close(k.done)
	defer k.let(s)
	idle := time.NewTimer(k.r.cfg.IdleTimeout)
	defer idle.Stop()
	ended := false
	for wait := true; wait; {
		select {
		case k.give <- k.p:
			return
		case m, ok := <-k.p.lines:
			if q, is := m.(*askLine); is {
				_ = k.p.send(sayDeny(q.ID, denyOver)) // it fails only if the CLI has ended
			}
			ended, wait = !ok, ok
		case <-k.evict:
			wait = false
		case <-idle.C:
			wait = false
		case <-k.r.ctx.Done():
			wait = false
		}
	}
	if !ended {
		k.p.end(idlePatience)
	}
	k.r.bury(k.p)
	k.r.free()
}

// let makes way for the session's next process. An eviction that came too late is made good by another.
func (k *keeper) let(s *session) {
	k.r.mu.Lock()
	defer k.r.mu.Unlock()
	if s.keeper == k {
		s.keeper = nil
	}
	k.r.forget(s)
	k.r.makeRoom()
}
