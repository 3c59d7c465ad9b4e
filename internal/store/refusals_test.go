package store

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// midday is a time of today, so that what happens around it is of one day.
func midday(second int) time.Time {
	return time.Now().UTC().Truncate(day).Add(12*time.Hour + time.Duration(second)*time.Second)
}

func no(act string, second int) Entry {
	return Entry{At: midday(second), Actor: "slack:U9", Act: act, Chat: "slack", Channel: "C1", Outcome: "refused", Text: fmt.Sprint(act, " ", second)}
}

// A stranger posts all day. Who, what and how often is known to the last word, and what is stored does not grow with it.
func TestAStrangerWhoGoesOnAllDayLeavesARow(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	id := func(n int) string { return fmt.Sprint("m", n) }
	const half = 50
	for n := range 2 * half {
		if n == half {
			s = restart(t, s)
		}
		if s.Refuse(ctx, id(n), no("talk", n)) {
			t.Errorf("message %d was not refused before", n)
		}
	}
	same(t, "the last one again", s.Refuse(ctx, id(2*half-1), no("talk", 2*half-1)), true)
	s.Refuse(ctx, "change", no("change", 200)) // of that nobody has heard yet
	talks := Refusal{Actor: "slack:U9", Act: "talk", First: midday(0), Last: midday(2*half - 1), Count: 2 * half}
	change := Refusal{Actor: "slack:U9", Act: "change", First: midday(200), Last: midday(200), Count: 1}
	for range 2 {
		same(t, "refusals", s.Refusals(ctx, 9), []Refusal{change, talks})
		same(t, "records", texts(t, s, "order by seq"), []string{"talk 0", "talk 1", "talk 2", "change 200"})
		var seen int
		if err := directly(t, s.path).QueryRow(`select count(*) from messages`).Scan(&seen); err != nil || seen != 4 {
			t.Errorf("%d messages of a stranger are on disk, %v", seen, err)
		}
		s = restart(t, s)
		same(t, "the first one, delivered again", s.Refuse(ctx, id(0), no("talk", 0)), true)
	}
}

// A stranger floods the channel and then the disk hangs. What the operators said is still known, so that nothing of it runs
// twice.
func TestAFloodOfAStrangerMakesNothingRunTwice(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	s.Seen(ctx, "slack", "an operator's", time.Now())
	written(t, s)
	defer hang(s)() // from here on, only so that the flood is quick
	const flood = 2 * messagesHeld
	for n := range flood {
		s.Refuse(ctx, fmt.Sprint("m", n), no("talk", n/100))
	}
	same(t, "the operator's, delivered again", s.Seen(ctx, "slack", "an operator's", time.Now()), true)
	same(t, "the last of the flood again", s.Refuse(ctx, fmt.Sprint("m", flood-1), no("talk", 0)), true)
	if n := len(s.refused.rows); n > refusedHeld*5/4 {
		t.Errorf("memory holds %d messages of a stranger", n)
	}
}

// What somebody said before their last refusal of a day was refused as well, as a new process knows too.
func TestWhatWasSaidBeforeARefusalIsOver(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	for n, second := range []int{10, 20, 30, 50, 40} {
		s.Refuse(ctx, fmt.Sprint("m", n), no("talk", second))
	}
	before := no("stop", 0)
	before.At = before.At.Add(-day)
	s.Refuse(ctx, "yesterday", before)
	for range 2 {
		same(t, "refused", []bool{
			s.Refused("slack:U9", midday(49)), s.Refused("slack:U9", midday(50)), s.Refused("slack:U9", midday(51)),
			s.Refused("slack:U9", before.At), s.Refused("slack:U9", before.At.Add(1)), s.Refused("slack:U8", midday(20)),
		}, []bool{true, true, false, true, false, false})
		s = restart(t, s)
	}
}

// The next day begins anew: its first words are recorded.
func TestAStrangerWhoComesBackIsRecordedAnew(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	for n := range 8 {
		e := no("talk", n)
		e.At = e.At.Add(time.Duration(n/4-1) * day)
		s.Refuse(ctx, fmt.Sprint(n), e)
	}
	s = restart(t, s)
	var counts []int
	for _, r := range s.Refusals(ctx, 9) {
		counts = append(counts, r.Count)
	}
	same(t, "counts", counts, []int{4, 4})
	same(t, "records", texts(t, s, "order by seq"), []string{"talk 0", "talk 1", "talk 2", "talk 4", "talk 5", "talk 6"})
	same(t, "the last row", len(s.Refusals(ctx, 1)), 1)
}

// The disk fails from the start, so nobody knows yet what was counted before; when it works again, both are one count.
func TestRefusalsAreCountedOnOverADiskThatFails(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	disk := smallDisk(t, "64m")
	s := mustOpen(t, addressOf(disk+"/bgbot.db"))
	for n := range 5 {
		s.Refuse(ctx, fmt.Sprint(n), no("talk", n))
	}
	mustClose(t, s)
	remount(t, disk, true)
	s = mustOpen(t, addressOf(disk+"/bgbot.db"))
	for n := range 5 {
		s.Refuse(ctx, fmt.Sprint(5+n), no("talk", 5+n))
	}
	same(t, "what memory knows", s.Refusals(ctx, 9)[0].Count, 5)
	remount(t, disk, false)
	written(t, s)
	want := []Refusal{{Actor: "slack:U9", Act: "talk", First: midday(0), Last: midday(9), Count: 10}}
	for range 2 {
		same(t, "refusals", s.Refusals(ctx, 9), want)
		s = restart(t, s)
	}
	mustClose(t, s)
}

// Two who try at once are told apart, and each of their words is counted once.
func TestManyStrangersAtOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	done := make(chan bool)
	const people, each = 8, 25
	for p := range people {
		go func() {
			for n := range each {
				e := no("talk", n)
				e.Actor = fmt.Sprint("slack:U", p)
				s.Refuse(ctx, fmt.Sprint(p, "/", n), e)
			}
			done <- true
		}()
	}
	for range people {
		<-done
	}
	all := s.Refusals(ctx, 100)
	same(t, "people", len(all), people)
	if slices.ContainsFunc(all, func(r Refusal) bool { return r.Count != each }) {
		t.Errorf("counts: %+v", all)
	}
	same(t, "records", len(texts(t, s, "")), people*refusalsRecorded)
}
