package bot

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a chat that shows who is at work, and forgets it after 2 min.
type watched struct {
	*service
	err   error
	hangs bool

	mu     sync.Mutex // guards what follows
	status string
	until  time.Time
	calls  int
}

func (w *watched) Working(ctx context.Context, _ Place, status string) error {
	w.mu.Lock()
	w.calls++
	if w.err == nil && !w.hangs {
		w.status, w.until = status, time.Now().Add(2*time.Minute)
	}
	w.mu.Unlock()
	if w.hangs {
		<-ctx.Done()
	}
	return w.err
}

func (w *watched) shows() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().After(w.until) {
		return ""
	}
	return w.status
}

func watching(w *watched) *delivery {
	w.service = &service{limits: budgeted}
	return newDelivery(w, func(s string) string { return s }, slog.New(slog.DiscardHandler))
}

func TestTheSignOfWorkStaysWhileATurnRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{}
		over, end := context.WithCancel(t.Context())
		again := make(chan struct{}, 1)
		done := watching(w).attend(over, place("a"), again)
		for range 10 * 60 {
			passes(time.Second)
			synctest.Wait()
			if w.shows() != "is working …" {
				t.Fatalf("it shows %q", w.shows())
			}
		}
		w.mu.Lock()
		if w.calls > 8 {
			t.Errorf("%d calls in 10 min", w.calls)
		}
		w.status = "" // a message takes it away
		w.mu.Unlock()
		again <- struct{}{}
		synctest.Wait()
		if w.shows() == "" {
			t.Error("after a message it is not shown any more")
		}
		end()
		<-done
		if w.shows() != "" {
			t.Errorf("after the turn it shows %q", w.shows())
		}
	})
}

func TestTheSignOfWorkIsOnlyDecoration(t *testing.T) {
	for name, c := range map[string]struct {
		w     *watched
		calls int
	}{
		"it hangs":              {&watched{hangs: true}, 3},
		"it fails":              {&watched{err: errors.New("internal_error")}, 3},
		"it is limited":         {&watched{err: &Busy{After: time.Hour}}, 1},
		"this chat has no such": {&watched{err: &Gone{Reason: "not_allowed"}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				over, end := context.WithCancel(t.Context())
				began := time.Now()
				done := watching(c.w).attend(over, place("a"), nil)
				if time.Since(began) > 0 {
					t.Error("the turn waited for it")
				}
				passes(2 * time.Minute)
				end()
				<-done
				if c.w.calls != c.calls {
					t.Errorf("%d calls, want %d", c.w.calls, c.calls)
				}
			})
		})
	}
}

func TestATurnShowsThatItIsAtWork(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.write("agent.held", "")
	i.types("devvm is frozen")
	i.shows("⏳ Working")
	i.remove("agent.held")
	i.shows("🤖 I looked")
	i.waits("the sign is not taken away", func() bool {
		i.phone.mu.Lock()
		defer i.phone.mu.Unlock()
		return slices.Contains(i.phone.status, "t1: ")
	})
	i.phone.mu.Lock()
	defer i.phone.mu.Unlock()
	if got := strings.Join(i.phone.status, "|"); !strings.HasPrefix(got, "t1: is working …|") || !strings.HasSuffix(got, "|t1: ") {
		t.Errorf("the thread showed %s", got)
	}
}
