package store

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func confirmation(nonce string) Confirmation {
	return Confirmation{
		Nonce: nonce, Code: "4F7Q", Verb: "cycle", VMID: 102, Place: here, Requester: "slack:U1", Origin: "person",
		Made: at(0), Expires: at(2),
	}
}

func TestOfFiftyPressesOneCounts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	s.AddConfirmation(ctx, confirmation("n1"))
	race := func(s *Store, nonce string) (wins int32) {
		var nils, useds atomic.Int32
		var group sync.WaitGroup
		start := make(chan struct{})
		for i := range 50 {
			group.Go(func() {
				<-start
				outcome := []string{Confirmed, Cancelled, Expired}[i%3]
				err := s.UseConfirmation(ctx, nonce, fmt.Sprint("slack:U", i), outcome, at(1))
				switch {
				case err == nil:
					nils.Add(1)
				case errors.Is(err, ErrUsed):
					useds.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		close(start)
		group.Wait()
		if nils.Load()+useds.Load() != 50 {
			t.Errorf("%d nil, %d used", nils.Load(), useds.Load())
		}
		return nils.Load()
	}
	if wins := race(s, "n1"); wins != 1 {
		t.Errorf("%d presses counted", wins)
	}
	s.AddConfirmation(ctx, confirmation("n2"))
	s = restart(t, s)
	if wins := race(s, "n1"); wins != 0 {
		t.Errorf("after a restart, %d more presses counted", wins)
	}
	if wins := race(s, "n2"); wins != 1 {
		t.Errorf("after a restart, %d presses of an open one counted", wins)
	}
}

func TestAUsedConfirmationSaysByWhom(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	s.AddConfirmation(ctx, confirmation("n1"))
	if err := s.UseConfirmation(ctx, "n1", "slack:U2", Confirmed, at(1)); err != nil {
		t.Fatal(err)
	}
	s.SetCard(ctx, "n1", "late card") // the post of the card came back after somebody typed the code
	s.AddConfirmation(ctx, confirmation("n1"))
	want := confirmation("n1")
	want.Used, want.UsedBy, want.Outcome, want.Card = at(1), "slack:U2", Confirmed, "late card"
	for range 2 {
		got, err := s.Confirmation(ctx, "n1")
		same(t, "confirmation", []any{got, err}, []any{want, nil})
		s = restart(t, s)
	}
}

func TestAnExpiredConfirmationDoesNothingButExpire(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	s.AddConfirmation(ctx, confirmation("n1"))
	use := func(outcome string, now time.Time) error {
		return s.UseConfirmation(ctx, "n1", "slack:U1", outcome, now)
	}
	for range 2 {
		same(t, "at the last moment", use(Confirmed, at(2)), ErrExpired)
		same(t, "a cancel", use(Cancelled, at(3)), ErrExpired)
		same(t, "nobody's nonce", s.UseConfirmation(ctx, "n9", "slack:U1", Confirmed, at(1)), ErrUnknown)
		if err := use("", at(1)); err == nil || err.Error() != `"" is no outcome of a confirmation` {
			t.Errorf("an empty outcome: %v", err)
		}
		same(t, "open, at its time", len(s.OpenConfirmations(ctx, at(1))), 1)
		same(t, "open, after its time", len(s.OpenConfirmations(ctx, at(2))), 0)
		same(t, "without outcome", len(s.OpenConfirmations(ctx, time.Time{})), 1)
		s = restart(t, s)
	}
	same(t, "marked", use(Expired, at(3)), nil)
	same(t, "marked again", use(Expired, at(3)), ErrUsed)
	same(t, "confirmed after all", use(Confirmed, at(1)), ErrUsed)
	same(t, "without outcome", len(s.OpenConfirmations(ctx, time.Time{})), 0)
}

func TestACodeMeansTheNewestOpenConfirmationOfItsChannel(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	add := func(nonce, channel string, made int) {
		c := confirmation(nonce)
		c.Place.Channel, c.Made, c.Expires = channel, at(made), at(made+30)
		s.AddConfirmation(ctx, c)
	}
	add("newer", "C1", 5)
	add("newest", "C1", 9)
	add("older", "C1", 1)
	add("elsewhere", "C2", 20)
	byCode := func() string {
		c, _ := s.ConfirmationByCode(ctx, "slack", "C1", "4F7Q")
		return c.Nonce
	}
	for _, want := range []string{"newest", "newer", "older"} {
		same(t, "by code", byCode(), want)
		s = restart(t, s)
		same(t, "by code after a restart", byCode(), want)
		if err := s.UseConfirmation(ctx, want, "slack:U1", Cancelled, at(10)); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := s.ConfirmationByCode(ctx, "slack", "C1", "4F7Q"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a used one answers to its code: %+v, %v", c, err)
	}
	if _, err := s.ConfirmationByCode(ctx, "mattermost", "C2", "4F7Q"); !errors.Is(err, ErrUnknown) {
		t.Error("a code works in another chat:", err)
	}
}

// A card says until which time of day it is open, and that counts: also when the bot slept meanwhile, or its clock was
// set back. A clock from before the card was made knows nothing of its age.
func TestTheClockOnTheWallSaysWhetherACardIsOpen(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	c := confirmation("n1")
	c.Made, c.Expires = time.Now(), time.Now().Add(time.Minute)
	s.AddConfirmation(ctx, c)
	earlier := time.Now().Add(-time.Hour)
	for range 2 {
		got, err := s.Confirmation(ctx, "n1")
		same(t, "times", []any{got.Made, got.Expires, err}, []any{c.Made.UTC().Round(0), c.Expires.UTC().Round(0), nil})
		same(t, "an hour before it was made", s.UseConfirmation(ctx, "n1", "slack:U1", Confirmed, earlier), ErrExpired)
		same(t, "open then", len(s.OpenConfirmations(ctx, earlier)), 0)
		same(t, "open now", len(s.OpenConfirmations(ctx, time.Now())), 1)
		same(t, "without outcome", len(s.OpenConfirmations(ctx, time.Time{})), 1)
		s = restart(t, s)
	}
	same(t, "now", s.UseConfirmation(ctx, "n1", "slack:U1", Confirmed, time.Now()), nil)
}

// A second replica may use what this process still holds as open; the disk decides.
func TestTheDiskHasASayInAUse(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	s.AddConfirmation(ctx, confirmation("n1"))
	written(t, s)
	db := directly(t, s.path)
	if _, err := db.Exec(`update confirmations set outcome = 'confirmed', used = 1, used_by = 'slack:U7'`); err != nil {
		t.Fatal(err)
	}
	same(t, "used", s.UseConfirmation(ctx, "n1", "slack:U1", Cancelled, at(1)), ErrUsed)
	c, err := s.Confirmation(ctx, "n1")
	same(t, "what memory says then", []any{c.Outcome, c.UsedBy, err}, []any{Confirmed, "slack:U7", nil})
	var others int
	if err := db.QueryRow(`select count(*) from confirmations where used_by <> 'slack:U7'`).Scan(&others); err != nil || others != 0 {
		t.Errorf("%d first uses were replaced, %v", others, err)
	}
}

func TestOfFiftyDeliveriesOneIsNew(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	for id := range 20 {
		var fresh atomic.Int32
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if !s.Seen(t.Context(), "slack", fmt.Sprint(id), time.Now()) {
					fresh.Add(1)
				}
			})
		}
		group.Wait()
		if fresh.Load() != 1 {
			t.Fatalf("message %d was new %d times", id, fresh.Load())
		}
	}
}

// answered makes a confirmation of now and confirms it.
func answered(t *testing.T, s *Store, nonce string) {
	t.Helper()
	c := confirmation(nonce)
	c.Made, c.Expires = time.Now(), time.Now().Add(time.Minute)
	s.AddConfirmation(t.Context(), c)
	if err := s.UseConfirmation(t.Context(), nonce, "slack:U1", Confirmed, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// A person presses the button of a card that was answered before the restart, and the disk hangs.
func TestACardAnsweredBeforeARestartIsKnownWithoutTheDisk(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	answered(t, s, "n1")
	s = restart(t, s)
	defer hang(s)()
	same(t, "pressed again", s.UseConfirmation(ctx, "n1", "slack:U2", Confirmed, time.Now()), ErrUsed)
	c, err := s.Confirmation(ctx, "n1")
	same(t, "the card", []any{c.Outcome, c.UsedBy, err}, []any{Confirmed, "slack:U1", nil})
}

// However many cards come after it, memory holds one that was just answered.
func TestACardJustAnsweredIsKnownWithoutTheDisk(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	answered(t, s, "first")
	written(t, s)
	s.mu.Lock()
	for n := range 2 * confirmationsHeld { // all of them on disk
		c := confirmation(fmt.Sprint("n", n))
		c.Made, c.Expires, c.Used, c.Outcome = at(-300), at(-298), at(-299), Cancelled
		s.confirmations.put(c.Nonce, c)
	}
	s.mu.Unlock()
	defer hang(s)()
	same(t, "pressed again", s.UseConfirmation(ctx, "first", "slack:U2", Confirmed, time.Now()), ErrUsed)
	s.mu.Lock()
	held := len(s.confirmations.rows)
	s.mu.Unlock()
	if held > 2*confirmationsHeld {
		t.Errorf("memory holds %d", held)
	}
}

// What the disk did not say is not "no such confirmation": the card may be a good one.
func TestADiskThatDoesNotAnswerIsNoWordAboutACard(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	answered(t, s, "n1")
	written(t, s)
	s.mu.Lock()
	delete(s.confirmations.rows, "n1") // as after some days
	s.mu.Unlock()
	release := hang(s)
	_, err := s.Confirmation(ctx, "n1")
	same(t, "looked up", err, ErrUnread)
	same(t, "pressed", s.UseConfirmation(ctx, "n1", "slack:U2", Confirmed, time.Now()), ErrUnread)
	_, err = s.ConfirmationByCode(ctx, "slack", "C1", "none")
	same(t, "a code, for memory has all that are open", err, ErrUnknown)
	release()
	written(t, s)
	eventually(t, "the disk to answer", func() bool {
		return errors.Is(s.UseConfirmation(ctx, "n1", "slack:U2", Confirmed, time.Now()), ErrUsed)
	})
	eventually(t, "the disk to know nothing of another", func() bool {
		_, err := s.Confirmation(ctx, "n9")
		return errors.Is(err, ErrUnknown)
	})
}
