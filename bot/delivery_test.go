package bot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// service is a chat service with limits: it takes 60 ms a call, refuses when told to, and remembers everything. It knows
// nothing of how the core sends.
type service struct {
	limits Limits
	refuse func(call int, kind string) error

	refuseText func(body string) error

	mu       sync.Mutex // guards what follows
	calls    int
	thread   []string // the texts in the order of their posts, as they are now
	edits    []edit
	began    []time.Time          // when the edits came in, also those that were refused
	silent   map[string]time.Time // the end of the last Retry-After, by kind of call
	inside   int                  // calls inside a Retry-After
	together map[string]int
	crossed  bool // two writes to one message at once
}

type edit struct {
	at   time.Time
	id   string
	body string
}

// passes lets time go by on the bubble's clock (testing/synctest); nobody waits for it.
func passes(d time.Duration) { <-time.After(d) }

func (s *service) Limits() Limits { return s.limits }

func (s *service) Run(ctx context.Context, _ func(context.Context, Message) error) error {
	<-ctx.Done()
	return nil
}

func (s *service) call(kind, id string) error {
	s.mu.Lock()
	s.calls++
	if kind == "edit" {
		s.began = append(s.began, time.Now())
	}
	if time.Now().Before(s.silent[kind]) {
		s.inside++
	}
	if s.together == nil {
		s.together, s.silent = map[string]int{}, map[string]time.Time{}
	}
	s.together[id]++
	s.crossed = s.crossed || id != "" && s.together[id] > 1
	var err error
	if s.refuse != nil {
		err = s.refuse(s.calls, kind)
	}
	s.mu.Unlock()
	passes(60 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if busy, ok := errors.AsType[*Busy](err); ok { // what is on its way meanwhile cannot know
		for _, held := range []string{"post", "edit"} {
			if held == kind || !s.limits.Apart {
				s.silent[held] = time.Now().Add(busy.After)
			}
		}
	}
	s.together[id]--
	return err
}

func (s *service) Post(_ context.Context, _ Place, t Text) (string, error) {
	if err := s.call("post", ""); err != nil {
		return "", err
	}
	if s.refuseText != nil {
		if err := s.refuseText(t.Body); err != nil {
			return "", err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.thread = append(s.thread, t.Body)
	return fmt.Sprint(len(s.thread) - 1), nil
}

func (s *service) Edit(_ context.Context, _ Place, id string, t Text) error {
	if err := s.call("edit", id); err != nil {
		return err
	}
	if s.refuseText != nil {
		if err := s.refuseText(t.Body); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int
	_, _ = fmt.Sscan(id, &n)
	s.thread[n] = t.Body
	s.edits = append(s.edits, edit{time.Now(), id, t.Body})
	return nil
}

func delivers(s *service) *delivery {
	if s.limits == (Limits{}) {
		s.limits = SlowLimits
	}
	return newDelivery(s, func(s string) string { return s }, slog.New(slog.DiscardHandler))
}

// story feeds 40 lines, one each 250 ms, into a live message and says an answer after it, as a turn does.
func story(t *testing.T, d *delivery) (lag []time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	var born []time.Time
	l := d.show(t.Context(), place("a"), 0, func() []Text {
		mu.Lock()
		defer mu.Unlock()
		return []Text{{Body: strings.Join(lines, "\n")}}
	}, nil)
	for i := range 40 {
		mu.Lock()
		lines = append(lines, fmt.Sprintf("line %d.", i))
		born = append(born, time.Now())
		mu.Unlock()
		l.touch()
		passes(250 * time.Millisecond)
	}
	l.close()
	if _, err := d.post(t.Context(), place("a"), Text{Body: "the answer"}); err != nil {
		t.Fatal(err)
	}
	for i, at := range born {
		lag = append(lag, d.chat.(*service).seen(fmt.Sprintf("line %d.", i)).Sub(at))
	}
	slices.Sort(lag)
	return lag
}

func (s *service) seen(line string) time.Time {
	for _, e := range s.edits {
		if strings.Contains(e.body, line) {
			return e.at
		}
	}
	return time.Time{}
}

func place(thread string) Place { return Place{Chat: "x", Channel: "c", Thread: thread} }

func TestEveryLineArrivesUnderRateLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edits := 0
		s := &service{refuse: func(_ int, kind string) error {
			if kind == "edit" {
				if edits++; edits%4 == 0 {
					return &Busy{After: 3 * time.Second}
				}
			}
			return nil
		}}
		story(t, delivers(s))
		if s.inside != 0 {
			t.Errorf("%d calls inside a Retry-After", s.inside)
		}
		if s.crossed {
			t.Error("two writes to one message were under way at once")
		}
		if len(s.thread) != 2 || s.thread[1] != "the answer" {
			t.Fatalf("the thread is %q, want one live message and the answer after it", s.thread)
		}
		for i := range 40 {
			if n := strings.Count(s.thread[0], fmt.Sprintf("line %d.", i)); n != 1 {
				t.Errorf("line %d stands %d times", i, n)
			}
		}
		last := -1
		for _, e := range s.edits {
			if n := strings.Count(e.body, "line"); n < last {
				t.Errorf("an edit went backwards, from %d lines to %d", last, n)
			} else {
				last = n
			}
		}
	})
}

func TestLagStaysLowWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		lag := story(t, delivers(s))
		if p50, p95 := lag[20], lag[38]; p50 > 700*time.Millisecond || p95 > 1500*time.Millisecond {
			t.Errorf("event to visible: p50 %s, p95 %s; want at most 0.7 s and 1.5 s", p50, p95)
		}
	})
}

func TestResultsDoNotWaitForProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		d := delivers(s)
		var shown []*live
		for i := range 20 { // twenty busy threads use up the slow lane
			n := 0
			shown = append(shown, d.show(t.Context(), place(fmt.Sprint(i)), 0, func() []Text { n++; return []Text{{Body: fmt.Sprint(n)}} }, nil))
		}
		passes(time.Minute)
		began := time.Now()
		if _, err := d.post(t.Context(), place("decision"), Text{Body: "Cycle devvm?"}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("a confirmation card waited %s behind progress", took)
		}
		for _, l := range shown {
			l.draw = func() []Text { return []Text{{Body: "end"}} }
			l.close()
		}
	})
}

func TestPostsOfAThreadKeepTheirOrderThroughFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{limits: Limits{PostGap: 10 * time.Millisecond, Tick: time.Second}, refuse: func(call int, _ string) error {
			if call%3 != 0 {
				return errors.New("502 bad gateway")
			}
			return nil
		}}
		d := delivers(s)
		var wg sync.WaitGroup
		var want []string
		for i := range 6 {
			body := fmt.Sprintf("message %d", i)
			want = append(want, body)
			wg.Go(func() { _, _ = d.post(t.Context(), place("a"), Text{Body: body}) })
			synctest.Wait()
		}
		wg.Wait()
		if !slices.Equal(s.thread, want) {
			t.Errorf("the thread is %q, want %q", s.thread, want)
		}
	})
}

func TestAnAnswerToOnePersonHoldsUpNobodyAndEnds(t *testing.T) {
	for name, others := range map[string]error{"the chat refuses only it": nil, "the chat is down": errors.New("502 bad gateway")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{}
				s.refuseText = func(body string) error {
					if strings.Contains(body, "alone") {
						return errors.New("cannot_reply_to_message")
					}
					return others
				}
				d := delivers(s)
				down, up := context.WithTimeout(t.Context(), time.Hour)
				defer up()
				var wg sync.WaitGroup
				began := time.Now()
				wg.Go(func() {
					id, err := d.post(down, place("a"), Text{Body: "for you alone", Only: "U1"})
					if took := time.Since(began); err == nil || id != "" || took > asideLife+time.Second {
						t.Errorf("it ended with %q, %v after %s", id, err, took)
					}
				})
				if others == nil {
					synctest.Wait()
					for i, body := range []string{"a card", "a result"} {
						if _, err := d.post(t.Context(), place("a"), Text{Body: body}); err != nil {
							t.Error(err)
						}
						if took := time.Since(began); took > time.Duration(i+1)*1200*time.Millisecond {
							t.Errorf("%q waited %s behind the answer to one person", body, took)
						}
					}
				}
				wg.Wait()
				if want := []string{"a card", "a result"}; others == nil && !slices.Equal(s.thread, want) {
					t.Errorf("the thread is %q, want %q", s.thread, want)
				}
			})
		})
	}
}

func TestWhoeverLeftTheChannelGetsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{refuse: func(int, string) error { return &Gone{Reason: "slack: chat.postEphemeral: user_not_in_channel"} }}
		if _, err := delivers(s).post(t.Context(), place("a"), Text{Body: "x", Only: "U1"}); !gone(err) || s.calls != 1 {
			t.Errorf("got %v after %d calls, want the reason after 1", err, s.calls)
		}
	})
}

func TestADeletedLiveMessageIsPostedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{refuse: func(call int, kind string) error {
			if kind == "edit" && call == 2 {
				return &Gone{Reason: "message_not_found"}
			}
			return nil
		}}
		body := "one"
		var mu sync.Mutex
		d := delivers(s)
		l := d.show(t.Context(), place("a"), 0, func() []Text { mu.Lock(); defer mu.Unlock(); return []Text{{Body: body}} }, nil)
		passes(3 * time.Second)
		mu.Lock()
		body = "two"
		mu.Unlock()
		l.touch()
		passes(3 * time.Second)
		l.close()
		if want := []string{"one", "two"}; !slices.Equal(s.thread, want) {
			t.Errorf("the thread is %q, want %q", s.thread, want)
		}
	})
}

func TestNothingIsPostedWhenTheAnswerIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		l := delivers(s).show(t.Context(), place("a"), 700*time.Millisecond, func() []Text { return []Text{{Body: "progress"}} }, nil)
		passes(300 * time.Millisecond)
		l.close()
		if len(s.thread) != 0 {
			t.Errorf("progress was posted for an answer that took 0.3 s: %q", s.thread)
		}
	})
}

func TestARevokedTokenEndsTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{refuse: func(int, string) error { return &Fatal{Reason: "The token was revoked."} }}
		_, err := delivers(s).post(t.Context(), place("a"), Text{Body: "x"})
		if err == nil || err.Error() != "The token was revoked." || s.calls != 1 {
			t.Errorf("got %v after %d calls, want the reason after 1", err, s.calls)
		}
	})
}

func TestSecretsAndControlBytesDoNotLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{limits: SlowLimits}
		d := newDelivery(s, strings.NewReplacer("hunter2", "[secret]").Replace, slog.New(slog.DiscardHandler))
		_, err := d.post(t.Context(), place("a"), Text{Body: "key hunter2\x1b]52;c;aGk=\x07\x00 done\u202e"})
		if err != nil || s.thread[0] != "key [secret]]52;c;aGk= done" {
			t.Errorf("posted %q, %v", s.thread, err)
		}
	})
}
