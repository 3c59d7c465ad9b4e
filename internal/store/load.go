package store

import (
	"context"
	"database/sql"
	"time"
)

// load reads what is open or recent; what memory knows already is newer.
func (s *Store) load() error {
	for _, part := range []func() error{
		s.loadMessages, s.loadThreads, s.loadTurns, s.loadConfirmations, s.loadOperations, s.loadCursors, s.loadHostKeys,
		s.loadRefusals, // last: it adds, so it must not be done again
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// rewrite has all that memory holds written to a file that lost it; the caller holds mu, and nothing is
// in flight.
func (s *Store) rewrite() {
	s.queue.first(newWrite(nil, state, `delete from turns`)) // their ends may be among the losses
	for k := range s.messages.values() {
		s.enqueue(messageWrite(k, time.Now()))
	}
	for _, t := range s.threads.values() {
		s.enqueue(threadWrite(t))
	}
	for _, t := range s.turns {
		s.enqueue(turnWrite(t))
	}
	for _, c := range s.confirmations.values() {
		s.enqueue(confirmationWrite(c))
	}
	for _, o := range s.operations.values() {
		s.enqueue(operationWrite(o))
	}
	for k, v := range s.cursors.values() {
		s.enqueue(cursorWrite(k, v))
	}
	for _, k := range s.hostKeys {
		s.enqueue(hostKeyWrite(k))
	}
	for _, r := range s.refusals.values() {
		s.enqueue(refusalWrite(r))
	}
}

// scanner is a row of a result.
type scanner interface{ Scan(dest ...any) error }

// list is all rows of a query.
func list[T any](ctx context.Context, db *sql.DB, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}
