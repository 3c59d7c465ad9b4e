package store

import (
	"context"
	"database/sql"
	"slices"
	"time"
)

// Entry is the record of one decision or command. The database refuses to change or delete it.
type Entry struct {
	At      time.Time
	Actor   string
	Act     string
	Chat    string
	Channel string
	Thread  string
	Subject string
	Outcome string
	Text    string
	Seq     int64 // its place in the order of all; given by the database, so 0 until it is on disk
}

const (
	insertRecord  = `insert into records (at, actor, act, chat, channel, thread, subject, outcome, text) values (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	selectRecords = `select at, actor, act, chat, channel, thread, subject, outcome, text, seq from records order by seq desc limit ?`
)

func recordWrite(e Entry) *write {
	w := newWrite(nil, history, insertRecord, nanos(e.At), e.Actor, e.Act, e.Chat, e.Channel, e.Thread, e.Subject, e.Outcome, e.Text)
	e.Seq = 0
	w.entry = &e
	return w
}

func scanEntry(row scanner) (e Entry, err error) {
	var at int64
	err = row.Scan(&at, &e.Actor, &e.Act, &e.Chat, &e.Channel, &e.Thread, &e.Subject, &e.Outcome, &e.Text, &e.Seq)
	e.At = instant(at)
	return e, err
}

// Record appends e. An At of zero is now; Seq is ignored. After a disk error in the very moment of its commit it may be
// there twice, never not at all.
func (s *Store) Record(ctx context.Context, e Entry) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	s.mu.Lock()
	w := s.enqueue(recordWrite(e))
	s.mu.Unlock()
	s.settled(ctx, w)
}

// entriesMost is how many records are read at once: a long read keeps the writer from writing.
const entriesMost = 1000

// Entries lists the last n records, the newest first, at most 1,000. While the disk cannot be read, it lists those that
// wait for it.
func (s *Store) Entries(ctx context.Context, n int) []Entry {
	n = max(0, min(n, entriesMost))
	entries, ok := ask(ctx, s, func(ctx context.Context, db *sql.DB) ([]Entry, error) {
		rows, err := list(ctx, db, scanEntry, selectRecords, n)
		return append(s.unwritten(), rows...), err // by the writer, so that none is in between
	})
	if !ok {
		entries = s.unwritten()
	}
	return entries[:min(n, len(entries))]
}

// unwritten lists the records that wait for the disk, the newest first.
func (s *Store) unwritten() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []Entry
	for _, w := range slices.Concat(s.queue.flying, s.queue.waiting) {
		if w.entry != nil {
			entries = append(entries, *w.entry)
		}
	}
	slices.Reverse(entries)
	return entries
}
