package store

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"
)

// Operation is a verb that was run on the VM.
type Operation struct {
	ID        string
	Verb      string
	VMID      int
	Place     Place
	Actor     string
	Confirmer string
	Name      string // of who asked, as the chat shows it
	Live      string // the id of the live message
	Began     time.Time
	Ended     time.Time // zero while it runs, or when its end is not known
	GateOp    string    // the gate's own id of it
	Exit      int
	Text      string
}

// operationKey is the row of an operation.
type operationKey string

const (
	upsertOperation = `insert into operations
(id, verb, vmid, chat, channel, thread, actor, confirmer, name, live, began, ended, gate_op, exit, text)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do update set
verb = excluded.verb, vmid = excluded.vmid, chat = excluded.chat, channel = excluded.channel, thread = excluded.thread,
actor = excluded.actor, confirmer = excluded.confirmer, name = excluded.name, live = excluded.live, began = excluded.began, ended = excluded.ended,
gate_op = excluded.gate_op, exit = excluded.exit, text = excluded.text`
	selectOperations = `select id, verb, vmid, chat, channel, thread, actor, confirmer, name, live, began, ended, gate_op, exit, text
from operations `
)

func operationWrite(o Operation) *write {
	return newWrite(operationKey(o.ID), state, upsertOperation, o.ID, o.Verb, o.VMID, o.Place.Chat, o.Place.Channel, o.Place.Thread,
		o.Actor, o.Confirmer, o.Name, o.Live, nanos(o.Began), nanos(o.Ended), o.GateOp, o.Exit, o.Text)
}

func scanOperation(row scanner) (o Operation, err error) {
	var began, ended int64
	err = row.Scan(&o.ID, &o.Verb, &o.VMID, &o.Place.Chat, &o.Place.Channel, &o.Place.Thread,
		&o.Actor, &o.Confirmer, &o.Name, &o.Live, &began, &ended, &o.GateOp, &o.Exit, &o.Text)
	o.Began, o.Ended = instant(began), instant(ended)
	return o, err
}

// BeginOperation keeps o as running.
func (s *Store) BeginOperation(ctx context.Context, o Operation) { s.saveOperation(ctx, o) }

// UpdateOperation notes the live message of an open operation and the gate's own id of it, where they are not empty.
func (s *Store) UpdateOperation(ctx context.Context, id, live, gateOp string) {
	s.mu.Lock()
	o, ok := s.operations.get(id)
	if !ok || !o.Ended.IsZero() {
		s.mu.Unlock()
		return
	}
	o.Live, o.GateOp = cmp.Or(live, o.Live), cmp.Or(gateOp, o.GateOp)
	w := s.enqueue(operationWrite(o))
	s.operations.put(id, o)
	s.mu.Unlock()
	s.settled(ctx, w)
}

// EndOperation keeps o, whole, as ended; an Ended of zero is now.
func (s *Store) EndOperation(ctx context.Context, o Operation) {
	if o.Ended.IsZero() {
		o.Ended = time.Now()
	}
	s.saveOperation(ctx, o)
}

func (s *Store) saveOperation(ctx context.Context, o Operation) {
	s.mu.Lock()
	w := s.enqueue(operationWrite(o))
	s.operations.put(o.ID, o)
	s.mu.Unlock()
	s.settled(ctx, w)
}

// Operations lists the last n operations, the newest first. While the disk fails, it lists those of them that it knows.
func (s *Store) Operations(ctx context.Context, n int) []Operation {
	rows, _ := ask(ctx, s, func(ctx context.Context, db *sql.DB) ([]Operation, error) {
		return list(ctx, db, scanOperation, selectOperations+`order by began desc limit ?`, n)
	})
	known := make(map[string]Operation, len(rows))
	for _, o := range rows {
		known[o.ID] = o
	}
	all := s.knownOperations(known)
	return all[:max(0, min(n, len(all)))]
}

// OpenOperations lists the operations that did not end, the newest first. It never waits.
func (s *Store) OpenOperations(context.Context) []Operation {
	return slices.DeleteFunc(s.knownOperations(nil), func(o Operation) bool { return !o.Ended.IsZero() })
}

// knownOperations adds what memory knows to what the disk said, and sorts it.
func (s *Store) knownOperations(rows map[string]Operation) []Operation {
	s.mu.Lock()
	if rows == nil {
		rows = make(map[string]Operation)
	}
	maps.Insert(rows, s.operations.values())
	s.mu.Unlock()
	var all []Operation
	for _, o := range rows {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b Operation) int { return b.Began.Compare(a.Began) })
	return all
}

func (s *Store) loadOperations() error {
	open, err := list(s.work, s.db, scanOperation, selectOperations+`where ended = 0`)
	if err != nil {
		return err
	}
	last, err := list(s.work, s.db, scanOperation, selectOperations+`order by began desc limit ?`, operationsHeld/2)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range slices.Backward(slices.Concat(open, last)) { // the newest count as used last
		s.operations.learn(o.ID, o)
	}
	return err
}
