package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/bot"
	"bgbot/internal/anthropictest"
	"bgbot/internal/lab"
)

// world is what a story happens in: a lab host and VM, the real claude CLI on a scripted model, the real service, and
// people at terminals who share one channel.
type world struct {
	t        testing.TB
	dir      string // all that bgbot keeps
	lab      *lab.Lab
	script   *script
	model    *anthropictest.Server
	settings settings
	log      *logbook
	venue    venue
	people   map[string]*person
	slow     float64 // how busy this machine is; 1 is not

	opened bool
	stop   context.CancelCauseFunc
	done   chan struct{}
	err    error
}

// venue is the chat service in which a story happens.
type venue interface {
	open(*world) opener
	seat(testing.TB, *person)
	person(name string) auth.Person
	words(pattern string) string // a story's pattern, as people meet it here
	breaks(kind string, args ...string) error
	hasty() int
}

// The characters. The operator and the colleague are on the allowlist; the stranger is not.
var characters = map[string]bool{"operator": true, "colleague": true, "stranger": false}

// quickLab is how long the lab of disk-full takes to start where nothing else runs, generously.
const quickLab = 500 * time.Millisecond

const worldKeyText = "a_key*nobody-may_see-0123456789" // with what CommonMark would escape

func newWorld(t testing.TB, dir, scenario string, place venue) *world {
	t.Helper()
	cli := cliForTest(t)
	w := &world{t: t, dir: dir, script: &script{}, log: &logbook{to: t.Output()}, venue: place, people: map[string]*person{}}
	began := time.Now()
	var err error
	if w.lab, err = lab.Start(t.Context(), lab.Options{Scenario: scenario, Fast: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, w.lab.Close()) })
	w.slow = min(max(1, time.Since(began).Seconds()/quickLab.Seconds()), 8)
	if w.model, err = anthropictest.Start(w.script.answer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, w.model.Close()) })
	// Nothing in a story shall end because the machine is busy; one that is about such an end sets the time itself.
	w.settings = settings{
		vm: bot.VM{Name: w.lab.VMName(), ID: w.lab.VMID()}, gate: w.lab.Gate(), ssh: w.lab.VM(),
		confirm: bot.Confirm{TTL: 5 * time.Minute, By: auth.Requester}, power: bot.Ask, model: "sonnet",
		storeURL: "sqlite://" + filepath.Join(w.dir, "bgbot.db"),
		secrets:  []string{worldKeyText},
		agent: agentrun.Config{
			Command: cli, Dir: filepath.Join(w.dir, "agent"), Model: "sonnet", BaseURL: w.model.URL(),
			APIKey: func() (string, error) { return worldKeyText, nil },
			Env:    map[string]string{"CLAUDE_CODE_MAX_RETRIES": "2"}, // 1.5 s until a failure of the model is final
			Live:   2, TurnTimeout: 10 * time.Minute, IdleTimeout: 5 * time.Minute, Steps: 20, BudgetUSD: 5,
		},
	}
	if w.settings.agent.Agent, err = breakglass(w.settings.vm.Name, w.settings.ssh.Address, w.settings.vm.ID, "confirm", nil); err != nil {
		t.Fatal(err)
	}
	for name, allowed := range characters {
		w.people[name] = newPerson(name)
		if allowed {
			w.settings.people = append(w.settings.people, place.person(name))
		}
	}
	t.Cleanup(func() {
		w.close()
		t.Logf("the operator's terminal:\n%s", w.people["operator"].all())
	})
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
	if w.opened {
		return
	}
	w.opened = true
	for _, p := range w.people {
		w.venue.seat(w.t, p)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	w.stop, w.done = stop, make(chan struct{})
	log := w.logger()
	go func() {
		defer close(w.done)
		w.err = serve(ctx, w.settings, w.venue.open(w), log)
	}()
}

func (w *world) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// close ends the service as SIGTERM would, and reports its error.
func (w *world) close() {
	if !w.opened {
		return
	}
	w.stop(context.Canceled)
	select {
	case <-w.done:
		if w.err != nil {
			w.t.Errorf("the service ended with: %v", w.err)
		}
	case <-time.After(patience):
		w.t.Errorf("the service did not end within %s", patience)
	}
	w.opened = false
}

// places names where text has come to: a terminal, the log, a file, or what the model was sent.
func (w *world) places(text string) (found []string) {
	for name, p := range w.people {
		if strings.Contains(p.all(), text) {
			found = append(found, "the terminal of "+name)
		}
	}
	if strings.Contains(w.log.all(), text) {
		found = append(found, "the log")
	}
	for _, r := range w.model.Requests() {
		if bytes.Contains(r.Body, []byte(text)) {
			found = append(found, "what the model was sent")
			break
		}
	}
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			found = append(found, path)
		}
		if errors.Is(err, fs.ErrNotExist) { // gone since
			return nil
		}
		return err
	})
	must(w.t, err)
	return found
}

// logbook keeps the log, and shows it with a test that fails.
type logbook struct {
	to io.Writer
	mu sync.Mutex // guards what follows
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	return l.to.Write(p)
}

func (l *logbook) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
