package agentrun

import (
	"context"
	"slices"
	"syscall"
	"time"
)

// How long each step of a stop may take. A stop is to be proven within a second.
const (
	interruptLimit = 400 * time.Millisecond // until the CLI has answered an interrupt with a result
	sigintLimit    = 250 * time.Millisecond // until it has exited after SIGINT
	proofLimit     = 2 * time.Second        // until what was killed is gone
)

// Stopped is what a stop came to.
type Stopped struct {
	Ended  int           // processes of the turn, the CLI left out
	Left   []int         // pids that are still alive; empty is proof that nothing of the turn is left
	Remote bool          // an ssh was among the ended: what it started far away may run on
	Unread int           // messages that were said into the turn and had not been taken up
	Took   time.Duration // from the stop to the proof
}

// Stop ends the turn and proves that nothing of it is left on this machine. It may be called at any time and again: a
// turn in line leaves it, one that starts is not started, one that has ended is left as it is. When ctx is done first, Left
// names what is alive then.
func (t *Turn) Stop(ctx context.Context) Stopped {
	began := time.Now()
	t.cancel(ErrStopped)
	select {
	case <-t.proven:
		return t.stopped
	case <-ctx.Done():
		left := t.r.kinOf(t.prompt.Session).pids()
		return Stopped{Left: left, Took: time.Since(began)}
	}
}

// halt ends a turn whose context is done. The gate is shut since then. The CLI is kept if it obeys: it says whether it
// still runs.
func (d *drive) halt() (alive bool) {
	began := time.Now()
	found := newTally()
	defer func() { d.prove(found, began) }()
	found.look(d.p.kin) // the CLI is quick to kill its command; the count is of before
	// Without cancel_queued what people said in the meantime would run next (measured with CLI 2.1.330).
	const id = "stop"
	sent := d.p.send(sayControl(id, "interrupt", map[string]any{"cancel_queued": true})) == nil
	// At once: a command that ignores SIGTERM outlives the result by 1.5 s.
	found.sweep(d.p.kin)
	if sent && d.obeyed(id) {
		return true
	}
	// SIGINT, not SIGTERM: by version, the latter may leave a running command behind.
	d.p.signal(syscall.SIGINT)
	found.sweep(d.p.kin)
	if !d.p.drain(sigintLimit, d.show) {
		found.sweep(d.p.kin)
		d.p.kill(d.show)
	}
	d.forget()
	return false
}

// abandon ends a CLI that failed the turn, or what one that has died left running.
func (d *drive) abandon() {
	began := time.Now()
	found := newTally()
	found.sweep(d.p.kin) // while the family tree still hangs together
	d.p.signal(syscall.SIGKILL)
	d.p.end(0)
	d.forget()
	d.prove(found, began)
}

// forget takes an ended CLI for gone, so that whatever has its mark is a stray. An undead one is left.
func (d *drive) forget() {
	if !d.p.undead {
		d.p.kin.root.pid = 0
	}
}

// prove sweeps until nothing is left, and says what that came to.
func (d *drive) prove(found *tally, began time.Time) {
	found.prove(d.p.kin)
	d.p.swept.merge(found)
	d.t.stopped = found.stopped(d.p, time.Since(began))
	d.t.stopped.Unread = d.t.unread()
}

// obeyed waits until the CLI has answered the interrupt and nothing of ours runs in it any more.
func (d *drive) obeyed(id string) bool {
	answered := false
	closed := d.p.drain(interruptLimit, func(m any) bool {
		d.show(m)
		if res, ok := m.(*responseLine); ok && res.Response.ID == id {
			answered = res.Response.Subtype == "success"
			if c := cancelled(res.Response.Response); slices.Contains(c, d.t.uuid) {
				d.running, d.mine = false, true
			}
		}
		return answered && d.mine && !d.running
	})
	return !closed && answered && d.mine && !d.running
}

// show passes on how a turn that is being stopped ends: with the results of the commands that were cut short.
func (d *drive) show(m any) bool {
	switch m := m.(type) {
	case *lifecycleLine:
		if m.ID == d.t.uuid {
			switch m.State {
			case "started":
				d.mine, d.running = true, true
			case "cancelled":
				d.mine, d.running = true, false
			}
		}
	case *resultLine:
		d.running = false
	case *retryLine:
	default:
		for _, e := range d.reader.read(m, time.Now()) {
			d.t.events.add(e)
		}
	}
	return false
}

// prove sweeps until nothing is left.
func (t *tally) prove(k kin) {
	ctx, cancel := context.WithTimeout(context.Background(), proofLimit)
	defer cancel()
	t.hunt(ctx, k)
}

// stopped is the tally in the words of a stop. An undead CLI is left, and so is what may be of the turn. Where /proc could
// not be read nothing is proven: the CLI stands for what may be left.
func (t *tally) stopped(p *process, took time.Duration) Stopped {
	s := Stopped{Ended: t.ended(), Left: slices.Concat(t.left, t.may), Remote: t.ssh, Took: took}
	if p.undead || t.err != nil && len(s.Left) == 0 {
		s.Left = append(s.Left, p.kin.root.pid)
	}
	return s
}

// merge takes over what another tally found, to reap it when the CLI has ended.
func (t *tally) merge(from *tally) {
	for p := range from.seen {
		t.seen[p] = true
	}
}

// pids is what of k is alive now, or may be of it.
func (k kin) pids() []int {
	all, err := census()
	if err != nil {
		return []int{k.root.pid}
	}
	var out []int
	found, doubtful := k.of(all)
	for _, p := range append(found, doubtful...) {
		out = append(out, p.pid)
	}
	return out
}
