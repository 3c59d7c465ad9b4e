package store

import (
	"context"
	"time"
)

// messageKey is a message in its chat.
type messageKey struct{ chat, id string }

const insertMessage = `insert into messages (chat, id, at) values (?, ?, ?) on conflict do nothing`

func messageWrite(k messageKey, at time.Time) *write {
	return newWrite(k, history, insertMessage, k.chat, k.id, nanos(at))
}

// Seen records that a message arrived and says whether it had before; of many callers at once exactly one hears false.
// It remembers for at least 30 days from at (the zero time is now). While the disk fails, it knows the newest 4,096 messages and
// all since then.
func (s *Store) Seen(ctx context.Context, chat, id string, at time.Time) bool {
	if at.IsZero() {
		at = time.Now()
	}
	k := messageKey{chat, id}
	s.mu.Lock()
	if _, ok := s.messages.get(k); ok {
		s.mu.Unlock()
		return true
	}
	w := s.enqueue(messageWrite(k, at))
	s.messages.put(k, struct{}{})
	s.mu.Unlock()
	return s.settled(ctx, w) && w.changed == 0 // the disk knows older ones
}

func (s *Store) loadMessages() error {
	rows, err := list(s.work, s.db, func(row scanner) (k messageKey, err error) {
		return k, row.Scan(&k.chat, &k.id)
	}, `select chat, id from (select chat, id, at from messages order by at desc limit ?) as newest order by at`, messagesHeld)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range rows {
		s.messages.learn(k, struct{}{})
	}
	return err
}
