package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Confirmation is what a person is asked before a verb changes the VM. It works once.
type Confirmation struct {
	Nonce     string
	Code      string // what a person may type instead
	Verb      string
	Subject   string // what it is about, when that is not the VM
	VMID      int
	Place     Place
	Card      string // the id of the message that asks
	Requester string
	Origin    string // person, agent
	Session   string
	Made      time.Time
	Expires   time.Time

	// Zero until it is used.
	Used    time.Time
	UsedBy  string
	Outcome string // one of the outcomes below
}

// How a confirmation ends.
const (
	Confirmed = "confirmed"
	Cancelled = "cancelled"
	Expired   = "expired"
)

// Why a confirmation cannot be used.
var (
	ErrUnknown = errors.New("no such confirmation")
	ErrUsed    = errors.New("the confirmation was used before")
	ErrExpired = errors.New("the confirmation has expired")
	// ErrUnread is no word about the confirmation: memory does not have it, and the disk did not answer in time.
	ErrUnread = errors.New("the disk did not say whether there is such a confirmation")
)

// confirmationKey is the row of a confirmation.
type confirmationKey string

const (
	// The condition is the disk's say: a use that is there is never undone or replaced.
	upsertConfirmation = `insert into confirmations
(nonce, code, verb, subject, vmid, chat, channel, thread, card, requester, origin, session, made, expires, used, used_by, outcome)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (nonce) do update set
card = excluded.card, used = excluded.used, used_by = excluded.used_by, outcome = excluded.outcome
where confirmations.outcome = '' or (confirmations.outcome = excluded.outcome
and confirmations.used = excluded.used and confirmations.used_by = excluded.used_by)`
	selectConfirmations = `select nonce, code, verb, subject, vmid, chat, channel, thread, card, requester, origin, session,
made, expires, used, used_by, outcome from confirmations `
)

func confirmationWrite(c Confirmation) *write {
	return newWrite(confirmationKey(c.Nonce), consent, upsertConfirmation,
		c.Nonce, c.Code, c.Verb, c.Subject, c.VMID, c.Place.Chat, c.Place.Channel, c.Place.Thread, c.Card, c.Requester, c.Origin, c.Session,
		nanos(c.Made), nanos(c.Expires), nanos(c.Used), c.UsedBy, c.Outcome)
}

func scanConfirmation(row scanner) (c Confirmation, err error) {
	var made, expires, used int64
	err = row.Scan(&c.Nonce, &c.Code, &c.Verb, &c.Subject, &c.VMID, &c.Place.Chat, &c.Place.Channel, &c.Place.Thread, &c.Card,
		&c.Requester, &c.Origin, &c.Session, &made, &expires, &used, &c.UsedBy, &c.Outcome)
	c.Made, c.Expires, c.Used = instant(made), instant(expires), instant(used)
	return c, err
}

// open says whether c can be confirmed at now. The clock on the wall counts, for the card tells people a time of day; a
// clock from before c was made was set back, so it does not know how old c is.
func (c Confirmation) open(now time.Time) bool {
	return c.Outcome == "" && now.Before(c.Expires) && !now.Before(c.Made)
}

// AddConfirmation keeps a new confirmation. One with a known nonce is not replaced: that would make a used one new.
func (s *Store) AddConfirmation(ctx context.Context, c Confirmation) {
	c.Used, c.UsedBy, c.Outcome = time.Time{}, "", ""
	c.Made, c.Expires = instant(nanos(c.Made)), instant(nanos(c.Expires)) // as from the disk: without the monotonic clock, which sleeps with the machine
	s.mu.Lock()
	if _, known := s.confirmations.get(c.Nonce); known {
		s.mu.Unlock()
		s.log.ErrorContext(ctx, "confirmation made twice", "verb", c.Verb)
		return
	}
	w := s.enqueue(confirmationWrite(c))
	s.confirmations.put(c.Nonce, c)
	s.mu.Unlock()
	s.settled(ctx, w)
}

// SetCard notes the message that carries the confirmation.
func (s *Store) SetCard(ctx context.Context, nonce, card string) {
	s.mu.Lock()
	c, ok := s.confirmations.get(nonce)
	if !ok {
		s.mu.Unlock()
		return
	}
	c.Card = card
	w := s.enqueue(confirmationWrite(c))
	s.confirmations.put(nonce, c)
	s.mu.Unlock()
	s.settled(ctx, w)
}

