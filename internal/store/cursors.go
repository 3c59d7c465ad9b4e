package store

import (
	"context"
	"database/sql"
)

// cursorKey is the row of a cursor.
type cursorKey struct{ chat, key string }

const (
	upsertCursor = `insert into cursors (chat, key, value) values (?, ?, ?) on conflict (chat, key) do update set value = excluded.value`
	selectCursor = `select value from cursors where chat = ? and key = ?`
)

func cursorWrite(k cursorKey, value string) *write {
	return newWrite(k, state, upsertCursor, k.chat, k.key, value)
}

// Cursor is how far a chat was read, "" if that is not known.
func (s *Store) Cursor(ctx context.Context, chat, key string) string {
	k := cursorKey{chat, key}
	s.mu.Lock()
	value, ok := s.cursors.get(k)
	s.mu.Unlock()
	if ok {
		return value
	}
	found, _ := ask(ctx, s, func(ctx context.Context, db *sql.DB) ([]string, error) {
		return list(ctx, db, func(row scanner) (v string, err error) { return v, row.Scan(&v) }, selectCursor, chat, key)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range found {
		s.cursors.learn(k, v)
	}
	value, _ = s.cursors.get(k)
	return value
}

// SetCursor notes how far a chat was read.
func (s *Store) SetCursor(ctx context.Context, chat, key, value string) {
	k := cursorKey{chat, key}
	s.mu.Lock()
	w := s.enqueue(cursorWrite(k, value))
	s.cursors.put(k, value)
	s.mu.Unlock()
	s.settled(ctx, w)
}

func (s *Store) loadCursors() error {
	type row struct {
		key   cursorKey
		value string
	}
	rows, err := list(s.work, s.db, func(from scanner) (r row, err error) {
		return r, from.Scan(&r.key.chat, &r.key.key, &r.value)
	}, `select chat, key, value from cursors limit ?`, cursorsHeld)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		s.cursors.learn(r.key, r.value)
	}
	return err
}
