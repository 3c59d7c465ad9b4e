package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/bot"
	"bgbot/bot/console"
	"bgbot/internal/anthropictest"
	"bgbot/internal/lab"
)

// world is what a story happens in: a lab host and VM, the real claude CLI on a scripted model, the real service, and
// people at terminals who share one channel.
type world struct {
	t        testing.TB
	lab      *lab.Lab
	script   *script
	model    *anthropictest.Server
	settings settings
	room     *room
	people   map[string]*person

	stop context.CancelCauseFunc
	done chan struct{}
	err  error
}

// The characters. The operator and the colleague are on the allowlist; the stranger is not.
var characters = map[string]bool{"operator": true, "colleague": true, "stranger": false}

func newWorld(t testing.TB, dir, scenario string) *world {
	t.Helper()
	cli := cliForTest(t)
	l, err := lab.Start(t.Context(), lab.Options{Scenario: scenario, Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, l.Close()) })
	w := &world{t: t, lab: l, script: &script{}, people: map[string]*person{}}
	if w.model, err = anthropictest.Start(w.script.answer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.model.Close() })
	w.settings = settings{
		vm: bot.VM{Name: l.VMName(), ID: l.VMID()}, gate: l.Gate(), ssh: l.VM(),
		confirm: bot.Confirm{TTL: 30 * time.Second, By: auth.Requester}, power: bot.Ask, model: "sonnet",
		storeURL: "sqlite://" + filepath.Join(dir, "state", "bgbot.db"),
		secrets:  []string{"a-key-nobody-may-see"},
		agent: agentrun.Config{
			Command: cli, Dir: filepath.Join(dir, "state", "agent"), Model: "sonnet", BaseURL: w.model.URL(),
			APIKey: func() (string, error) { return "a-key-nobody-may-see", nil },
			Live:   2, TurnTimeout: time.Minute, IdleTimeout: time.Minute, Steps: 20, BudgetUSD: 5,
		},
	}
	if w.settings.agent.Agent, err = breakglass(w.settings.vm.Name, w.settings.ssh.Address, w.settings.vm.ID, "confirm", nil); err != nil {
		t.Fatal(err)
	}
	for name, allowed := range characters {
		if allowed {
			w.settings.people = append(w.settings.people, auth.Person{Chat: "console", ID: name})
		}
	}
	t.Cleanup(w.close)
	return w
}

// cliForTest is the pinned CLI; where it is missing a laptop skips and CI fails.
func cliForTest(t testing.TB) string {
	t.Helper()
	cli, err := anthropictest.FindCLI()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skip("THE STORIES DID NOT RUN: ", err)
	}
	return cli
}

// open starts the service with everybody at their terminal.
func (w *world) open() {
	if w.room != nil {
		return
	}
	w.room = &room{consoles: map[string]*console.Console{}, cards: map[string]map[string]string{}}
	for name := range characters {
		w.people[name] = w.room.seat(w.t, name, w.people[name])
	}
	ctx, stop := context.WithCancelCause(context.Background())
	w.stop, w.done = stop, make(chan struct{})
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		defer close(w.done)
		w.err = serve(ctx, w.settings, map[string]bot.Chat{"console": w.room}, log)
	}()
}

// close ends the service as SIGTERM would, and reports its error.
func (w *world) close() {
	if w.room == nil {
		return
	}
	w.stop(context.Canceled)
	select {
	case <-w.done:
		if w.err != nil {
			w.t.Errorf("the service ended with: %v", w.err)
		}
	case <-time.After(30 * time.Second):
		w.t.Error("the service did not end within 30 s")
	}
	w.room = nil
}

// person is somebody at a terminal.
type person struct {
	name string
	keys io.Writer
	mu   sync.Mutex // guards what follows
	cond chan struct{}
	text bytes.Buffer
	read int // what expect has consumed
}

func (p *person) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	select {
	case p.cond <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *person) says(line string) error {
	_, err := fmt.Fprintln(p.keys, line)
	return err
}

// sees waits until the terminal shows pattern after what was seen last, and returns the match and its groups.
func (p *person) sees(pattern string, patience time.Duration) ([]string, error) {
	re, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		return nil, err
	}
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		rest := p.text.Bytes()[p.read:]
		at := re.FindSubmatchIndex(rest)
		var groups []string
		if at != nil {
			for i := 0; i < len(at); i += 2 {
				groups = append(groups, string(rest[max(at[i], 0):max(at[i+1], 0)]))
			}
			p.read += at[1]
		}
		seen := string(rest)
		p.mu.Unlock()
		if at != nil {
			return groups, nil
		}
		select {
		case <-p.cond:
		case <-deadline:
			return nil, fmt.Errorf("%s does not see %q within %s; after the last thing seen there is:\n%s", p.name, pattern, patience, seen)
		}
	}
}

// all is everything that the terminal has shown.
func (p *person) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// room is one channel with several people, each at a real console: what the bot says, everybody hears. It can be told
// to fail, as a chat service does.
type room struct {
	consoles map[string]*console.Console

	mu    sync.Mutex                   // guards what follows
	cards map[string]map[string]string // the room's id of a message, to each console's
	count int
	fault func(call string) error
}

func (r *room) seat(t testing.TB, name string, again *person) *person {
	keys, typed := io.Pipe()
	p := again
	if p == nil {
		p = &person{name: name, cond: make(chan struct{}, 1)}
	}
	p.keys = typed
	c, err := console.Open(console.Options{In: keys, Out: p, Person: auth.Person{Chat: "console", ID: name}, Name: name, Plain: true, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r.consoles[name] = c
	return p
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
				m.Card = r.cardOf(name, m.Card)
				m.ID = name + "/" + m.ID
				return handle(ctx, m)
			})
		})
	}
	wg.Wait()
	return nil
}

func (r *room) cardOf(name, id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for card, ids := range r.cards {
		if ids[name] == id {
			return card
		}
	}
	return ""
}

func (r *room) Post(ctx context.Context, p bot.Place, t bot.Text) (string, error) {
	if err := r.failing("post"); err != nil {
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
	r.count++
	id := fmt.Sprintf("m%d", r.count)
	r.cards[id] = ids
	return id, nil
}

func (r *room) Edit(ctx context.Context, p bot.Place, id string, t bot.Text) error {
	if err := r.failing("edit"); err != nil {
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

func (r *room) failing(call string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault == nil {
		return nil
	}
	return r.fault(call)
}

// script is the model of a story: answers by prompt, one after the other.
type script struct {
	mu    sync.Mutex // guards what follows
	parts []part
	asked int
}

type part struct {
	on     *regexp.Regexp
	answer anthropictest.Answer
}

func (s *script) add(on string, a anthropictest.Answer) error {
	re, err := regexp.Compile(on)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = append(s.parts, part{re, a})
	return nil
}

// answer is the step'th answer among those whose pattern fits the prompt.
func (s *script) answer(r anthropictest.Request) anthropictest.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	step := r.Step
	for _, p := range s.parts {
		if !p.on.MatchString(r.Prompt) {
			continue
		}
		if step == 0 {
			a := p.answer
			a.Text = strings.ReplaceAll(a.Text, "TOOL", r.ToolText)
			return a
		}
		step--
	}
	return anthropictest.Answer{Text: "The story has no answer for step " + fmt.Sprint(r.Step) + "."}
}

func (s *script) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