// Confirmation is the one with this nonce, used or not; they are kept for 400 days. Its error is [ErrUnknown] when there
// is none, and [ErrUnread] when it could not find out. What is open, or was answered within the hour, it always knows.
func (s *Store) Confirmation(ctx context.Context, nonce string) (Confirmation, error) {
	s.mu.Lock()
	c, ok := s.confirmations.get(nonce)
	s.mu.Unlock()
	if ok {
		return c, nil
	}
	found, read := ask(ctx, s, func(ctx context.Context, db *sql.DB) ([]Confirmation, error) {
		return list(ctx, db, scanConfirmation, selectConfirmations+`where nonce = ?`, nonce)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range found {
		s.confirmations.learn(nonce, c)
	}
	switch c, ok := s.confirmations.get(nonce); {
	case ok:
		return c, nil
	case read:
		return Confirmation{}, ErrUnknown
	}
	return Confirmation{}, ErrUnread
}

// ConfirmationByCode is the newest confirmation without an outcome in a channel that has this code. It may have
// expired: then UseConfirmation says so. Its error is [ErrUnknown] when there is none, and [ErrUnread] as long as the
// disk could not be read since the start. It never waits.
func (s *Store) ConfirmationByCode(_ context.Context, chat, channel, code string) (Confirmation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var newest Confirmation
	found := false
	for _, c := range s.confirmations.values() {
		if c.Outcome == "" && c.Place.Chat == chat && c.Place.Channel == channel && c.Code == code &&
			(!found || c.Made.After(newest.Made)) {
			newest, found = c, true
		}
	}
	switch {
	case found:
		return newest, nil
	case s.loaded:
		return Confirmation{}, ErrUnknown
	}
	return Confirmation{}, ErrUnread
}

// UseConfirmation ends a confirmation with one of the outcomes. However many try, and whatever the disk does, exactly
// one hears nil; the others hear [ErrUsed]. After its time it can only end as [Expired]; all else is [ErrExpired]. One
// that memory does not have is [ErrUnknown] or [ErrUnread], as for Confirmation.
func (s *Store) UseConfirmation(ctx context.Context, nonce, by, outcome string, now time.Time) error {
	if outcome != Confirmed && outcome != Cancelled && outcome != Expired {
		return fmt.Errorf("%q is no outcome of a confirmation", outcome)
	}
	_, err := s.Confirmation(ctx, nonce) // brings an old one into memory
	s.mu.Lock()
	c, ok := s.confirmations.get(nonce)
	switch {
	case !ok:
		s.mu.Unlock()
		return cmp.Or(err, ErrUnread) // without err it was forgotten again just now
	case c.Outcome != "":
		s.mu.Unlock()
		return ErrUsed
	case outcome != Expired && !c.open(now):
		s.mu.Unlock()
		return ErrExpired
	}
	c.Used, c.UsedBy, c.Outcome = instant(nanos(now)), by, outcome
	w := s.enqueue(confirmationWrite(c))
	s.confirmations.put(nonce, c)
	s.mu.Unlock()
	if s.settled(ctx, w) && w.changed == 0 {
		s.mu.Lock()
		s.confirmations.drop(nonce) // by somebody whom only the disk knows, so it has to be asked
		s.mu.Unlock()
		return ErrUsed
	}
	return nil
}

// OpenConfirmations lists those that can still be confirmed at now, the oldest first. The zero time lists also those
// that have expired and were never marked so. It never waits.
func (s *Store) OpenConfirmations(_ context.Context, now time.Time) []Confirmation {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []Confirmation
	for _, c := range s.confirmations.values() {
		if c.open(now) || now.IsZero() && c.Outcome == "" {
			open = append(open, c)
		}
	}
	slices.SortFunc(open, func(a, b Confirmation) int { return a.Made.Compare(b.Made) })
	return open
}

func (s *Store) loadConfirmations() error {
	open, err := list(s.work, s.db, scanConfirmation, selectConfirmations+`where outcome = ''`)
	if err != nil {
		return err
	}
	last, err := list(s.work, s.db, scanConfirmation, selectConfirmations+`order by made desc limit ?`, confirmationsHeld/2)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range slices.Backward(slices.Concat(open, last)) { // the newest count as used last
		s.confirmations.learn(c.Nonce, c)
	}
	return err
}
