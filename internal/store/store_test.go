package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be a second bgbot: with STORE_TEST_CHILD it plays that part instead of testing.
func TestMain(m *testing.M) {
	if part := os.Getenv("STORE_TEST_CHILD"); part != "" {
		go func() {
			io.Copy(io.Discard, os.Stdin) // until the test is gone, however it went
			os.Exit(3)
		}()
		os.Exit(children[part](os.Getenv("STORE_TEST_URL")))
	}
	os.Exit(m.Run())
}

// children are the parts that a child may play.
var children = map[string]func(address string) int{
	"hold":   holdStore,
	"see":    seeUntilKilled,
	"nobody": openAsNobody,
	"idle":   idleMemory,
}

// child starts the test binary in a part; it is killed when the test ends.
func child(t *testing.T, part, address string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"STORE_TEST_CHILD=" + part, "STORE_TEST_URL=" + address, "GORACE=atexit_sleep_ms=0"}
	cmd.Stderr = t.Output()
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// at is a time of the last hour, for what is older is pruned. It has no monotonic part, like one from a column.
func at(minute int) time.Time { return anHourAgo.Add(time.Duration(minute) * time.Minute) }

var anHourAgo = time.Now().UTC().Add(-time.Hour).Round(0)

func addressOf(path string) string { return "sqlite://" + path }

func newAddress(t *testing.T) string {
	t.Helper()
	return addressOf(filepath.Join(t.TempDir(), "state", "bgbot.db"))
}

func logTo(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func mustOpen(t *testing.T, address string) *Store {
	t.Helper()
	s, err := Open(t.Context(), address, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	s.patience = straggler // on a busy machine a good disk seems to be a slow one; see impatient
	t.Cleanup(func() { s.Close() })
	return s
}

// impatient gives s the patience that it has outside of tests.
func impatient(s *Store) { s.patience = Patience }

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// restart closes the store and opens it anew; what it knows then was on disk.
func restart(t *testing.T, s *Store) *Store {
	t.Helper()
	mustClose(t, s)
	return mustOpen(t, addressOf(s.path))
}

// eventually waits for something to become true.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// written waits until all is on disk.
func written(t *testing.T, s *Store) {
	t.Helper()
	eventually(t, "the store to write", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.queue.size() == 0 && !s.health.ill()
	})
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// bg is the context of the children.
var bg = context.Background()

var (
	here  = Place{Chat: "slack", Channel: "C1", Thread: "1710.1"}
	there = Place{Chat: "slack", Channel: "C1", Thread: "1710.2"}
)

// keep has the store know t.
func keep(ctx context.Context, s *Store, t Thread) {
	s.ChangeThread(ctx, t.Place, func(now *Thread) { *now = t })
}

// threads is how many the disk has.
func threads(t *testing.T, s *Store) int { return count(t, directly(t, s.path), "threads") }

func TestWhatWasKeptSurvivesARestart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))

	if s.Seen(ctx, "slack", "m1", time.Now()) {
		t.Error("m1 was seen before it came")
	}
	thread := Thread{Place: here, Session: "5d2c", Model: "sonnet", Opened: at(1), Touched: at(2)}
	keep(ctx, s, thread)
	thread.Started, thread.Touched = true, at(3)
	keep(ctx, s, thread)
	older := Thread{Place: there, Session: "77", Opened: at(0), Touched: at(0)}
	keep(ctx, s, older)

	turn := Turn{ID: "t1", Place: here, Message: "m1", Actor: "slack:U1", Prompt: "devvm is frozen", Began: at(4)}
	s.BeginTurn(ctx, turn)
	s.BeginTurn(ctx, Turn{ID: "t2", Place: there, Began: at(5)})
	s.UpdateTurn(ctx, "t1", "live-1", "ssh devvm 'dmesg -T'", "⏳ Working")
	s.UpdateTurn(ctx, "unknown", "x", "y", "z")
	s.EndTurn(ctx, "t2")
	turn.Live, turn.Doing, turn.Shown = "live-1", "ssh devvm 'dmesg -T'", "⏳ Working"

	open := Confirmation{
		Nonce: "n1", Code: "4F7Q", Verb: "cycle", Subject: "x", VMID: 102, Place: here, Requester: "slack:U1", Origin: "person",
		Session: "5d2c", Made: at(5), Expires: at(7),
	}
	s.AddConfirmation(ctx, open)
	s.SetCard(ctx, "n1", "card-1")
	open.Card = "card-1"

	running := Operation{ID: "o1", Verb: "cycle", VMID: 102, Place: here, Actor: "slack:U1", Confirmer: "slack:U2", Name: "olga", Began: at(6)}
	s.BeginOperation(ctx, running)
	s.UpdateOperation(ctx, "o1", "live-2", "")
	s.UpdateOperation(ctx, "o1", "", "6c7c")
	s.UpdateOperation(ctx, "unknown", "x", "y")
	running.Live, running.GateOp = "live-2", "6c7c"
	ended := Operation{ID: "o2", Verb: "status", VMID: 102, Place: here, Actor: "slack:U1", Began: at(7)}
	s.BeginOperation(ctx, ended)
	ended.Ended, ended.GateOp, ended.Exit, ended.Text = at(8), "c81f", 6, "not up in time"
	s.EndOperation(ctx, ended)

	first := Entry{
		At: at(1), Actor: "slack:U1", Act: "verb", Chat: "slack", Channel: "C1", Thread: "1710.1",
		Subject: "cycle", Outcome: "asked", Text: "vm cycle",
	}
	second := Entry{At: at(2), Act: "command", Text: "uptime"}
	s.Record(ctx, first)
	s.Record(ctx, second)
	first.Seq, second.Seq = 1, 2

	s.SetCursor(ctx, "slack", "C1", "1710.1")
	s.SetCursor(ctx, "slack", "C1", "1710.9")

	for name, s := range map[string]*Store{"before": s, "after": restart(t, s)} {
		if s.Trouble() != "" {
			t.Errorf("%s: trouble: %s", name, s.Trouble())
		}
		if !s.Seen(ctx, "slack", "m1", time.Now()) {
			t.Errorf("%s: m1 was forgotten", name)
		}
		got, ok := s.Thread(ctx, here)
		same(t, name+": thread", []any{got, ok}, []any{thread, true})
		got, ok = s.Thread(ctx, there)
		same(t, name+": another thread", []any{got, ok}, []any{older, true})
		same(t, name+": turns", s.OpenTurns(ctx), []Turn{turn})
		asked, err := s.Confirmation(ctx, "n1")
		same(t, name+": confirmation", []any{asked, err}, []any{open, nil})
		same(t, name+": open operations", s.OpenOperations(ctx), []Operation{running})
		if name == "after" { // a closed store does not read
			same(t, name+": entries", s.Entries(ctx, 10), []Entry{second, first})
			same(t, name+": last entry", s.Entries(ctx, 1), []Entry{second})
		}
		same(t, name+": operations", s.Operations(ctx, 10), []Operation{ended, running})
		same(t, name+": last operation", s.Operations(ctx, 1), []Operation{ended})
		same(t, name+": cursor", s.Cursor(ctx, "slack", "C1"), "1710.9")
		same(t, name+": other cursor", s.Cursor(ctx, "mattermost", "C1"), "")
		if _, ok := s.Thread(ctx, Place{Chat: "console"}); ok {
			t.Errorf("%s: a thread that nobody opened", name)
		}
	}
}

