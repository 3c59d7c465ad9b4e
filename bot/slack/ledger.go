package slack

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bgbot/bot"
)

// ledger is how far the channel was read and what of it the core has: it says what still has to be read back after a gap.
// It is kept as one value, so that its parts never disagree. What arrives live does not move the mark: only reading back
// does, since something said before it may still be on its way.
type ledger struct {
	mu    sync.Mutex // guards what follows
	s     strip
	dirty bool
}

// strip is the ledger as it is kept.
type strip struct {
	From    string            `json:"from"`    // nothing said before this is ever read
	Mark    string            `json:"mark"`    // everything said up to here was read
	Taken   map[string]bool   `json:"taken"`   // messages since shortly before the mark that the core has, or that were refused
	Threads map[string]string `json:"threads"` // where people spoke lately: what began the thread, and the newest that they said
	Alive   int64             `json:"alive"`   // when we were connected last, in seconds
}

const (
	threadsKept = 20             // the newest
	threadLife  = 24 * time.Hour // without a word of a person
	overlap     = 30 * time.Second
)

// load reads what an earlier process kept; fresh says that there is nothing. now is Slack's time: a mark ahead of it would
// pass over all that is said until then.
func (l *ledger) load(kept string, now time.Time) (fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s = strip{}
	err := json.Unmarshal([]byte(kept), &l.s)
	if _, ok := moment(l.s.Mark); err != nil || !ok {
		l.s, fresh = strip{From: stamp(now), Mark: stamp(now)}, true
	}
	if l.s.Mark > stamp(now) {
		l.s.Mark = stamp(time.Unix(min(l.s.Alive, now.Unix()), 0))
	}
	l.s.From = min(l.s.From, stamp(now))
	if l.s.Taken == nil {
		l.s.Taken = map[string]bool{}
	}
	if l.s.Threads == nil {
		l.s.Threads = map[string]string{}
	}
	l.dirty = true
	return fresh
}

// took notes what the core has recorded: a message, or a click in a thread, where more may be said.
func (l *ledger) took(m bot.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := stamp(m.At)
	if _, message := moment(m.ID); message {
		newest = m.ID
		l.s.Taken[newest] = true
	}
	thread := cmp.Or(m.Place.Thread, m.Card)
	if _, ok := moment(thread); ok {
		l.s.Threads[thread] = max(l.s.Threads[thread], newest)
	}
	l.dirty = true
}

// refused notes a message whose refusal is final: what its author was told must stay true.
func (l *ledger) refused(ts string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.Taken[ts], l.dirty = true, true
}

// done says that a message needs no reading: the core has it, it was refused, or it was said when nobody could act.
func (l *ledger) done(ts string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s.Taken[ts] || ts < l.s.From
}

// since is the mark, less what Slack may show late.
func (l *ledger) since() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(before(l.s.Mark, overlap), l.s.From)
}

// before is a timestamp some time earlier.
func before(ts string, d time.Duration) string {
	at, _ := moment(ts)
	return stamp(at.Add(-d))
}

// threads are those in which people spoke lately.
func (l *ledger) threads() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.s.Threads))
}

// knows says that the core has something that was said in a thread.
func (l *ledger) knows(thread string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s.Threads[thread] != ""
}

// readUpTo moves the mark forward and forgets what lies behind it.
func (l *ledger) readUpTo(ts string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ts > l.s.Mark {
		l.s.Mark = ts
	}
	l.dirty = true
	keep := before(l.s.Mark, 2*overlap)
	maps.DeleteFunc(l.s.Taken, func(ts string, _ bool) bool { return ts < keep })
	dead := before(l.s.Mark, threadLife)
	maps.DeleteFunc(l.s.Threads, func(_, newest string) bool { return newest < dead })
	newest := slices.SortedFunc(maps.Keys(l.s.Threads), func(a, b string) int { return strings.Compare(l.s.Threads[b], l.s.Threads[a]) })
	for _, old := range newest[min(len(newest), threadsKept):] {
		delete(l.s.Threads, old)
	}
}

// skip passes over everything that was said until now.
func (l *ledger) skip(now time.Time) {
	l.readUpTo(stamp(now))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.From = l.s.Mark
}

// alive notes that we are connected, and returns when we were last, both by Slack's clock.
func (l *ledger) alive(now time.Time) (last time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.s.Alive > 0 {
		last = time.Unix(l.s.Alive, 0)
	}
	l.s.Alive, l.dirty = now.Unix(), true
	return last
}

// keep stores the ledger if it has changed.
func (l *ledger) keep(ctx context.Context, set func(ctx context.Context, key, value string), key string) {
	l.mu.Lock()
	if !l.dirty {
		l.mu.Unlock()
		return
	}
	value, err := json.Marshal(l.s)
	l.dirty = false
	l.mu.Unlock()
	if err == nil {
		set(ctx, key, string(value))
	}
}
