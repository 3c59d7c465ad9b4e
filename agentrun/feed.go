package agentrun

import "sync"

// feed is the way of events to who ranges over the turn. It never blocks the turn: a slow chat must not keep a stop or
// the gate waiting. Of events that replace each other only the newest is kept.
type feed struct {
	mu     sync.Mutex // guards the rest
	events []Event
	err    error
	closed bool
	more   chan struct{} // holds one token when there is something new
}

func newFeed() *feed { return &feed{more: make(chan struct{}, 1)} }

func (f *feed) add(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.events); n > 0 && replaces(e, f.events[n-1]) {
		f.events[n-1] = e
	} else {
		f.events = append(f.events, e)
	}
	f.wake()
}

func replaces(e, before Event) bool {
	switch e := e.(type) {
	case Text:
		b, ok := before.(Text)
		return ok && b.Partial && b.ID == e.ID
	case Waiting:
		_, ok := before.(Waiting)
		return ok
	default:
		return false
	}
}

func (f *feed) close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.closed = err, true
	f.wake()
}

func (f *feed) wake() {
	select {
	case f.more <- struct{}{}:
	default:
	}
}

// next waits for the next event; more is false at the end.
func (f *feed) next() (e Event, err error, more bool) { //nolint:revive // the error is a value here
	for {
		f.mu.Lock()
		if len(f.events) > 0 {
			e = f.events[0]
			f.events = f.events[1:]
			f.mu.Unlock()
			return e, nil, true
		}
		closed, err := f.closed, f.err
		f.mu.Unlock()
		if closed {
			return nil, err, false
		}
		<-f.more
	}
}