func TestOldRowsAreFoundOnDiskWhenMemoryHasForgottenThem(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	place := func(n int) Place { return Place{Chat: "slack", Channel: "C1", Thread: fmt.Sprint(n)} }
	const many = threadsHeld + 40
	for n := range many {
		s.mu.Lock()
		s.enqueue(threadWrite(Thread{Place: place(n), Session: fmt.Sprint("s", n), Touched: at(0).Add(time.Duration(n))}))
		s.enqueue(cursorWrite(cursorKey{"slack", fmt.Sprint(n)}, fmt.Sprint("c", n)))
		s.mu.Unlock()
	}
	s.Seen(ctx, "slack", "old", time.Now().Add(-29*24*time.Hour))
	written(t, s)
	mustClose(t, s)
	seenBefore(t, s.path, "new", messagesHeld)
	s = mustOpen(t, addressOf(s.path))
	if n := len(s.threads.rows); n != threadsHeld {
		t.Errorf("memory holds %d threads, want %d", n, threadsHeld)
	}
	if n := len(s.messages.rows); n != messagesHeld {
		t.Errorf("memory holds %d messages, want %d", n, messagesHeld)
	}
	for n := many - 1; n >= 0; n-- { // the newest first, which are in memory
		if got, ok := s.Thread(ctx, place(n)); !ok || got.Session != fmt.Sprint("s", n) {
			t.Errorf("thread %d is %+v, %v", n, got, ok)
		}
		if got := s.Cursor(ctx, "slack", fmt.Sprint(n)); got != fmt.Sprint("c", n) {
			t.Errorf("cursor %d is %q", n, got)
		}
	}
	if n := len(s.threads.rows); n > threadsHeld*5/4 {
		t.Errorf("memory holds %d threads after reading all", n)
	}
	if !s.Seen(ctx, "slack", "old", time.Now()) {
		t.Error("a message that only the disk knows counts as new")
	}
	same(t, "all threads", threads(t, s), many)
}

