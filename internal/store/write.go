package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// enqueue hands w to the writer; the caller holds mu and has changed memory already. After Close it is given up.
func (s *Store) enqueue(w *write) *write {
	if s.closed {
		w.lost = true
		close(w.done)
		return w
	}
	s.wrote = time.Now()
	w = s.queue.add(w)
	s.poke()
	return w
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it knows already
	}
}

// settled waits until w is on disk and says whether it is; false means that it is kept in memory for now.
func (s *Store) settled(ctx context.Context, w *write) bool {
	s.mu.Lock()
	ill, broken := s.health.ill(), s.health.broken
	s.mu.Unlock()
	if ill {
		return false
	}
	patience := time.NewTimer(s.patience)
	defer patience.Stop()
	select {
	case <-w.done:
		return !w.lost
	case <-broken:
	case <-ctx.Done():
	case <-patience.C:
		select {
		case <-w.done: // at the same moment for a caller whom a busy machine let wait, so the disk is not slow
			return !w.lost
		default:
		}
		s.late()
	}
	return false
}

// late notes that somebody waited in vain, so that the next ones do not wait at all. The poke makes the writer take it
// back as soon as it is free.
func (s *Store) late() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if !s.health.ill() {
		s.health.since = time.Now()
		s.log.Warn("store is slow", "path", s.path)
	}
	s.health.slow = true
	s.poke()
}

// ask has the writer run read, and gives up like settled does; a read that takes too long is stopped, for it keeps the
// writer from writing. A read sees what is on disk, and what waits only where read looks at the queue itself.
func ask[T any](ctx context.Context, s *Store, read func(context.Context, *sql.DB) (T, error)) (T, bool) {
	var none T
	s.mu.Lock()
	hopeless := s.closed || s.health.slow || s.health.deaf
	s.mu.Unlock()
	if hopeless {
		return none, false
	}
	patience := time.NewTimer(s.patience)
	defer patience.Stop()
	most := s.patience
	answer := make(chan T, 1)
	failed := make(chan struct{})
	job := func() { //nolint:contextcheck // the writer reads on its own time: the caller may be gone
		if err := s.connect(); err != nil {
			s.failed(err, true)
			close(failed)
			return
		}
		ctx, cancel := context.WithTimeout(s.work, most)
		defer cancel()
		switch v, err := read(ctx, s.db); {
		case err == nil:
			answer <- v
			return
		case ctx.Err() == nil:
			s.failed(err, true)
		}
		close(failed)
	}
	asks := s.asks
	for {
		select {
		case asks <- job:
			asks = nil
		case v := <-answer:
			return v, true
		case <-failed:
			return none, false
		case <-ctx.Done():
			return none, false
		case <-s.ended:
			return none, false
		case <-patience.C:
			select {
			case v := <-answer: // as in settled
				return v, true
			default:
			}
			s.late()
			return none, false
		}
	}
}

// run is the writer: the only goroutine that touches the file.
func (s *Store) run() {
	defer close(s.ended)
	defer s.unlock()
	defer s.disconnect()
	if !s.start() {
		return
	}
	for {
		wake := s.wake
		var retry <-chan time.Time
		if !s.retry.IsZero() { // no attempt before its time, however much waits
			wake, retry = nil, time.After(time.Until(s.retry))
		}
		select {
		case <-wake:
			s.flush()
		case <-retry:
			s.flush()
		case job := <-s.asks:
			job()
		case <-s.closing:
			s.flush()
			return
		}
	}
}

// start opens the file and tells Open; false means that Open gives up.
func (s *Store) start() bool {
	err := s.connect()
	fatal := err
	if !refused(err) {
		fatal = nil
	}
	if err != nil {
		s.failed(err, true)
	}
	select {
	case s.opened <- fatal:
		return fatal == nil
	case <-s.alone:
	case <-s.closing:
	}
	return true
}

// flush writes all that waits, or notes why it cannot.
func (s *Store) flush() {
	for {
		err := s.connect()
		s.mu.Lock()
		batch := s.queue.take()
		s.mu.Unlock()
		if err == nil {
			err = s.commit(batch)
		}
		s.mu.Lock()
		if err != nil {
			s.queue.back()
			s.mu.Unlock()
			s.failed(err, false)
			return
		}
		s.queue.landed()
		idle := s.queue.size() == 0
		s.mu.Unlock()
		if idle {
			break
		}
	}
	s.healed()
}

// commit makes one transaction of the batch. A write that the database itself refuses is given up and marked lost;
// the others must not wait for it for ever.
func (s *Store) commit(batch []*write) error {
	for {
		culprit, err := s.attempt(batch)
		if culprit == nil || !blame(err) {
			return err
		}
		culprit.lost = true
		s.log.Error("store refuses an entry", "path", s.path, "error", err)
	}
}

func (s *Store) attempt(batch []*write) (culprit *write, err error) {
	tx, err := s.db.BeginTx(s.work, nil)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	for _, w := range batch {
		if w.lost {
			continue
		}
		result, err := tx.ExecContext(s.work, w.query, w.args...) //nolint:gosec // G701: every query is a constant of this package
		if err != nil {
			return w, fmt.Errorf("write: %w", err)
		}
		if w.changed, err = result.RowsAffected(); err != nil {
			return nil, fmt.Errorf("write: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return nil, nil
}

// The first wait after a failure, and the longest.
const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 2 * time.Second
)

// failed notes a failure of the disk and when to try again.
func (s *Store) failed(err error, reading bool) {
	s.retry = time.Now().Add(min(backoffFirst<<min(s.tries, 10), backoffMost))
	s.tries++
	if damaged(err) {
		s.suspect = true
	}
	if !keepsConnection(err) {
		s.disconnect()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.health.fail(err)
	s.health.deaf = s.health.deaf || reading
	if news {
		s.log.Error("store fails, memory takes over", "path", s.path, "error", err)
	}
}

// healed ends the trouble, if there was one; all that waited is on disk.
func (s *Store) healed() {
	s.retry, s.tries = time.Time{}, 0
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.health.ill() {
		s.log.Info("store works again", "path", s.path, "after", time.Since(s.health.since).Round(time.Millisecond), "lost", s.queue.lost)
	}
	s.health.heal()
	lost := s.queue.lost
	s.queue.lost = 0
	if lost > 0 {
		s.own("lost", entries(lost)+" could not be written")
	}
	if lost > 0 && !s.mended {
		s.rewrite() // memory still knows the state; only history is really lost
	}
	s.mended = lost > 0 // once: a memory that does not fit into the queue would be written for ever
}

// own records what the store itself has to say; the caller holds mu.
func (s *Store) own(outcome, text string) {
	s.enqueue(recordWrite(Entry{At: time.Now(), Actor: "bgbot", Act: "store", Subject: s.path, Outcome: outcome, Text: text}))
}
