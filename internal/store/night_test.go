package store

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a call may take, whatever the disk does: most of them bound, and none ever, on a machine that does other things as
// well, more than straggler.
const (
	bound     = 250 * time.Millisecond
	straggler = 10 * time.Second
)

// failing is the sentence for people.
func failing(reason string) *regexp.Regexp {
	return regexp.MustCompile(`^The store is failing \(` + reason + `\) since \d\d:\d\d \S+; ` +
		`what happens now is kept in memory and written when it works again\.$`)
}

var slow = regexp.MustCompile(`^The store is slow since \d\d:\d\d \S+; what happens now is kept in memory and written when it catches up\.$`)

// night is what a bot does with its store in an incident, in every part, while the disk is in trouble.
type night struct {
	t *testing.T
	s *Store
}

// before is what was there when all was well.
func (n night) before() {
	ctx := n.t.Context()
	n.s.Seen(ctx, "slack", "before", time.Now())
	keep(ctx, n.s, Thread{Place: here, Session: "s1", Touched: at(0)})
	n.s.BeginTurn(ctx, Turn{ID: "cut", Place: here, Began: at(0)})
	n.s.AddConfirmation(ctx, confirmation("n1"))
	n.s.AddConfirmation(ctx, confirmation("n2"))
	n.s.BeginOperation(ctx, Operation{ID: "o1", Verb: "cycle", Began: at(0)})
	n.s.SetCursor(ctx, "slack", "C1", "1")
	n.s.Record(ctx, Entry{At: at(0), Text: "before"})
	written(n.t, n.s)
}

// during does it all in trouble: each call is short and right.
func (n night) during() {
	n.t.Helper()
	t, s, ctx := n.t, n.s, n.t.Context()
	impatient(s)
	began := time.Now()
	var all []time.Duration
	defer func() {
		t.Helper()
		if slices.Sort(all); all[len(all)/2] > bound {
			t.Errorf("the calls took %s", all)
		}
	}()
	step := func(what string, got, want any) {
		t.Helper()
		took := time.Since(began)
		if all = append(all, took); took > straggler {
			t.Errorf("%s took %s", what, took)
		}
		same(t, what, got, want)
		began = time.Now()
	}
	step("a message from before", s.Seen(ctx, "slack", "before", time.Now()), true)
	step("a new message", s.Seen(ctx, "slack", "during", time.Now()), false)
	step("the new message again", s.Seen(ctx, "slack", "during", time.Now()), true)
	keep(ctx, s, Thread{Place: here, Session: "s2", Touched: at(1)})
	step("save a thread", nil, nil)
	keep(ctx, s, Thread{Place: there, Session: "s3", Touched: at(2)})
	step("save another", nil, nil)
	thread, _ := s.Thread(ctx, here)
	step("a thread", thread.Session, "s2")
	_, ok := s.Thread(ctx, Place{Chat: "nowhere"})
	step("an unknown thread", ok, false)
	s.EndTurn(ctx, "cut")
	step("end a turn", nil, nil)
	s.BeginTurn(ctx, Turn{ID: "t2", Place: here, Began: at(1)})
	step("begin a turn", nil, nil)
	s.UpdateTurn(ctx, "t2", "live", "uptime", "⏳")
	step("update a turn", nil, nil)
	step("open turns", s.OpenTurns(ctx), []Turn{{ID: "t2", Place: here, Began: at(1), Live: "live", Doing: "uptime", Shown: "⏳"}})
	step("use a confirmation", s.UseConfirmation(ctx, "n1", "slack:U1", Confirmed, at(1)), nil)
	step("use it again", s.UseConfirmation(ctx, "n1", "slack:U1", Confirmed, at(1)), ErrUsed)
	s.AddConfirmation(ctx, confirmation("n3"))
	step("add a confirmation", nil, nil)
	s.SetCard(ctx, "n3", "card")
	step("set a card", nil, nil)
	step("use a new confirmation", s.UseConfirmation(ctx, "n3", "slack:U1", Confirmed, at(1)), nil)
	_, err := s.ConfirmationByCode(ctx, "slack", "C1", "4F7Q")
	step("by code", err, nil)
	err = s.UseConfirmation(ctx, "n9", "slack:U1", Confirmed, at(1))
	step("an unknown nonce", errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnread), true) // a full disk can be read
	step("open confirmations", len(s.OpenConfirmations(ctx, at(1))), 1)
	s.EndOperation(ctx, Operation{ID: "o1", Verb: "cycle", Began: at(0), Ended: at(1)})
	step("end an operation", nil, nil)
	s.BeginOperation(ctx, Operation{ID: "o2", Verb: "status", Began: at(1)})
	step("begin an operation", nil, nil)
	step("open operations", len(s.OpenOperations(ctx)), 1)
	step("operations", len(s.Operations(ctx, 9)), 2)
	s.SetCursor(ctx, "slack", "C1", "2")
	step("set a cursor", nil, nil)
	step("a cursor", s.Cursor(ctx, "slack", "C1"), "2")
	step("an unknown cursor", s.Cursor(ctx, "slack", "C9"), "")
	s.Record(ctx, Entry{At: at(1), Text: "during"})
	step("record", nil, nil)
	last := s.Entries(ctx, 1)
	step("entries", []any{len(last), last[0].Text}, []any{1, "during"})
	step("refuse", s.Refuse(ctx, "stranger", no("talk", 1)), false)
	step("refuse it again", s.Refuse(ctx, "stranger", no("talk", 1)), true)
	step("refusals", s.Refusals(ctx, 9)[0].Count, 1)
}