// seenBefore writes n messages of just now past the store: one by one they take seconds.
func seenBefore(t *testing.T, path, prefix string, n int) {
	t.Helper()
	_, err := directly(t, path).Exec(`with recursive many(n) as (select 0 union all select n + 1 from many where n + 1 < ?)
insert into messages select 'slack', ? || printf('%06d', n), ? from many`, n, prefix, nanos(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnyTextIsKeptByteForByte(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	texts := []string{
		strings.Repeat("5 MB of journal\n", 5<<20/16),
		"nul \x00 in the middle", "\x00", "not \xff\xfe UTF-8 \xc3", "\x1b[31mred\x1b[0m", "'; drop table records; --", "🔴 ё", "",
	}
	for _, text := range texts {
		s.Record(ctx, Entry{At: at(1), Text: text})
		written(t, s)
	}
	for _, text := range texts[1:] {
		keep(ctx, s, Thread{Place: Place{Thread: text}, Session: text})
		s.SetCursor(ctx, text, text, text)
	}
	s = restart(t, s)
	for i, e := range s.Entries(ctx, len(texts)) {
		if want := texts[len(texts)-1-i]; e.Text != want {
			t.Errorf("record %.40q came back as %.40q", want, e.Text)
		}
	}
	for _, text := range texts[1:] {
		if got, ok := s.Thread(ctx, Place{Thread: text}); !ok || got.Session != text {
			t.Errorf("thread %.40q came back as %.40q, %v", text, got.Session, ok)
		}
		if got := s.Cursor(ctx, text, text); got != text {
			t.Errorf("cursor %.40q came back as %.40q", text, got)
		}
	}
}

func TestRecordsCannotBeChanged(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	s.Record(t.Context(), Entry{At: at(1), Text: "the truth"})
	mustClose(t, s)
	db := directly(t, s.path)
	for _, query := range []string{`update records set text = 'a lie'`, `delete from records`, `replace into records (seq, at, actor, act, chat, channel, thread, subject, outcome, text) values (1, 0, '', '', '', '', '', '', '', 'a lie')`} {
		if _, err := db.Exec(query); err == nil || !strings.Contains(err.Error(), "records are append-only") {
			t.Errorf("%s: %v", query, err)
		}
	}
	db.Close()
	s = mustOpen(t, addressOf(s.path))
	same(t, "records", s.Entries(t.Context(), 5), []Entry{{At: at(1), Text: "the truth", Seq: 1}})
}

func TestWhatWasAnsweredSurvivesAKill(t *testing.T) {
	t.Parallel()
	address := newAddress(t)
	bot, said := child(t, "see", address)
	var last string
	for n := 0; said.Scan(); n++ {
		last = said.Text()
		if n == 100 {
			bot.Process.Signal(syscall.SIGKILL) // in the middle of the next ones
		}
	}
	n := 0
	if _, err := fmt.Sscan(last, &n); err != nil || n < 100 {
		t.Fatalf("the other bgbot got to %q: %v", last, err)
	}
	s := mustOpen(t, address)
	for i := range n + 1 {
		id := fmt.Sprint(i)
		if !s.Seen(t.Context(), "slack", id, time.Now()) {
			t.Fatalf("message %s of %d was acknowledged and is lost", id, n)
		}
		if err := s.UseConfirmation(t.Context(), id, "slack:U1", Confirmed, at(2)); !errors.Is(err, ErrUsed) {
			t.Fatalf("confirmation %s was used before the kill: %v", id, err)
		}
	}
	if s.Trouble() != "" {
		t.Error(s.Trouble())
	}
}

// seeUntilKilled says a number when the message and the use of that number were acknowledged. On a loaded machine the
// store may be slow for a moment; then nothing is acknowledged until it has written all.
func seeUntilKilled(address string) int {
	s, err := Open(bg, address, slog.New(slog.DiscardHandler))
	if err != nil {
		return 1
	}
	for i := 0; ; i++ {
		id := fmt.Sprint(i)
		s.Seen(bg, "slack", id, time.Now())
		s.AddConfirmation(bg, Confirmation{Nonce: id, Made: at(1), Expires: at(60)})
		if err := s.UseConfirmation(bg, id, "slack:U1", Confirmed, at(2)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		for s.Trouble() != "" {
			<-time.After(time.Millisecond)
		}
		fmt.Println(id)
	}
}
