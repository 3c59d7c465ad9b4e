package store

import (
	"context"
	"slices"
	"time"
)

// Turn is a prompt that the agent works on. What is open after a restart was cut by it.
type Turn struct {
	ID      string
	Place   Place
	Message string // the id of the message that asked
	Actor   string
	Prompt  string
	Live    string // the id of the live message
	Doing   string // what ran last
	Shown   string // what the live message shows
	Began   time.Time
}

// turnKey is the row of a turn.
type turnKey string

const (
	upsertTurn = `insert into turns (id, chat, channel, thread, message, actor, prompt, live, doing, shown, began)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do update set
chat = excluded.chat, channel = excluded.channel, thread = excluded.thread, message = excluded.message, actor = excluded.actor,
prompt = excluded.prompt, live = excluded.live, doing = excluded.doing, shown = excluded.shown, began = excluded.began`
	selectTurns = `select id, chat, channel, thread, message, actor, prompt, live, doing, shown, began from turns`
	deleteTurn  = `delete from turns where id = ?`
)

func turnWrite(t Turn) *write {
	return newWrite(turnKey(t.ID), state, upsertTurn, t.ID, t.Place.Chat, t.Place.Channel, t.Place.Thread,
		t.Message, t.Actor, t.Prompt, t.Live, t.Doing, t.Shown, nanos(t.Began))
}

func scanTurn(row scanner) (t Turn, err error) {
	var began int64
	err = row.Scan(&t.ID, &t.Place.Chat, &t.Place.Channel, &t.Place.Thread,
		&t.Message, &t.Actor, &t.Prompt, &t.Live, &t.Doing, &t.Shown, &began)
	t.Began = instant(began)
	return t, err
}

// BeginTurn keeps t until EndTurn.
func (s *Store) BeginTurn(ctx context.Context, t Turn) {
	s.mu.Lock()
	w := s.enqueue(turnWrite(t))
	s.turns[t.ID] = t
	s.mu.Unlock()
	s.settled(ctx, w)
}

// UpdateTurn notes the live message of an open turn, what it does now and what is shown of it; an unknown turn stays unknown.
func (s *Store) UpdateTurn(ctx context.Context, id, live, doing, shown string) {
	s.mu.Lock()
	t, ok := s.turns[id]
	if !ok {
		s.mu.Unlock()
		return
	}
	if live != "" {
		t.Live = live
	}
	t.Doing, t.Shown = doing, shown
	w := s.enqueue(turnWrite(t))
	s.turns[id] = t
	s.mu.Unlock()
	s.settled(ctx, w)
}

// EndTurn forgets the turn: its end is known to people.
func (s *Store) EndTurn(ctx context.Context, id string) {
	s.mu.Lock()
	w := s.enqueue(newWrite(turnKey(id), state, deleteTurn, id))
	delete(s.turns, id)
	s.mu.Unlock()
	s.settled(ctx, w)
}

// OpenTurns lists the turns that did not end, the oldest first. It never waits.
func (s *Store) OpenTurns(context.Context) []Turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var turns []Turn
	for _, t := range s.turns {
		turns = append(turns, t)
	}
	slices.SortFunc(turns, func(a, b Turn) int { return a.Began.Compare(b.Began) })
	return turns
}

func (s *Store) loadTurns() error {
	rows, err := list(s.work, s.db, scanTurn, selectTurns)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range rows {
		if _, known := s.turns[t.ID]; !known && !s.queue.has(turnKey(t.ID)) { // its end may wait for the disk
			s.turns[t.ID] = t
		}
	}
	return err
}
