package store

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Whoever changes a thread sees what others have changed, also in one that only the disk knows.
func TestChangesOfAThreadFollowEachOther(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	keep(ctx, s, Thread{Place: here, Session: "s1", Touched: at(0)})
	s = restart(t, s)
	s.mu.Lock()
	s.threads.drop(here)
	s.mu.Unlock()
	const changes = 50
	var group sync.WaitGroup
	for n := range changes {
		group.Go(func() {
			s.ChangeThread(ctx, here, func(t *Thread) { t.Model += fmt.Sprint(" ", n) })
		})
	}
	group.Wait()
	for name, s := range map[string]*Store{"before": s, "after": restart(t, s)} {
		got, _ := s.Thread(ctx, here)
		same(t, name+": session and changes", []any{got.Session, len(strings.Fields(got.Model))}, []any{"s1", changes})
	}
}
