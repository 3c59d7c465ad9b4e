package bot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAMessageThatTheChatRefusesDoesNotHoldUpTheThread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		d := delivers(s)
		s.refuseText = func(body string) error {
			if strings.Contains(body, "poison") {
				return errors.New("invalid_blocks")
			}
			return nil
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = d.post(t.Context(), place("a"), Text{Body: "a result\nwith poison in it"}) })
		synctest.Wait()
		wg.Go(func() { _, _ = d.post(t.Context(), place("a"), Text{Body: "a card"}) })
		for range 60 { // other threads go on
			_, _ = d.post(t.Context(), place("b"), Text{Body: "-"})
			passes(time.Second)
		}
		wg.Wait()
		thread := slices.DeleteFunc(s.thread, func(body string) bool { return body == "-" })
		want := []string{"a result\n(The chat refused the whole of this message; the log has more.)", "a card"}
		if !slices.Equal(thread, want) {
			t.Errorf("the thread is %q, want %q", thread, want)
		}
	})
}

// In the only thread that is at work nothing else can prove that the chat takes other messages; it has to say so.
func TestAMessageThatTheChatCannotReadIsSoonAShortOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := &service{limits: SlowLimits}, &strings.Builder{}
		d := newDelivery(s, func(s string) string { return s }, slog.New(slog.NewTextHandler(log, nil)))
		s.refuseText = func(body string) error {
			if strings.Contains(body, "poison") {
				return &Refused{errors.New("invalid_blocks")}
			}
			return nil
		}
		var body atomic.Value
		body.Store("⏳ Working")
		l := d.show(t.Context(), place("a"), 0, func() []Text { return []Text{{Body: body.Load().(string)}} }, nil)
		passes(time.Second)
		body.Store("☑ Ended\n\nwith poison in it")
		said := make(chan struct{})
		go func() {
			defer close(said)
			l.close()
			_, _ = d.post(t.Context(), place("a"), Text{Body: "the answer\nwith poison in it"})
		}()
		passes(time.Minute)
		select {
		case <-said:
		default:
			t.Fatal("the thread waits for what the chat does not take")
		}
		const short = "\n(The chat refused the whole of this message; the log has more.)"
		if want := []string{"☑ Ended" + short, "the answer" + short}; !slices.Equal(s.thread, want) {
			t.Errorf("the thread is %q, want %q", s.thread, want)
		}
		for _, lost := range []string{`Ended\n\nwith poison in it`, `the answer\nwith poison in it`} {
			if !strings.Contains(log.String(), lost) {
				t.Errorf("the log has nothing of %q:\n%s", lost, log)
			}
		}
	})
}

// A chat may be away for days.
func TestAChatThatIsDownFillsNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := &service{limits: SlowLimits}, &strings.Builder{}
		d := newDelivery(s, func(s string) string { return s }, slog.New(slog.NewTextHandler(log, nil)))
		began := time.Now()
		s.refuse = func(int, string) error {
			if at := time.Since(began); time.Second < at && at < time.Hour {
				return errors.New("502 bad gateway")
			}
			return nil
		}
		l := d.show(t.Context(), place("a"), 0, func() []Text { return []Text{{Body: time.Now().String()[:19]}} }, nil)
		passes(2 * time.Second)
		if _, err := d.post(t.Context(), place("b"), Text{Body: "a result"}); err != nil {
			t.Error(err)
		}
		passes(10 * time.Second)
		l.close()
		if n := strings.Count(log.String(), "\n"); n < 10 || n > 160 {
			t.Errorf("%d lines in an hour", n)
		}
	})
}

// filed counts the files that are in the chat.
type filed struct {
	*service
	count int
	bad   bool // files are refused
}

func (f *filed) Post(ctx context.Context, p Place, t Text) (string, error) {
	if f.bad && len(t.Files) > 0 {
		return "", errors.New("invalid_file")
	}
	id, err := f.service.Post(ctx, p, t)
	if err == nil {
		f.count += len(t.Files)
	}
	return id, err
}

// The evidence is not refused with the words beside it, nor the words with the evidence.
func TestTheFilesOfAMessageThatIsRefusedAreKept(t *testing.T) {
	for name, c := range map[string]struct {
		bad   bool
		count int
	}{"the words are refused": {false, 1}, "the files are refused": {true, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &filed{service: &service{limits: SlowLimits}, bad: c.bad}
				s.refuseText = func(body string) error {
					if strings.Contains(body, "poison") {
						return errors.New("invalid_blocks")
					}
					return nil
				}
				d := newDelivery(s, func(s string) string { return s }, slog.New(slog.DiscardHandler))
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := d.post(t.Context(), place("a"), Text{Body: "a result\nwith poison in it", Files: []File{{Name: "forensics.txt", Data: []byte("x")}}}); err != nil {
						t.Error(err)
					}
				})
				for range 120 { // other threads go on
					_, _ = d.post(t.Context(), place("b"), Text{Body: "-"})
					passes(time.Second)
				}
				wg.Wait()
				if !slices.Contains(s.thread, "a result\n(The chat refused the whole of this message; the log has more.)") || s.count != c.count {
					t.Errorf("%d files and %q", s.count, s.thread[:3])
				}
			})
		})
	}
}

