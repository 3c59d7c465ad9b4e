// Package store keeps what must survive a restart of the bot: messages seen, threads and their sessions, turns in
// flight, confirmations, operations, cursors, and a record of each decision and command. It imports nothing of ours
// and knows no chat and no VM.
//
// How it works, and what was decided:
//
//   - Memory is the truth of this process: one process owns the file (a lock beside it), and every question that a
//     verb or a stop asks is answered from memory. SQLite is the durable log behind it. One goroutine, the writer,
//     owns the only connection and writes in order, as many waiting writes in one transaction as there are.
//   - A method that writes waits until its write is on disk (synced), but never longer than [Patience], and not at all
//     while the store is in trouble. A done context ends the wait, never the write. So with a healthy disk "record, then
//     ack, then act" holds, and with a broken, full or hung one nothing is held up.
//   - Writes that could not be made wait in memory, in order and bounded, and are tried again with back-off until the
//     disk takes them. Rows written twice meanwhile are merged. If the bound is reached, the oldest state rows go
//     first, for memory has them and writes them all when the disk is back, then the oldest records and seen messages,
//     and confirmations last; how many were lost is told, logged, and recorded. What waits in memory is lost when the process is killed: that is the price of not blocking.
//   - A damaged file is moved aside to NAME.corrupt-TIME and a new one is started, because refusing to start at 3 a.m.
//     is worse than losing history. A file that was not made by bgbot, or by a newer one, is refused and left alone.
//   - A confirmation is used at most once in this process whatever the disk does; the disk has a say as well (a
//     conditional write), for the time before this process and for a second replica later.
//   - The file is bounded too: what is too old is thrown away in small steps when nobody writes (age.go), and SQLite puts new
//     rows into the pages that this frees. So the file does not shrink, but it stops growing; to hand pages back to the disk
//     (auto_vacuum) would move others about with each step, for nothing. Who is refused on and on is counted (refusals.go).
//   - Memory is bounded: what is open or recent is held, older rows are looked up on disk when asked for. A confirmation
//     that only the disk knows while it does not answer is [ErrUnread], never [ErrUnknown], and does nothing.
//   - SQL statements are written so that PostgreSQL takes them too; another dialect is another URL scheme, another
//     folder of migrations and other place holders. It is not built.
//   - The records may be hash-chained later: the writer is the only place that writes them, one after the other.
package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Patience is the longest that any method but Open and Close keeps its caller waiting for the disk.
const Patience = 150 * time.Millisecond

// Place is where a conversation happens; its fields are those of bot.Place, so that one converts to the other.
type Place struct {
	Chat    string
	Channel string
	Thread  string
}

// Store is the bot's memory and its file. All methods may be called from many goroutines at once, also after Close;
// then they work on memory alone. Times come back in UTC.
type Store struct {
	path string
	log  *slog.Logger

	work    context.Context // of every statement; ended by Close when the disk hangs
	cancel  context.CancelFunc
	wake    chan struct{} // tells the writer that something waits
	asks    chan func()   // reads, run by the writer
	opened  chan error    // from the writer to Open
	alone   chan struct{} // closed when Open waits no more
	closing chan struct{}
	ended   chan struct{} // closed when the writer has ended
	tended  chan struct{} // and when nothing is thrown away any more

	// The times below, and others in a test.
	patience time.Duration
	drain    time.Duration
	grace    time.Duration

	// Owned by the writer.
	lock    *os.File
	db      *sql.DB // nil while there is no connection
	file    os.FileInfo
	suspect bool // the file may be damaged: check it whole at the next opening
	bare    bool // the file lacks what memory holds: write all of it at the next opening
	tries   int
	retry   time.Time // zero unless failing
	mended  bool      // the last healing wrote all of memory

	// mu guards all below.
	mu            sync.Mutex
	closed        bool
	loaded        bool // memory has what is open or recent on disk
	queue         queue
	wrote         time.Time // when a write came last
	health        health
	messages      recent[messageKey, struct{}]
	threads       recent[Place, Thread]
	turns         map[string]Turn
	confirmations recent[string, Confirmation]
	operations    recent[string, Operation]
	cursors       recent[cursorKey, string]
	hostKeys      map[int]HostKey // by VM
	refusals      recent[refusalKey, Refusal]
	refused       recent[messageKey, struct{}] // messages that are known here alone
}

