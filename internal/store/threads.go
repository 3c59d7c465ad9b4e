package store

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"
)

// Thread is a conversation and the session of the agent that belongs to it.
type Thread struct {
	Place   Place
	Session string
	Started bool // the session exists, so it is resumed and not begun
	Model   string
	Opened  time.Time
	Touched time.Time
}

// threadKey is the row of a thread.
type threadKey Place

const (
	upsertThread = `insert into threads (chat, channel, thread, session, started, model, opened, touched)
values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (chat, channel, thread) do update set
session = excluded.session, started = excluded.started, model = excluded.model, opened = excluded.opened, touched = excluded.touched`
	selectThreads = `select chat, channel, thread, session, started, model, opened, touched from threads `
)

func threadWrite(t Thread) *write {
	return newWrite(threadKey(t.Place), state, upsertThread, t.Place.Chat, t.Place.Channel, t.Place.Thread,
		t.Session, t.Started, t.Model, nanos(t.Opened), nanos(t.Touched))
}

func scanThread(row scanner) (t Thread, err error) {
	var opened, touched int64
	err = row.Scan(&t.Place.Chat, &t.Place.Channel, &t.Place.Thread, &t.Session, &t.Started, &t.Model, &opened, &touched)
	t.Opened, t.Touched = instant(opened), instant(touched)
	return t, err
}

// Thread is the thread at p, if there is one. While the disk fails, it knows the 512 touched last and all since then.
func (s *Store) Thread(ctx context.Context, p Place) (Thread, bool) {
	s.mu.Lock()
	t, ok := s.threads.get(p)
	s.mu.Unlock()
	if ok {
		return t, true
	}
	found, _ := ask(ctx, s, func(ctx context.Context, db *sql.DB) ([]Thread, error) {
		return list(ctx, db, scanThread, selectThreads+`where chat = ? and channel = ? and thread = ?`, p.Chat, p.Channel, p.Thread)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range found {
		s.threads.learn(p, t)
	}
	return s.threads.get(p)
}

// SaveThread keeps t as the thread at its place, new or changed.
func (s *Store) SaveThread(ctx context.Context, t Thread) {
	s.mu.Lock()
	w := s.enqueue(threadWrite(t))
	s.threads.put(t.Place, t)
	s.mu.Unlock()
	s.settled(ctx, w)
}

// Threads lists the threads touched at since or later, the latest first. While the disk fails, it lists those that it
// knows.
func (s *Store) Threads(ctx context.Context, since time.Time) []Thread {
	rows, _ := ask(ctx, s, func(ctx context.Context, db *sql.DB) ([]Thread, error) {
		return list(ctx, db, scanThread, selectThreads+`where touched >= ?`, nanos(since))
	})
	known := make(map[Place]Thread, len(rows))
	for _, t := range rows {
		known[t.Place] = t
	}
	s.mu.Lock()
	maps.Insert(known, s.threads.values())
	s.mu.Unlock()
	var threads []Thread
	for _, t := range known {
		if !t.Touched.Before(since) {
			threads = append(threads, t)
		}
	}
	slices.SortFunc(threads, func(a, b Thread) int { return b.Touched.Compare(a.Touched) })
	return threads
}

func (s *Store) loadThreads() error {
	rows, err := list(s.work, s.db, scanThread, selectThreads+`order by touched desc limit ?`, threadsHeld)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range slices.Backward(rows) {
		s.threads.learn(t.Place, t)
	}
	return err
}
