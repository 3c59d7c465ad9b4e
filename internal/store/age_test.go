package store

import (
	"database/sql"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// hurried is the pace of a test, and enough how many rows it keeps anyhow.
var hurried = pace{keep: enough, rows: 30, quiet: time.Millisecond, most: time.Minute}

const enough = 100

// ago is a time that many days ago.
func ago(days int) time.Time { return time.Now().Add(-time.Duration(days) * day) }

// fillings make a row of each table, over and done with, from a time and a number.
var fillings = map[string]string{
	"messages": `select 'slack', ?3 || printf('%08d', n), ?2 + n from many`,
	"threads":  `select 'slack', 'C1', ?3 || printf('%08d', n), 'session', true, 'sonnet', ?2 + n, ?2 + n from many`,
	"confirmations": `select ?3 || printf('%08d', n), '4F7Q', 'cycle', 102, 'slack', 'C1', '1710.1', 'card', 'slack:U1', 'person', '',
?2 + n, ?2 + n + 120000000000, ?2 + n + 1000000000, 'slack:U1', 'confirmed', '' from many`,
	"operations": `select ?3 || printf('%08d', n), 'cycle', 102, 'slack', 'C1', '1710.1', 'slack:U1', 'slack:U1',
?2 + n, ?2 + n + 1, 'c81f', 0, 'devvm is back', 'live', 'olga' from many`,
	"records":  `select null, ?2 + n, 'slack:U1', 'command', 'slack', 'C1', '1710.1', 'turn', 'allowed', ?3 || printf('%08d', n) || printf('%.200c', 'x') from many`,
	"refusals": `select ?2 + n, 'slack:U' || n, ?3, ?2 + n, ?2 + n, 7 from many`,
}

// fill puts n old rows into a table, past the store: one by one they take hours.
func fill(t testing.TB, db *sql.DB, table, prefix string, from time.Time, n int) {
	t.Helper()
	_, err := db.Exec(`with recursive many(n) as (select 0 union all select n + 1 from many where n + 1 < ?1) insert into `+table+` `+fillings[table],
		n, nanos(from), prefix)
	if err != nil {
		t.Fatalf("%s: %v", table, err)
	}
}

// count is how many rows of a table there are.
func count(t testing.TB, db *sql.DB, from string) (n int) {
	t.Helper()
	if err := db.QueryRow(`select count(*) from ` + from).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// whenever opens a store for whom each moment is good to throw something away, and has it do so once.
func whenever(t *testing.T, path string) *Store {
	t.Helper()
	s := mustOpen(t, addressOf(path))
	if !s.age(hurried) {
		t.Fatal("the store is closed")
	}
	written(t, s)
	return s
}

// A bgbot has run for years. What is too old is gone, what is not is all there, and what is still open is there however
// old it is.
func TestWhatIsOldIsThrownAway(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	s.BeginOperation(ctx, Operation{ID: "running", Verb: "cycle", Began: ago(800)})
	s.BeginTurn(ctx, Turn{ID: "cut", Place: here, Began: ago(800)})
	mustClose(t, s)
	db := directly(t, s.path)
	const old = 100
	for table := range fillings {
		kept := 400
		if table == "messages" {
			kept = 30
		}
		fill(t, db, table, "old", ago(kept+1), old)
		fill(t, db, table, "young", ago(kept-1), enough)
	}
	db.Close()

	s = whenever(t, s.path)
	db = directly(t, s.path)
	for table, extra := range map[string]int{"messages": 0, "threads": 0, "confirmations": 0, "operations": 1, "refusals": 0, "records": 1} {
		same(t, table, count(t, db, table), enough+extra)
	}
	same(t, "the oldest record", strings.TrimRight(texts(t, s, `order by seq limit 1`)[0], "x"), "young00000000")
	same(t, "the last record", texts(t, s, `order by seq desc limit 1`), []string{
		"older than 400 days and dropped: 100 threads, 100 confirmations, 100 operations, 100 refusals, 100 records",
	})
	s = restart(t, s)
	same(t, "running", []int{len(s.OpenOperations(ctx)), len(s.OpenTurns(ctx))}, []int{1, 1})
	_, err := s.Confirmation(ctx, "young00000000")
	_, thread := s.Thread(ctx, Place{"slack", "C1", "young00000000"})
	same(t, "an old card, an old thread", []any{err, thread}, []any{nil, true})
	same(t, "a young message", s.Seen(ctx, "slack", "young00000000", time.Now()), true)
	same(t, "an old message", s.Seen(ctx, "slack", "old00000000", time.Now()), false)
	if s.age(hurried); count(t, db, "records") != enough+1 {
		t.Error("a day on which nothing is too old leaves a record")
	}
}

// The clock of a small box says that it is some year to come. The store does not forget what it knows.
func TestAClockThatIsAheadDoesNotEmptyTheStore(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	db := directly(t, s.path)
	for table := range fillings { // as seen from there
		fill(t, db, table, "all", ago(3650), enough)
	}
	db.Close()
	s = whenever(t, s.path)
	for table := range fillings {
		same(t, table, count(t, directly(t, s.path), table), enough)
	}
}

// A small box boots without the time: what it knows lies in the future, beside what this boot has written. Nothing of it
// goes, and nobody is told that it was old.
func TestAClockThatIsBehindThrowsNothingAway(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	db := directly(t, s.path)
	const known, since = enough + 50, 5
	for table := range fillings { // as seen from there
		fill(t, db, table, "all", ago(-9000), known)
		fill(t, db, table, "since", ago(0), since)
	}
	db.Close()
	s = whenever(t, s.path)
	for table := range fillings {
		same(t, table, count(t, directly(t, s.path), table), known+since)
	}
}

// The clock was behind while some records were made. They go with those around them: none that is young goes because of
// it, and none that is old stays.
func TestRecordsOfAClockThatWasBehindGoWithThoseAroundThem(t *testing.T) {
	t.Parallel()
	same(t, "left", left(t, map[string]int{"1 old": 500, "2 behind": 20000, "3 old": 450, "4 young": 300, "5 behind": 20000}),
		[]string{"4 young", "5 behind", "last", "older than 400 days and dropped: 30 records"})
}

// The clock was ahead while some records were made, or it is behind now; nobody can tell. So they stay, and those after
// them, to be on the safe side.
func TestRecordsFromTheFutureStay(t *testing.T) {
	t.Parallel()
	same(t, "left", left(t, map[string]int{"1 old": 500, "2 ahead": -9000, "3 old": 450}),
		[]string{"2 ahead", "3 old", "last", "older than 400 days and dropped: 10 records"})
}

// left is what stays of records, ten of a name, in the order of their names, made so many days ago.
func left(t *testing.T, made map[string]int) (names []string) {
	t.Helper()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	db := directly(t, s.path)
	for _, name := range slices.Sorted(maps.Keys(made)) {
		fill(t, db, "records", name, ago(made[name]), 10)
	}
	fill(t, db, "records", "last", ago(1), enough)
	db.Close()
	s = whenever(t, s.path)
	for _, text := range texts(t, s, `order by seq`) {
		names = append(names, strings.TrimRight(text, "0123456789x"))
	}
	return slices.Compact(names)
}

// Throwing away may take hours, and a clock is set right meanwhile: each step asks it anew.
func TestEachStepAsksTheClock(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	const most = 300 * time.Millisecond
	db := directly(t, s.path)
	fill(t, db, "messages", "young", ago(1), enough)
	s = mustOpen(t, addressOf(s.path))
	written(t, s)
	s.SetCursor(t.Context(), "slack", "C1", "1") // so that each step waits
	fill(t, db, "messages", "a moment later", time.Now().Add(most-messagesKept), 1)
	s.age(pace{keep: enough, rows: 30, quiet: time.Hour, most: most})
	same(t, "messages", count(t, db, "messages"), enough)
}

// Also by hand nobody deletes a record before its time.
func TestAYoungRecordCannotBeDeleted(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	db := directly(t, s.path)
	for _, days := range []int{-9000, -2, 0, 30, 398} {
		fill(t, db, "records", "young", ago(days), 1)
		if _, err := db.Exec(`delete from records where seq = (select max(seq) from records)`); err == nil || !strings.Contains(err.Error(), "records are append-only") {
			t.Errorf("a record of %d days ago: %v", days, err)
		}
	}
}

// The file does not grow for ever: new rows take the place of those that were thrown away.
func TestTheFileStopsGrowing(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	const many = 1000
	big := hurried
	big.keep, big.rows = many, many
	var sizes []int64
	for round := range 4 {
		db := directly(t, s.path)
		for table := range fillings {
			fill(t, db, table, fmt.Sprint("round", round), ago(500).Add(time.Duration(round)*time.Hour), many)
		}
		db.Close()
		s = mustOpen(t, addressOf(s.path))
		s.age(big)
		mustClose(t, s)
		info, err := os.Stat(s.path)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	t.Logf("sizes: %d", sizes)
	if sizes[3] > sizes[1]*105/100 { // from the second round on, one round stays and one is new
		t.Errorf("the file grows: %d", sizes)
	}
}

// While people write, nothing is thrown away; but who writes for ever does not keep it from being done.
func TestAnIncidentIsNotHeldUp(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	db := directly(t, s.path)
	fill(t, db, "messages", "old", ago(60), 100)
	fill(t, db, "messages", "young", ago(1), enough)
	s = mustOpen(t, addressOf(s.path))
	written(t, s)
	s.SetCursor(t.Context(), "slack", "C1", "1") // the hour that follows is an incident
	began := time.Now()
	const most = 200 * time.Millisecond
	s.age(pace{keep: enough, rows: 100, quiet: time.Hour, most: most})
	const steps = 2 // and a look at each table
	if took, least := time.Since(began), time.Duration(len(ageings)+steps)*most; took < least {
		t.Errorf("it took %s, but each step waits %s", took, most)
	}
	same(t, "messages", count(t, db, "messages"), enough)
}

// Whoever stops bgbot does not wait for it.
func TestCloseEndsTheThrowingAway(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	db := directly(t, s.path)
	fill(t, db, "messages", "old", ago(60), 3000)
	fill(t, db, "messages", "young", ago(1), enough)
	s = mustOpen(t, addressOf(s.path))
	running := make(chan bool)
	go func() { running <- s.age(pace{keep: enough, rows: 1, rest: 1 << 10}) }()
	eventually(t, "the first step", func() bool { return count(t, db, "messages") < enough+3000 })
	mustClose(t, s)
	same(t, "open", <-running, false)
	if count(t, db, "messages") == enough {
		t.Error("it went on to its end")
	}
}

// A disk that is full does not become worse by it, and the rest of the bot hears of it as ever.
func TestAFullDiskIsToldWhenNothingCanBeThrownAway(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	db := directly(t, s.path)
	fill(t, db, "messages", "old", ago(60), 1000)
	fill(t, db, "messages", "young", ago(1), enough)
	s = mustOpen(t, addressOf(s.path))
	onDisk(t, s, "pragma query_only = 1")
	s.age(hurried)
	same(t, "messages", count(t, db, "messages"), enough+1000)
	written(t, s) // on a new connection all is well
	s.age(hurried)
	same(t, "messages, later", count(t, db, "messages"), enough)
}