// How many rows are held in memory; what is open or not yet written is held beyond that. Measured: with all these
// messages held, an idle store costs 2.1 MiB of anonymous memory, SQLite included.
const (
	messagesHeld      = 4096
	threadsHeld       = 512
	confirmationsHeld = 256
	operationsHeld    = 64
	cursorsHeld       = 512
	refusalsHeld      = 64
	refusedHeld       = 512
)

// How long a confirmation is held after its time: one that expired unmarked as if it were open, so that it can be marked,
// and one that was answered, so that who presses it again hears so whatever the disk does.
const (
	openLingers     = 24 * time.Hour
	answeredLingers = time.Hour
)

// stays says whether memory must not forget c, wherever else it is kept.
func (c Confirmation) stays() bool {
	if c.Outcome == "" {
		return time.Since(c.Expires) < openLingers
	}
	return time.Since(c.Expires) < answeredLingers || time.Since(c.Used) < answeredLingers
}

func newStore(path string, log *slog.Logger) *Store {
	s := &Store{
		path:    path,
		log:     log,
		wake:    make(chan struct{}, 1),
		asks:    make(chan func()),
		opened:  make(chan error),
		alone:   make(chan struct{}),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
		tended:  make(chan struct{}),
		wrote:   time.Now(),
		queue:   queue{most: mostWaiting, latest: make(map[any]*write)},
		health:  health{broken: make(chan struct{})},

		patience: Patience,
		drain:    closeDrain,
		grace:    closeGrace,
		turns:    make(map[string]Turn),
		hostKeys: make(map[int]HostKey),
	}
	s.messages = newRecent[messageKey, struct{}](messagesHeld, func(k messageKey, _ struct{}) bool { return s.queue.has(k) })
	s.threads = newRecent[Place, Thread](threadsHeld, func(k Place, _ Thread) bool { return s.queue.has(threadKey(k)) })
	s.confirmations = newRecent[string, Confirmation](confirmationsHeld, func(k string, c Confirmation) bool {
		return c.stays() || s.queue.has(confirmationKey(k))
	})
	s.operations = newRecent[string, Operation](operationsHeld, func(k string, o Operation) bool {
		return o.Ended.IsZero() || s.queue.has(operationKey(k))
	})
	s.cursors = newRecent[cursorKey, string](cursorsHeld, func(k cursorKey, _ string) bool { return s.queue.has(k) })
	s.refusals = newRecent[refusalKey, Refusal](refusalsHeld, func(k refusalKey, _ Refusal) bool {
		return k.day >= yesterday() || s.queue.has(k)
	})
	s.refused = newRecent[messageKey, struct{}](refusedHeld, func(messageKey, struct{}) bool { return false })
	return s
}

// How long Close lets the writer write, and then how long it waits for a statement to end.
const (
	closeDrain = 10 * time.Second
	closeGrace = time.Second
)

// Close writes what waits, closes the file and frees it for another process. Its error says what is lost. It returns
// within 11 s also when the disk hangs; then the writer is left behind in the kernel, for only the disk can free it.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		within(s.drain+s.grace, s.ended)
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	if !within(s.drain, s.ended) {
		s.cancel()
		if !within(s.grace, s.ended) {
			return &Unusable{Message: fmt.Sprintf("The store %s did not close within %s; its disk hangs.", s.path, s.drain+s.grace)}
		}
	}
	s.cancel()
	<-s.tended
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.queue.size(); n > 0 {
		return &Unusable{
			Message: fmt.Sprintf("The store %s closed with %s unwritten (%s).", s.path, entries(n), reason(s.health.failing)),
			Err:     s.health.failing,
		}
	}
	return nil
}

func within(d time.Duration, done <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// nanos is t as a column holds it.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// instant is the time that a column holds.
func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
