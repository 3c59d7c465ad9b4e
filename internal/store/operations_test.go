package store

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// While the disk hangs, the last operations are those that memory knows, the ones from before the restart among them.
func TestTheLastOperationsAreKnownWithoutTheDisk(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	end := func(n int) Operation {
		o := Operation{ID: fmt.Sprint("o", n), Verb: "status", Began: at(0).Add(time.Duration(n)), Ended: at(1)}
		s.EndOperation(ctx, o)
		return o
	}
	var all []Operation
	for n := range operationsHeld / 2 {
		all = append(all, end(n))
	}
	s = restart(t, s)
	for n := range operationsHeld/2 + 1 {
		all = append(all, end(operationsHeld/2+n))
	}
	written(t, s)
	end(len(all) - 1) // once more: all are on disk, so that some are forgotten
	defer hang(s)()
	slices.Reverse(all)
	const last = operationsHeld/2 + 8
	same(t, "operations", s.Operations(ctx, last), all[:last])
}
