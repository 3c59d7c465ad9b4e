package bot

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lane is where calls of one kind wait until they may start. Calls of one line (a place for posts, a message for edits)
// follow each other in the order in which they came, one at a time; of several lines the one that is due first goes first.
type lane struct {
	mu      sync.Mutex // guards what follows
	pace    pace
	silent  time.Time // nothing starts before this: the service said so
	tickets []*ticket // in the order in which they came, those under way too

	took atomic.Int64 // calls of this kind that the chat took
}

// ticket is one call in a lane, from the first try to the last.
type ticket struct {
	line   any       // comparable
	due    time.Time // a line is due when the first of its calls is, so that nothing that can wait holds up what cannot
	urgent bool      // it keeps to the limits only, not to the spacing
	away   bool      // the call is under way
	wake   chan struct{}
}

// join asks for a call that is due in so long, or was so long ago. The caller has to leave.
func (l *lane) join(line any, due time.Duration) *ticket {
	t := &ticket{line: line, due: time.Now().Add(due), urgent: due < 0, wake: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tickets = append(l.tickets, t)
	l.rouse()
	return t
}

func (l *lane) leave(t *ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tickets = slices.DeleteFunc(l.tickets, func(o *ticket) bool { return o == t })
	l.rouse()
}

// slot waits until the call may start, each time it is tried.
func (l *lane) slot(ctx context.Context, t *ticket) error {
	l.mu.Lock()
	t.away = false
	l.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		wait, started := l.start(t)
		if started {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// start begins the call if its time has come, or says how long it has to wait.
func (l *lane) start(t *ticket) (wait time.Duration, started bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first() != t {
		return time.Hour, false // it is woken
	}
	if wait = time.Until(latest(l.silent, l.pace.next(t.urgent))); wait > 0 {
		return wait, false
	}
	l.pace.take(time.Now())
	t.away = true
	l.rouse()
	return 0, true
}

// rouse wakes whoever is first now.
func (l *lane) rouse() {
	if t := l.first(); t != nil {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// first is the call that goes next.
func (l *lane) first() (first *ticket) {
	due, head := map[any]time.Time{}, map[any]*ticket{}
	for _, t := range l.tickets {
		if at, ok := due[t.line]; !ok || t.due.Before(at) {
			due[t.line] = t.due
		}
		if head[t.line] == nil {
			head[t.line] = t
		}
	}
	for _, t := range l.tickets {
		if t == head[t.line] && !t.away && (first == nil || due[t.line].Before(due[first.line])) {
			first = t
		}
	}
	return first
}

// hold lets nothing start for a while.
func (l *lane) hold(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = latest(l.silent, time.Now().Add(d))
	l.pace.slow()
}

// free says that a call could start now, and that nobody else waits for it.
func (l *lane) free() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first() == nil && !time.Now().Before(latest(l.silent, l.pace.next(false)))
}
