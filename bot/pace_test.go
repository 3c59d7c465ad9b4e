package bot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var budgeted = Limits{EditGap: 400 * time.Millisecond, EditsPerMinute: 45, PostGap: time.Second, Tick: 5 * time.Second, Apart: true}

// mostInAMinute is the largest number of edits that the service saw within any 60 s.
func (s *service) mostInAMinute() (most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, at := range s.began {
		beyond := slices.IndexFunc(s.began[i:], func(t time.Time) bool { return t.Sub(at) >= time.Minute })
		if beyond < 0 {
			beyond = len(s.began) - i
		}
		most = max(most, beyond)
	}
	return most
}

// runs feeds n threads for so long and returns what each line waited for, sorted.
func runs(ctx context.Context, d *delivery, n int, long time.Duration) (lag []time.Duration) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range n {
		wg.Go(func() {
			passes(time.Duration(i) * 37 * time.Millisecond)
			one := d.feed(ctx, fmt.Sprint(i), long)
			mu.Lock()
			defer mu.Unlock()
			lag = append(lag, one...)
		})
	}
	wg.Wait()
	slices.Sort(lag)
	return lag
}

func (d *delivery) feed(ctx context.Context, thread string, long time.Duration) []time.Duration {
	var mu sync.Mutex
	var born []time.Time
	l := d.show(ctx, place(thread), 0, func() []Text {
		mu.Lock()
		defer mu.Unlock()
		return []Text{{Body: fmt.Sprintf("%s %d", thread, len(born))}}
	}, nil)
	for range int(long / (250 * time.Millisecond)) {
		mu.Lock()
		born = append(born, time.Now())
		mu.Unlock()
		l.touch()
		passes(250 * time.Millisecond)
	}
	l.close()
	return d.chat.(*service).lags(thread, born)
}

// lags is how long it took until each line, or a later one, was visible.
func (s *service) lags(thread string, born []time.Time) (lag []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := 0
	for _, e := range s.edits {
		name, count, _ := strings.Cut(e.body, " ")
		if name != thread || e.at.Before(born[0]) {
			continue
		}
		var n int
		_, _ = fmt.Sscan(count, &n)
		for ; line < n; line++ {
			lag = append(lag, e.at.Sub(born[line]))
		}
	}
	return lag
}

func TestStaleness(t *testing.T) {
	for _, c := range []struct {
		threads  int
		long     time.Duration
		p50, p95 time.Duration
	}{
		{1, 10 * time.Second, 700 * time.Millisecond, 1500 * time.Millisecond},
		{1, 10 * time.Minute, 1200 * time.Millisecond, 2200 * time.Millisecond},
		{10, 10 * time.Second, 6 * time.Second, 14 * time.Second},
		{10, 10 * time.Minute, 12 * time.Second, 22 * time.Second},
		{50, 4 * time.Minute, 60 * time.Second, 2 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%d threads for %s", c.threads, c.long), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{limits: budgeted}
				lag := runs(t.Context(), delivers(s), c.threads, c.long)
				p50, p95 := lag[len(lag)/2], lag[len(lag)*95/100]
				t.Logf("%2d threads for %4s: p50 %6.2f s, p95 %6.2f s, most %6.2f s; at most %d edits a minute",
					c.threads, c.long, p50.Seconds(), p95.Seconds(), lag[len(lag)-1].Seconds(), s.mostInAMinute())
				if p50 > c.p50 || p95 > c.p95 {
					t.Errorf("want p50 %s and p95 %s", c.p50, c.p95)
				}
				if n := s.mostInAMinute(); n > 45 {
					t.Errorf("%d edits in a minute", n)
				}
				if s.crossed {
					t.Error("two writes to one message were under way at once")
				}
			})
		})
	}
}

func TestALongTurnIsEven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{limits: budgeted}
		d := delivers(s)
		runs(t.Context(), d, 1, 5*time.Minute)
		if first := s.began[1].Sub(s.began[0]); first > 800*time.Millisecond {
			t.Errorf("the second edit of a turn comes %s after the first", first)
		}
		for i := range s.began[1 : len(s.began)-1] {
			if gap := s.began[i+1].Sub(s.began[i]); gap > 2*time.Second {
				t.Errorf("no edit for %s after %s", gap, s.began[i].Sub(s.began[0]))
			}
		}
		began := len(s.began)
		passes(20 * time.Second) // who was quiet for a while is quick again
		if lag := runs(t.Context(), d, 1, 10*time.Second); lag[len(lag)/2] > 700*time.Millisecond {
			t.Errorf("after %d edits and a pause the lines of a short turn wait %s", began, lag[len(lag)/2])
		}
	})
}

func TestALastStateHasRoomInAFullMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{limits: budgeted}
		d := delivers(s)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var cards []string
		for i := range 8 {
			id, err := d.post(ctx, place("cards"), Text{Body: fmt.Sprintf("card %d?", i)})
			if err != nil {
				t.Fatal(err)
			}
			cards = append(cards, id)
		}
		wg.Go(func() { runs(ctx, d, 20, 3*time.Minute) })
		passes(2 * time.Minute)
		began := time.Now()
		for i, id := range cards {
			if err := d.settle(ctx, place("cards"), id, Text{Body: "answered"}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); i == 0 && took > 600*time.Millisecond || i == 3 && took > 3*time.Second || took > 15*time.Second {
				t.Errorf("%d buttons went after %s", i+1, took)
			}
		}
		stop()
		wg.Wait()
		if n := s.mostInAMinute(); n > 45 {
			t.Errorf("%d edits in a minute", n)
		}
	})
}

// Whatever happens, no minute has more edits than the budget, nothing is sent inside a Retry-After, and all is said.
func TestNoMinuteExceedsTheBudget(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dice := rand.New(rand.NewPCG(seed, 1))
				var mu sync.Mutex
				roll := func(n int) int { mu.Lock(); defer mu.Unlock(); return dice.IntN(n) }
				limits := budgeted
				limits.EditsPerMinute, limits.Apart = 5+roll(60), roll(2) == 0
				s := &service{limits: limits, refuse: func(int, string) error {
					switch roll(20) {
					case 0:
						return &Busy{After: time.Duration(roll(30_000)) * time.Millisecond}
					case 1:
						return errors.New("502")
					default:
						return nil
					}
				}}
				d := delivers(s)
				var wg sync.WaitGroup
				for i := range 1 + roll(12) {
					wg.Go(func() {
						passes(time.Duration(roll(90_000)) * time.Millisecond)
						name := fmt.Sprint(i)
						d.feed(t.Context(), name, time.Duration(1+roll(240))*time.Second)
						id, err := d.post(t.Context(), place(name), Text{Body: "answer " + name, Quiet: roll(2) == 0})
						if err == nil {
							err = d.settle(t.Context(), place(name), id, Text{Body: "settled " + name})
						}
						if err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if n := s.mostInAMinute(); n > limits.EditsPerMinute {
					t.Errorf("%d edits in a minute, want at most %d", n, limits.EditsPerMinute)
				}
				if s.inside > 0 || s.crossed {
					t.Errorf("%d calls inside a Retry-After; two writes to one message at once: %v", s.inside, s.crossed)
				}
				for i, said := range s.thread {
					if strings.HasPrefix(said, "answer") {
						t.Errorf("message %d is still %q", i, said)
					}
				}
			})
		})
	}
}

func TestALimitHoldsBackOnlyItsKind(t *testing.T) {
	for _, apart := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			limits := budgeted
			limits.Apart = apart
			s := &service{limits: limits, refuse: func(call int, kind string) error {
				if kind == "edit" && call == 2 {
					return &Busy{After: 20 * time.Second}
				}
				return nil
			}}
			d := delivers(s)
			id, err := d.post(t.Context(), place("a"), Text{Body: "card"})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() { _ = d.settle(t.Context(), place("a"), id, Text{Body: "answered"}) })
			passes(2 * time.Second)
			began := time.Now()
			if _, err := d.post(t.Context(), place("b"), Text{Body: "result"}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); (took < time.Second) != apart {
				t.Errorf("apart %v: a post took %s while edits had to wait for 20 s", apart, took)
			}
			wg.Wait()
			if s.inside > 0 || s.thread[0] != "answered" {
				t.Errorf("%d calls inside the Retry-After, the card says %q", s.inside, s.thread[0])
			}
		})
	}
}

func TestWhatIsSaidGoesBeforeProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{limits: budgeted}
		d := delivers(s)
		var wg sync.WaitGroup
		say := func(thread, body string, quiet bool) {
			wg.Go(func() { _, _ = d.post(t.Context(), place(thread), Text{Body: body, Quiet: quiet}) })
			passes(10 * time.Millisecond)
		}
		say("a", "first", false)
		for i := range 3 {
			say(fmt.Sprint(i), fmt.Sprintf("page %d", i), true)
		}
		say("9", "card", false)
		say("1", "result after page 1", false)
		wg.Wait()
		want := []string{"first", "card", "page 1", "result after page 1", "page 0", "page 2"}
		if !slices.Equal(s.thread, want) {
			t.Errorf("the order is %q, want %q", s.thread, want)
		}
	})
}

// Fifty threads begin at once, and their first pages take most of a minute. What is decided, done or has failed meanwhile
// does not wait for them, and a turn that is over before its page was posted needs one post only.
func TestFiftyThreadsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{limits: SlowLimits}
		d := delivers(s)
		var turns sync.WaitGroup
		var mu sync.Mutex
		pages := 0
		for i := range 50 {
			turns.Go(func() {
				l := d.show(t.Context(), place(fmt.Sprint(i)), 0, func() []Text { return []Text{{Body: "page"}} }, nil)
				passes(20*time.Second + time.Duration(i)*10*time.Millisecond)
				if l.drop() {
					mu.Lock()
					pages++
					mu.Unlock()
				}
				_, _ = d.post(t.Context(), place(fmt.Sprint(i)), Text{Body: "answer"})
			})
		}
		passes(10 * time.Second)
		for _, body := range []string{"card", "result", "failure"} {
			began := time.Now()
			if _, err := d.post(t.Context(), place(body), Text{Body: body}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 1200*time.Millisecond {
				t.Errorf("the %s waited for %s", body, took)
			}
		}
		turns.Wait()
		count := map[string]int{}
		for _, body := range s.thread {
			count[body]++
		}
		if count["page"] != pages || pages < 10 || pages > 25 || count["answer"] != 50 {
			t.Errorf("%d turns have a page, and there are %v", pages, count)
		}
	})
}

func TestAClockGivesWayToNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{limits: budgeted}
		d := delivers(s)
		began := time.Now()
		clock := d.show(t.Context(), place("clock"), 0, func() []Text { return []Text{{Body: fmt.Sprintf("clock %d", time.Since(began)/time.Second)}} }, nil)
		passes(20 * time.Second)
		s.mu.Lock()
		alone := len(s.edits)
		s.mu.Unlock()
		runs(t.Context(), d, 4, 3*time.Minute)
		clock.close()
		var seen []time.Time
		for _, e := range s.edits {
			if strings.HasPrefix(e.body, "clock") {
				seen = append(seen, e.at)
			}
		}
		if alone != 3 {
			t.Errorf("a clock that is alone was drawn %d times in 20 s, want each 5 s", alone)
		}
		if n := len(seen) - alone; n < 4 || n > 8 {
			t.Errorf("among four busy threads the clock was drawn %d times in 3 min, want each half a minute or so", n)
		}
		for i := range seen[1:] {
			if gap := seen[i+1].Sub(seen[i]); gap > 50*time.Second {
				t.Errorf("the clock stood still for %s", gap)
			}
		}
	})
}

func TestEditsOfOneMessageFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{limits: budgeted}
		s.limits.EditGap = 10 * time.Millisecond
		d := delivers(s)
		id, err := d.post(t.Context(), place("a"), Text{Body: "card"})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() { _ = d.settle(t.Context(), place("a"), id, Text{Body: fmt.Sprint(i)}) })
			synctest.Wait()
		}
		wg.Wait()
		if s.crossed || s.thread[0] != "4" {
			t.Errorf("two edits at once: %v; the card says %q", s.crossed, s.thread[0])
		}
	})
}

func TestALimitEndsTheQuickBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{limits: budgeted, refuse: func(call int, _ string) error {
			if call == 2 { // the first edit
				return &Busy{After: 3 * time.Second}
			}
			return nil
		}}
		runs(t.Context(), delivers(s), 1, 20*time.Second)
		for i := range s.began[2 : len(s.began)-1] {
			if gap := s.began[i+2].Sub(s.began[i+1]); gap < 1500*time.Millisecond {
				t.Errorf("an edit %s after the one before it, though the service had asked for less", gap)
			}
		}
	})
}
