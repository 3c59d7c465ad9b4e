package store

// The bounds of what waits in memory for the disk. One write of any size always fits.
const (
	mostWaiting = 10_000
	mostBytes   = 16 << 20
)

// The bounds of one transaction, so that a long backlog is written in steps that each succeed.
const (
	batchWrites = 256
	batchBytes  = 1 << 20
)

// rank is what goes first when the queue is full: the lower one.
type rank int

const (
	state   rank = iota // where things stand: the next write of the row mends the loss
	history             // what happened: a record, a seen message
	consent             // a confirmation: its loss could let it be used twice
)

// write is one statement that waits for the disk.
type write struct {
	key    any // the row; a later write of the same row takes the place of one that still waits. nil: never merged
	query  string
	args   []any
	rank   rank
	weight int    // bytes, about
	entry  *Entry // of a record

	flying bool // the writer is at it

	// Closed when the write is on disk or given up; then the two below are set.
	done    chan struct{}
	changed int64 // rows
	lost    bool
}

func newWrite(key any, r rank, query string, args ...any) *write {
	w := &write{key: key, rank: r, query: query, args: args, weight: 128, done: make(chan struct{})}
	for _, a := range args {
		if text, ok := a.(string); ok {
			w.weight += len(text)
		}
	}
	return w
}

// queue is what waits for the disk, in order. The caller locks.
type queue struct {
	most    int // writes that may wait
	waiting []*write
	flying  []*write // taken by the writer, not known to be on disk
	latest  map[any]*write
	weight  int // of waiting
	lost    int // given up since the last time that was told
}

func (q *queue) size() int { return len(q.waiting) + len(q.flying) }

func (q *queue) has(key any) bool { return q.latest[key] != nil }

// add returns the write to wait for: w, or the one that w was merged into.
func (q *queue) add(w *write) *write {
	if w.key != nil {
		if old := q.latest[w.key]; old != nil && !old.flying {
			q.weight += w.weight - old.weight
			old.query, old.args, old.weight = w.query, w.args, w.weight
			q.shed()
			return old
		}
		q.latest[w.key] = w
	}
	q.waiting = append(q.waiting, w)
	q.weight += w.weight
	q.shed()
	return w
}

// first has w written before all that waits.
func (q *queue) first(w *write) {
	q.waiting = append([]*write{w}, q.waiting...)
	q.weight += w.weight
}

func (q *queue) shed() {
	for len(q.waiting) > 1 && (len(q.waiting) > q.most || q.weight > mostBytes) {
		first := 0
		for i, w := range q.waiting {
			if w.rank < q.waiting[first].rank {
				first = i
			}
		}
		w := q.waiting[first]
		q.waiting = append(q.waiting[:first], q.waiting[first+1:]...)
		q.weight -= w.weight
		w.lost = true
		q.end(w)
	}
}

// take hands the writer the oldest writes that fit into one transaction.
func (q *queue) take() []*write {
	n, weight := 0, 0
	for n < len(q.waiting) && n < batchWrites && (n == 0 || weight+q.waiting[n].weight <= batchBytes) {
		weight += q.waiting[n].weight
		q.waiting[n].flying = true
		n++
	}
	q.flying = append([]*write(nil), q.waiting[:n]...)
	clear(q.waiting[:n]) // or the texts stay reachable
	q.waiting = q.waiting[n:]
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	q.weight -= weight
	return q.flying
}

// back returns what could not be written to its place.
func (q *queue) back() {
	for _, w := range q.flying {
		w.flying = false
		q.weight += w.weight
	}
	q.waiting = append(q.flying, q.waiting...)
	q.flying = nil
	q.shed()
}

// landed ends what was taken: it is on disk, or given up as lost.
func (q *queue) landed() {
	for _, w := range q.flying {
		q.end(w)
	}
	q.flying = nil
}

func (q *queue) end(w *write) {
	if w.lost {
		q.lost++
	}
	if w.key != nil && q.latest[w.key] == w {
		delete(q.latest, w.key)
	}
	close(w.done)
}
