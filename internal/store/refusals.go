package store

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"
	"time"
)

// Refusal is how often somebody was refused one kind of act in one day (UTC).
type Refusal struct {
	Actor string
	Act   string
	First time.Time
	Last  time.Time
	Count int
}

const day = 24 * time.Hour

// refusalsRecorded is how many refusals of one kind leave a record in a day.
const refusalsRecorded = 3

// refusalKey is the row of a refusal.
type refusalKey struct {
	day        int64
	actor, act string
}

// yesterday is the first day that may still count, by a clock that is set back a little.
func yesterday() int64 { return nanos(time.Now().Add(-day).Truncate(day)) }

func (r Refusal) key() refusalKey { return refusalKey{nanos(r.First.Truncate(day)), r.Actor, r.Act} }

const (
	upsertRefusal = `insert into refusals (day, actor, act, first, last, count) values (?, ?, ?, ?, ?, ?)
on conflict (day, actor, act) do update set first = excluded.first, last = excluded.last, count = excluded.count`
	selectRefusals = `select actor, act, first, last, count from refusals `
)

func refusalWrite(r Refusal) *write {
	k := r.key()
	return newWrite(k, state, upsertRefusal, k.day, k.actor, k.act, nanos(r.First), nanos(r.Last), r.Count)
}

func scanRefusal(row scanner) (r Refusal, err error) {
	var first, last int64
	err = row.Scan(&r.Actor, &r.Act, &first, &last, &r.Count)
	r.First, r.Last = instant(first), instant(last)
	return r, err
}

// Refuse notes that e.Actor was refused e.Act, in the message with this id, and says whether that very message was refused
// before. The first few of a kind in a day are recorded as e, and their messages like those that [Store.Seen] knows.
// From then on the day's row counts them and memory alone knows the newest messages, apart from those of others: who goes on
// for a week leaves a row a day, and makes nobody's message run twice.
func (s *Store) Refuse(ctx context.Context, id string, e Entry) (again bool) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = instant(nanos(e.At))
	r := Refusal{Actor: e.Actor, Act: e.Act, First: e.At}
	k, message := r.key(), messageKey{e.Chat, id}
	s.mu.Lock()
	known, _ := s.refusals.get(k)
	few := known.Count < refusalsRecorded
	_, again = s.refused.get(message)
	if !few && !again {
		_, again = s.messages.get(message)
		s.refused.put(message, struct{}{})
	}
	s.mu.Unlock()
	if again || few && s.Seen(ctx, e.Chat, id, e.At) {
		return true
	}
	s.mu.Lock()
	if known, ok := s.refusals.get(k); ok {
		r = known
	}
	r.Count++
	if e.At.After(r.Last) {
		r.Last = e.At
	}
	if r.Count <= refusalsRecorded {
		s.enqueue(recordWrite(e))
	}
	w := s.enqueue(refusalWrite(r))
	s.refusals.put(k, r)
	s.mu.Unlock()
	s.settled(ctx, w)
	return false
}

// Refused says whether actor was refused anything at this time or later on the same day: a message of then is over and done
// with, also when who sent it has been let in since. It knows today and yesterday.
func (s *Store) Refused(actor string, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range s.refusals.values() {
		if k.actor == actor && k.day == nanos(at.Truncate(day)) && !at.After(r.Last) {
			return true
		}
	}
	return false
}

// Refusals lists the last n rows, at most 1,000, those of the newest day first. While the disk fails, it lists those of
// them that it knows.
func (s *Store) Refusals(ctx context.Context, n int) []Refusal {
	n = max(0, min(n, entriesMost))
	rows, _ := ask(ctx, s, func(ctx context.Context, db *sql.DB) ([]Refusal, error) {
		return list(ctx, db, scanRefusal, selectRefusals+`order by day desc, actor, act limit ?`, n)
	})
	known := make(map[refusalKey]Refusal, len(rows))
	for _, r := range rows {
		known[r.key()] = r
	}
	s.mu.Lock()
	maps.Insert(known, s.refusals.values())
	s.mu.Unlock()
	all := make([]Refusal, 0, len(known))
	for _, r := range known {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(b.key().day, a.key().day), cmp.Compare(a.Actor, b.Actor), cmp.Compare(a.Act, b.Act))
	})
	return all[:min(n, len(all))]
}

// loadRefusals goes on counting where a former process was. What memory has was refused since, before the disk could be read.
func (s *Store) loadRefusals() error {
	rows, err := list(s.work, s.db, scanRefusal, selectRefusals+`where day >= ?`, yesterday())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		if since, ok := s.refusals.get(r.key()); ok {
			r.Last, r.Count = since.Last, r.Count+since.Count
			s.enqueue(refusalWrite(r))
		}
		s.refusals.put(r.key(), r)
	}
	return err
}
