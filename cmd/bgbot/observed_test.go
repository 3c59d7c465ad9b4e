package main

import (
	"context"
	"regexp"
	"strconv"
	"sync"
	"time"

	"bgbot/bot"
	"bgbot/bot/console"
)

// observed is a terminal of which a benchmark sees both ends: what the bot sends, as a chat service would log it, and
// what the screen shows when. It takes edits at its own pace, and may refuse some as a chat service does.
type observed struct {
	*console.Console
	screen *screen
	limits bot.Limits
	every  int           // each such edit is refused; 0 = none
	after  time.Duration // what a refused edit is told to wait

	mu       sync.Mutex // guards what follows
	edits    int
	silent   time.Time
	inside   int // calls before silent
	backward int // edits that took back a line
	order    []string
	texts    map[string]string // what each message says now, and
	last     map[string]int    // its highest tick
}

func (o *observed) Limits() bot.Limits { return o.limits }

func (o *observed) Post(ctx context.Context, p bot.Place, t bot.Text) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arrived()
	id, err := o.Console.Post(ctx, p, t)
	if err == nil {
		o.order = append(o.order, id)
		o.accepted(id, t)
	}
	return id, err
}

func (o *observed) Edit(ctx context.Context, p bot.Place, id string, t bot.Text) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arrived()
	if o.edits++; o.every > 0 && o.edits%o.every == 0 {
		o.silent = time.Now().Add(o.after)
		return &bot.Busy{After: o.after}
	}
	err := o.Console.Edit(ctx, p, id, t)
	if err == nil {
		o.accepted(id, t)
	}
	return err
}

func (o *observed) edited() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.edits
}

func (o *observed) arrived() {
	if time.Now().Before(o.silent) {
		o.inside++
	}
}

func (o *observed) accepted(id string, t bot.Text) {
	if o.texts == nil {
		o.texts, o.last = map[string]string{}, map[string]int{}
	}
	o.texts[id] = t.Body
	if ticks := ticksIn(t.Body); len(ticks) > 0 {
		if last := ticks[len(ticks)-1]; last < o.last[id] {
			o.backward++
		} else {
			o.last[id] = last
		}
	}
}

// thread is what the messages say in the end.
func (o *observed) thread() (present, doubled, disordered int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var texts []string
	for _, id := range o.order {
		texts = append(texts, o.texts[id])
	}
	return completeness(texts)
}

// completeness counts lines present, lines present more than once, lines that stand before an older one.
func completeness(texts []string) (present, doubled, disordered int) {
	count, last := map[int]int{}, 0
	for _, text := range texts {
		for _, n := range ticksIn(text) {
			if count[n]++; count[n] == 2 {
				doubled++
			}
			if n < last {
				disordered++
			}
			last = n
		}
	}
	return len(count), doubled, disordered
}

var tickLine = regexp.MustCompile(`tick-(\d+)-(\d+)`)

func ticksIn(text string) (ticks []int) {
	for _, m := range tickLine.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1]) // digits
		ticks = append(ticks, n)
	}
	return ticks
}

// screen is a terminal that knows when it was given what.
type screen struct {
	*person // who reads it

	mu     sync.Mutex // guards what follows
	writes []written
}

type written struct {
	at   time.Time
	text string
}

func newScreen() *screen { return &screen{person: newPerson("operator")} }

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.writes = append(s.writes, written{time.Now(), string(b)})
	s.mu.Unlock()
	return s.person.Write(b)
}

// shown is when a text that fits was first written at or after began; zero if never.
func (s *screen) shown(fits *regexp.Regexp, began time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writes {
		if !w.at.Before(began) && fits.MatchString(w.text) {
			return w.at
		}
	}
	return time.Time{}
}

// latencies are how long each tick took from being said to being shown.
func (s *screen) latencies() (out timings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for _, w := range s.writes {
		for _, m := range tickLine.FindAllStringSubmatch(w.text, -1) {
			if seen[m[0]] {
				continue
			}
			seen[m[0]] = true
			ms, _ := strconv.ParseInt(m[2], 10, 64) // digits
			out = append(out, w.at.Sub(time.UnixMilli(ms)))
		}
	}
	return out
}
