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
	take    chan struct{} // closed by the next turn of the session
	evict   chan struct{} // closed to make room
	evicted bool          // guarded by Runner.mu
	alive   bool          // valid once done is closed: the process is the taker's
	done    chan struct{}
}

// obtain returns a process for the turn: the idle one of its session, or a new one as soon as there is a slot.
func (r *Runner) obtain(ctx context.Context, t *Turn, s *session) (*process, error) {
	r.mu.Lock()
	k := s.keeper
	if k != nil && !k.evicted {
		s.keeper = nil
		close(k.take)
	}
	r.mu.Unlock()
	slot := false
	if k != nil {
		switch <-k.done; {
		case k.alive && ctx.Err() != nil:
			r.park(s, k.p)
			return nil, because(ctx)
		case k.alive && k.p.model == t.prompt.Model:
			return k.p, nil
		case k.alive:
			// A new model means a new process that resumes; it inherits the slot.
			k.p.end(idlePatience)
			r.bury(k.p)
			slot = true
		}
	}
	if !slot {
		if err := r.queue(ctx, t); err != nil {
			return nil, err
		}
	}
	p, err := r.start(ctx, s, t.prompt)
	if err != nil {
		r.free()
		return nil, err
	}
	return p, nil
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
		k.evicted = true
		close(k.evict)
	}
}

// park leaves the process to a keeper until the session's next turn. It is called by the turn, which counts in r.wg.
func (r *Runner) park(s *session, p *process) {
	k := &keeper{
		r: r, p: p, since: time.Now(), take: make(chan struct{}), evict: make(chan struct{}), done: make(chan struct{}),
	}
	r.mu.Lock()
	s.keeper = k
	if p.spent || r.closed {
		k.evicted = true
		close(k.evict)
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
	idle := time.NewTimer(k.r.cfg.IdleTimeout)
	defer idle.Stop()
	ended := false
	for wait := true; wait; {
		select {
		case <-k.take:
			k.alive = true
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
	k.r.mu.Lock()
	if s.keeper == k {
		s.keeper = nil
	}
	k.r.forget(s)
	k.r.mu.Unlock()
	k.r.free()
}