// The page of a turn that the chat does not take, and a thread that takes no page any more, must not keep the answer back.
func TestALastStateThatTheChatRefusesDoesNotHoldUpTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		refused string // a word that the chat refuses
		want    string
	}{
		"its text":   {"poison", "☑ Ended\n(The chat refused the whole of this message; the log has more.)"},
		"everything": {"☑", "⏳ Working"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{}
				d := delivers(s)
				s.refuseText = func(body string) error {
					if strings.Contains(body, c.refused) {
						return errors.New("invalid_blocks")
					}
					return nil
				}
				var body atomic.Value
				body.Store("⏳ Working")
				l := d.show(t.Context(), place("a"), 0, func() []Text { return []Text{{Body: body.Load().(string)}} }, nil)
				passes(time.Second)
				body.Store("☑ Ended\n\nwith poison in it")
				closed := make(chan struct{})
				go func() { l.close(); close(closed) }()
				other, _ := d.post(t.Context(), place("b"), Text{Body: "another thread"})
				for i := range 120 { // goes on
					_ = d.settle(t.Context(), place("b"), other, Text{Body: fmt.Sprint(i)})
					passes(time.Second)
				}
				select {
				case <-closed:
				default:
					t.Fatal("the answer waits behind a page that the chat refuses")
				}
				if s.thread[0] != c.want {
					t.Errorf("the page is %q, want %q", s.thread[0], c.want)
				}
			})
		})
	}
}

func TestAResultWaitsWhileOnlyEditsAreTaken(t *testing.T) {
	for name, refusal := range map[string]error{
		"the chat is busy": &Busy{After: 2 * time.Second}, "nobody may post for a while": errors.New("restricted_action"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				posts := 0
				s := &service{limits: budgeted, refuse: func(_ int, kind string) error {
					if kind == "post" {
						if posts++; posts > 1 && posts <= 1+9 {
							return refusal
						}
					}
					return nil
				}}
				d := delivers(s)
				over, end := context.WithCancel(t.Context())
				l := d.show(t.Context(), place("other"), 0, func() []Text {
					if over.Err() != nil {
						return []Text{{Body: "end"}}
					}
					return []Text{{Body: time.Now().String()}}
				}, nil)
				passes(2 * time.Second)
				if _, err := d.post(t.Context(), place("a"), Text{Body: "a result\nand all that is behind it"}); err != nil {
					t.Fatal(err)
				}
				end()
				l.close()
				if want := []string{"end", "a result\nand all that is behind it"}; !slices.Equal(s.thread, want) || len(s.edits) < 3 {
					t.Errorf("after %d edits the chat shows %q, want %q", len(s.edits), s.thread, want)
				}
			})
		})
	}
}

// What the chat took while a message waited for its turn does not prove that it refuses that one: it may be down since.
func TestAChatThatIsDownRefusesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		d := delivers(s)
		began := time.Now()
		s.refuse = func(int, string) error {
			if at := time.Since(began); 3500*time.Millisecond < at && at < time.Minute {
				return errors.New("502 bad gateway")
			}
			return nil
		}
		var wg sync.WaitGroup
		for range 4 { // a second between two posts
			wg.Go(func() { _, _ = d.post(t.Context(), place("b"), Text{Body: "-"}) })
			synctest.Wait()
		}
		wg.Go(func() { _, _ = d.post(t.Context(), place("a"), Text{Body: "a result\nand all that is behind it"}) })
		wg.Wait()
		if !slices.Contains(s.thread, "a result\nand all that is behind it") {
			t.Errorf("the chat shows %q", s.thread)
		}
	})
}

// What it took first after an outage does not prove that it refuses what had waited: all come at once then, and it stumbles.
func TestAChatThatComesBackRefusesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		times int
	}{"it is busy": {&Busy{After: 2 * time.Second}, 3}, "it is not well yet": {errors.New("502 bad gateway"), 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const outage = time.Minute
				began, times := time.Now(), 0
				s := &service{refuse: func(int, string) error {
					if time.Since(began) < outage {
						return errors.New("502 bad gateway")
					}
					return nil
				}}
				s.refuseText = func(body string) error {
					if strings.Contains(body, "result") && time.Since(began) > outage && times < c.times {
						times++
						return c.err
					}
					return nil
				}
				d := delivers(s)
				var wg sync.WaitGroup
				wg.Go(func() { _, _ = d.post(t.Context(), place("a"), Text{Body: "a result\nand all that is behind it"}) })
				wg.Go(func() {
					for range 20 { // other threads go on
						_, _ = d.post(t.Context(), place("b"), Text{Body: "-"})
					}
				})
				wg.Wait()
				if !slices.Contains(s.thread, "a result\nand all that is behind it") || times != c.times {
					t.Errorf("after %d failures the chat shows %q", times, s.thread)
				}
			})
		})
	}
}

func TestABusyChatRefusesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := &service{limits: budgeted}
		s.refuseText = func(body string) error {
			if strings.Contains(body, "result") {
				if calls++; calls <= 9 {
					return &Busy{After: 2 * time.Second}
				}
			}
			return nil
		}
		d := delivers(s)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = d.post(t.Context(), place("a"), Text{Body: "a result\nand all that is behind it"}) })
		for range 30 { // other threads go on
			_, _ = d.post(t.Context(), place("b"), Text{Body: "-"})
			passes(time.Second)
		}
		wg.Wait()
		if !slices.Contains(s.thread, "a result\nand all that is behind it") {
			t.Errorf("the chat shows %q", s.thread)
		}
	})
}

func TestAChatThatComesBackIsNoticedWithinSeconds(t *testing.T) {
	for _, down := range []time.Duration{20 * time.Second, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			s := &service{}
			s.refuse = func(int, string) error {
				if time.Since(began) < down {
					return errors.New("502 bad gateway")
				}
				return nil
			}
			if _, err := delivers(s).post(t.Context(), place("a"), Text{Body: "a result"}); err != nil {
				t.Fatal(err)
			}
			if late := time.Since(began) - down; late > 5*time.Second+time.Second {
				t.Errorf("after %s it was said %s late", down, late)
			}
			if most := int(down/(5*time.Second)) + 6; s.calls > most {
				t.Errorf("in %s it was tried %d times, want %d at most", down, s.calls, most)
			}
		})
	}
}