// after is a restart when the disk works again: all is there, in order, once.
func (n night) after() {
	n.t.Helper()
	t, ctx := n.t, n.t.Context()
	written(t, n.s)
	same(t, "trouble", n.s.Trouble(), "")
	s := restart(t, n.s)
	for _, id := range []string{"before", "during"} {
		same(t, "seen "+id, s.Seen(ctx, "slack", id, time.Now()), true)
	}
	for _, want := range []Thread{{Place: there, Session: "s3", Touched: at(2)}, {Place: here, Session: "s2", Touched: at(1)}} {
		thread, _ := s.Thread(ctx, want.Place)
		same(t, "thread", thread, want)
	}
	same(t, "threads", threads(t, s), 2)
	same(t, "turns", s.OpenTurns(ctx), []Turn{{ID: "t2", Place: here, Began: at(1), Live: "live", Doing: "uptime", Shown: "⏳"}})
	same(t, "used before", s.UseConfirmation(ctx, "n1", "slack:U1", Confirmed, at(1)), ErrUsed)
	same(t, "still open", s.UseConfirmation(ctx, "n2", "slack:U1", Confirmed, at(1)), nil)
	same(t, "made and used in trouble", s.UseConfirmation(ctx, "n3", "slack:U1", Confirmed, at(1)), ErrUsed)
	same(t, "operations", s.Operations(ctx, 9), []Operation{{ID: "o2", Verb: "status", Began: at(1)}, {ID: "o1", Verb: "cycle", Began: at(0), Ended: at(1)}})
	same(t, "cursor", s.Cursor(ctx, "slack", "C1"), "2")
	same(t, "records", texts(t, s, `where text not like 'filler%' order by seq`), []string{"before", "during", "talk 1"})
	same(t, "refusals", s.Refusals(ctx, 9)[0].Count, 1)
}

// texts are those of the records on disk.
func texts(t *testing.T, s *Store, where string) []string {
	t.Helper()
	all, err := list(t.Context(), directly(t, s.path), func(row scanner) (text string, err error) { return text, row.Scan(&text) },
		`select text from records `+where)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// until has records written until the store is in trouble.
func (n night) until(want *regexp.Regexp) {
	n.t.Helper()
	for i := range 1000 {
		n.s.Record(n.t.Context(), Entry{At: at(0), Text: fmt.Sprint("filler ", i, strings.Repeat(" full", 1000))})
		if want.MatchString(n.s.Trouble()) {
			return
		}
	}
	n.t.Fatalf("no trouble came, but %q", n.s.Trouble())
}
