package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// How long rows are kept. What is open stays: an operation without an end, a confirmation that can be used; a turn goes
// when it ends. What is not older than that is young, however far in the future it lies: so a clock that is behind, as that
// of a small box before it has asked for the time, throws away nothing that a right one would keep. One that was ahead
// leaves records that hold up those behind them until their own time has come: too much is kept then, never too little.
const (
	// messagesKept: chats deliver again within hours, and are read back for a day.
	messagesKept = 30 * day
	// evidenceKept: who asked, who confirmed, what ran, who was refused, in which session. Last year's incident can be read
	// at its anniversary. A session can be resumed for 90 days; its thread stays ours for as long as its records stay.
	evidenceKept = 400 * day
	// keptAnyhow is how many of the newest rows of each table stay whatever the clock says: one that is a year ahead must
	// not empty the store.
	keptAnyhow = 10_000
)

// ageing is what is thrown away of one table.
type ageing struct {
	table string
	kept  time.Duration
	least string // the first of the newest rows that stay anyhow, behind ?1 others
	old   string // deletes at most ?3 rows from before ?1, none of them newer than ?2
}

var ageings = []ageing{
	aged("messages", "chat, id", "at", "", messagesKept),
	aged("threads", "chat, channel, thread", "touched", "", evidenceKept),
	aged("confirmations", "nonce", "made", "and expires < ?1", evidenceKept),
	aged("operations", "id", "began", "and ended <> 0", evidenceKept),
	aged("refusals", "day, actor, act", "day", "", evidenceKept),
	// Records go from their old end alone, up to the first that is young, so that what is left stays one unbroken chain.
	{"records", evidenceKept, `select seq from records order by seq desc limit 1 offset ?1`, `delete from records
where seq in (select seq from records order by seq limit ?3) and seq < ?2
and seq < coalesce((select min(seq) from (select seq, at from records order by seq limit ?3) as head
where at >= ?1), ?2)`},
}

func aged(table, key, age, over string, kept time.Duration) ageing {
	return ageing{
		table, kept,
		`select ` + age + ` from ` + table + ` order by ` + age + ` desc limit 1 offset ?1`,
		`delete from ` + table + ` where (` + key + `) in (select ` + key + ` from ` + table +
			` where ` + age + ` < ?1 and ` + age + ` < ?2 ` + over + ` order by ` + age + ` limit ?3)`,
	}
}

// ageEvery is how often old rows are thrown away.
const ageEvery = day

// pace is how much is thrown away, and how far out of everybody's way.
type pace struct {
	keep  int           // of the newest rows of each table
	rows  int           // of a step; a write that comes meanwhile waits for one
	quiet time.Duration // since the last write, before a step
	most  time.Duration // after which a step need not be quiet: somebody may write for ever
	rest  int           // how many times longer than a step is the rest after it
}

var unhurried = pace{keep: keptAnyhow, rows: 200, quiet: time.Second, most: time.Minute, rest: 19}

// tend throws away old rows, now and every day, until Close. An incident is not held up: it is done when nobody writes.
func (s *Store) tend() {
	defer close(s.tended)
	for open := true; open; {
		open = s.age(unhurried) && s.sleep(ageEvery)
	}
}

// sleep says whether the store is still open then.
func (s *Store) sleep(d time.Duration) bool { return !within(d, s.closing) }

// age throws away what is too old, in small steps, and records how much of it was evidence; false means that the store
// closes.
func (s *Store) age(p pace) (open bool) {
	var gone []string
	for _, a := range ageings {
		n, err := s.ageTable(a, p)
		if n > 0 { // also when the store closes, and takes no record any more
			s.log.Info("old rows thrown away", "path", s.path, "table", a.table, "rows", n)
		}
		if errors.Is(err, errClosing) {
			return false
		}
		if err != nil {
			s.log.Error("old rows stay until tomorrow", "path", s.path, "table", a.table, "error", err)
		}
		if n > 0 && a.kept == evidenceKept {
			gone = append(gone, fmt.Sprintf("%d %s", n, a.table))
		}
	}
	if gone != nil {
		s.mu.Lock()
		s.own("aged", fmt.Sprintf("older than %d days and dropped: %s", evidenceKept/day, strings.Join(gone, ", ")))
		s.mu.Unlock()
	}
	return true
}

func (s *Store) ageTable(a ageing, p pace) (gone int64, err error) {
	least, err := s.chore(p, func(ctx context.Context, db *sql.DB) (n int64, err error) {
		err = db.QueryRowContext(ctx, a.least, p.keep-1).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) { // there are fewer, so all stay
			return 0, nil
		}
		return n, err
	})
	for n := int64(1); err == nil && least != 0 && n > 0; gone += n {
		n, err = s.chore(p, func(ctx context.Context, db *sql.DB) (int64, error) {
			// The clock may have been set right since the last step.
			result, err := db.ExecContext(ctx, a.old, nanos(time.Now().Add(-a.kept)), least, p.rows)
			if err != nil {
				return 0, err
			}
			return result.RowsAffected()
		})
	}
	return gone, err
}

var (
	errClosing = errors.New("the store is closing")
	errBusy    = errors.New("somebody writes")
)

// chore has the writer do something small that can wait, when the disk is well and nobody has written lately.
func (s *Store) chore(p pace, do func(context.Context, *sql.DB) (int64, error)) (n int64, err error) {
	due := time.Now().Add(p.most)
	for {
		var took time.Duration
		done := make(chan struct{})
		job := func() {
			defer close(done)
			if !s.quiet(p.quiet, due) {
				err = errBusy
				return
			}
			if err = s.connect(); err != nil {
				s.failed(err, true)
				return
			}
			began := time.Now()
			if n, err = do(s.work, s.db); err != nil && !blame(err) {
				s.failed(err, false)
			}
			took = time.Since(began)
		}
		select {
		case s.asks <- job:
		case <-s.closing:
			return 0, errClosing
		}
		select {
		case <-done:
		case <-s.ended:
			return 0, errClosing
		}
		switch {
		case !errors.Is(err, errBusy):
			if !s.sleep(took * time.Duration(p.rest)) {
				err = errClosing
			}
			return n, err
		case !s.sleep(min(p.quiet, p.most)):
			return 0, errClosing
		}
	}
}

// quiet says whether a chore would be in nobody's way.
func (s *Store) quiet(since time.Duration, due time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.health.ill() && (s.queue.size() == 0 && time.Since(s.wrote) >= since || time.Now().After(due))
}
