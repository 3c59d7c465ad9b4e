package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func row(key any, r rank, value string) *write { return newWrite(key, r, "insert", value) }

func values(writes []*write) string {
	var all []string
	for _, w := range writes {
		all = append(all, w.args[0].(string))
	}
	return strings.Join(all, " ")
}

func TestARowWrittenTwiceWaitsOnce(t *testing.T) {
	t.Parallel()
	q := queue{most: mostWaiting, latest: make(map[any]*write)}
	first := q.add(row("a", state, "a1"))
	q.add(row(nil, history, "r1"))
	if again := q.add(row("a", state, "a2")); again != first {
		t.Error("the second write of a row has a place of its own")
	}
	same(t, "merged", values(q.waiting), "a2 r1")

	same(t, "taken", values(q.take()), "a2 r1")
	later := q.add(row("a", state, "a3"))
	if later == first {
		t.Error("a write was changed while the writer had it")
	}
	q.add(row("a", state, "a4"))
	same(t, "in flight", []any{values(q.flying), values(q.waiting), q.size()}, []any{"a2 r1", "a4", 3})

	q.back()
	same(t, "back in order", values(q.waiting), "a2 r1 a4")
	q.first(row(nil, state, "clear"))
	same(t, "first", values(q.take()), "clear a2 r1 a4")
	q.landed()
	<-first.done
	<-later.done
	same(t, "empty", []any{q.size(), q.weight, len(q.latest), q.lost, q.has("a")}, []any{0, 0, 0, 0, false})
}

func TestAQueueIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	q := queue{most: mostWaiting, latest: make(map[any]*write)}
	large := strings.Repeat("x", mostBytes/4)
	q.add(row("confirmation", consent, large))
	for n := range 10 {
		q.add(row(nil, history, fmt.Sprint(n, large)))
	}
	kept := []string{q.waiting[0].key.(string)}
	for _, w := range q.waiting[1:] {
		kept = append(kept, w.args[0].(string)[:1])
	}
	same(t, "kept", kept, []string{"confirmation", "8", "9"})
	same(t, "lost", q.lost, 8)
	huge := queue{most: mostWaiting}
	huge.add(row(nil, history, strings.Repeat("x", mostBytes+1)))
	same(t, "one write of any size", huge.size(), 1)
	same(t, "a batch of one", len(huge.take()), 1)
}

func TestABatchIsBounded(t *testing.T) {
	t.Parallel()
	q := queue{most: mostWaiting, latest: make(map[any]*write)}
	for range batchWrites + 1 {
		q.add(row(nil, history, "r"))
	}
	same(t, "writes", len(q.take()), batchWrites)
	q.landed()
	q.add(row(nil, history, strings.Repeat("x", batchBytes)))
	same(t, "bytes", len(q.take()), 1)
}

func TestMemoryForgetsWhatWasUsedLongestAgo(t *testing.T) {
	t.Parallel()
	r := newRecent[int, string](8, func(_ int, v string) bool { return v == "open" })
	r.put(0, "open")
	for k := 1; k <= 8; k++ {
		r.put(k, "closed")
		r.get(1)
	}
	var known []int
	for k := range r.values() {
		known = append(known, k)
	}
	slices.Sort(known)
	same(t, "known", known, []int{0, 1, 5, 6, 7, 8})
	for k := 10; k < 100; k++ {
		r.put(k, "open")
	}
	for k := 10; k < 100; k++ {
		if _, ok := r.get(k); !ok {
			t.Fatalf("%d is open and was forgotten", k)
		}
		r.put(k, "closed")
	}
	r.learn(99, "what the disk says")
	if v, _ := r.get(99); v != "closed" {
		t.Errorf("the disk knows better: %q", v)
	}
	for k := 100; k < 200; k++ {
		r.put(k, "closed")
	}
	if len(r.rows) > 12 {
		t.Errorf("%d rows are held when all are closed", len(r.rows))
	}
}
