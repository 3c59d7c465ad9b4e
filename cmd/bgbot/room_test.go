package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"bgbot/auth"
	"bgbot/bot"
	"bgbot/bot/console"
)

// room is one channel with several people, each at a real console: what the bot says, everybody hears. It can be told
// to fail, as a chat service does.
type room struct {
	consoles map[string]*console.Console

	mu      sync.Mutex                   // guards what follows
	cards   map[string]map[string]string // the room's id of a message, to each console's
	threads map[string]bot.Place         // where each person spoke last
	fault   func(call, id string) error
	silent  time.Time // a rate limit holds until then
	early   int       // calls within a rate limit
}

func newRoom() *room {
	return &room{
		consoles: map[string]*console.Console{}, cards: map[string]map[string]string{},
		threads: map[string]bot.Place{},
	}
}

func (r *room) open(*world) opener { return atConsole(r) }

func (r *room) person(name string) auth.Person { return auth.Person{Chat: "console", ID: name} }

func (r *room) words(pattern string) string { return pattern }

// seat puts a person at a new terminal. Whoever was here before goes on in the thread where they spoke last.
func (r *room) seat(t testing.TB, p *person) {
	keys, typed := io.Pipe()
	p.keys = typed
	c, err := console.Open(console.Options{
		In: keys, Out: p, Person: r.person(p.name), Name: p.name, Plain: true, Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.consoles[p.name] = c
	r.mu.Lock()
	last, again := r.threads[p.name]
	r.mu.Unlock()
	if again {
		if _, err := c.Post(context.Background(), last, bot.Text{Body: "(the thread so far)"}); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *room) Limits() bot.Limits {
	return bot.Limits{EditGap: 50 * time.Millisecond, Tick: time.Second}
}

func (r *room) Run(ctx context.Context, handle func(context.Context, bot.Message) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for name, c := range r.consoles {
		wg.Go(func() {
			_ = c.Run(ctx, func(ctx context.Context, m bot.Message) error {
				m.Card = r.heard(name, m)
				m.ID = name + "/" + m.ID
				return handle(ctx, m)
			})
		})
	}
	wg.Wait()
	return nil
}

// heard notes where the person is, and gives the room's id of the message whose button was pressed.
func (r *room) heard(name string, m bot.Message) (card string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.threads[name] = m.Place
	for card, ids := range r.cards {
		if ids[name] == m.Card {
			return card
		}
	}
	return ""
}

func (r *room) Post(ctx context.Context, p bot.Place, t bot.Text) (string, error) {
	if err := r.failing("post", ""); err != nil {
		return "", err
	}
	ids := map[string]string{}
	for name, c := range r.consoles {
		if t.Only != "" && t.Only != name {
			continue
		}
		id, err := c.Post(ctx, p, t)
		if err != nil {
			return "", err
		}
		ids[name] = id
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := fmt.Sprintf("m%d", len(r.cards)+1)
	r.cards[id] = ids
	return id, nil
}

func (r *room) Edit(ctx context.Context, p bot.Place, id string, t bot.Text) error {
	if err := r.failing("edit", id); err != nil {
		return err
	}
	r.mu.Lock()
	ids := r.cards[id]
	r.mu.Unlock()
	if ids == nil {
		return &bot.Gone{Reason: "nobody was here when " + id + " was said"}
	}
	for name, own := range ids {
		if err := r.consoles[name].Edit(ctx, p, own, t); err != nil {
			return err
		}
	}
	return nil
}

// hasty counts the calls that came while the chat had asked for silence.
func (r *room) hasty() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.early
}

func (r *room) failing(call, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().Before(r.silent) {
		r.early++
	}
	if r.fault == nil {
		return nil
	}
	return r.fault(call, id)
}

// breaks makes the chat misbehave: "limits 4 3s" answers each 4th edit with a rate limit of 3 s, "down 2s" refuses
// everything for 2 s, "deletes" forgets, once, the message that is edited next.
func (r *room) breaks(kind string, args ...string) error {
	var n int
	var d time.Duration
	var err error
	switch {
	case kind == "limits" && len(args) == 2:
		if _, err = fmt.Sscan(args[0], &n); err == nil {
			d, err = time.ParseDuration(args[1])
		}
	case kind == "down" && len(args) == 1:
		d, err = time.ParseDuration(args[0])
	case kind == "deletes" && len(args) == 0:
	default:
		err = fmt.Errorf("usage: chat limits N DURATION | down DURATION | deletes")
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	edits, until, gone := 0, time.Now().Add(d), ""
	r.fault = func(call, id string) error {
		switch {
		case kind == "down" && time.Now().Before(until):
			return errors.New("dial tcp: connection refused")
		case kind == "limits" && call == "edit":
			if edits++; edits%n == 0 {
				r.silent = time.Now().Add(d)
				return &bot.Busy{After: d}
			}
		case kind == "deletes" && call == "edit":
			if gone == "" || gone == id {
				gone = id
				return &bot.Gone{Reason: "somebody deleted it"}
			}
		}
		return nil
	}
	return nil
}
