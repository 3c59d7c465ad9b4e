package store

import (
	"context"
	"database/sql"
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
	defer s.mu.Unlock()
	return s.lockThread(ctx, p)
}

// ChangeThread lets change make something of the thread at p, or of a new one that has its place only, keeps what comes of
// it and returns that. No other change comes in between, so none is lost. change must not use the store.
func (s *Store) ChangeThread(ctx context.Context, p Place, change func(*Thread)) Thread {
	t, _ := s.lockThread(ctx, p)
	t.Place = p
	change(&t)
	w := s.enqueue(threadWrite(t))
	s.threads.put(p, t)
	s.mu.Unlock()
	s.settled(ctx, w)
	return t
}

// lockThread is the thread at p, if there is one. The caller unlocks mu.
func (s *Store) lockThread(ctx context.Context, p Place) (Thread, bool) {
	s.mu.Lock()
	if t, ok := s.threads.get(p); ok {
		return t, true
	}
	s.mu.Unlock()
	found, _ := ask(ctx, s, func(ctx context.Context, db *sql.DB) ([]Thread, error) {
		return list(ctx, db, scanThread, selectThreads+`where chat = ? and channel = ? and thread = ?`, p.Chat, p.Channel, p.Thread)
	})
	s.mu.Lock()
	for _, t := range found {
		s.threads.learn(p, t)
	}
	return s.threads.get(p)
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
