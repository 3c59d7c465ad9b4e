package agentrun

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"bgbot/internal/anthropictest"
)

// api is the model of all tests, scripted by each prompt itself.
var api *anthropictest.Server

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if dir := os.Getenv("AGENTRUN_TEST_PARENT"); dir != "" {
		return beParent(dir)
	}
	if again := os.Getenv("AGENTRUN_TEST_SUPERVISED"); again != "" {
		return beSupervisor(again)
	}
	if os.Getenv("AGENTRUN_TEST_DEAF") != "" {
		return beDeaf()
	}
	if what := os.Getenv("AGENTRUN_TEST_WITHOUT"); what != "" {
		return beWithout(what)
	}
	if pid := os.Getenv("AGENTRUN_TEST_GRIP"); pid != "" {
		return beGrip(pid)
	}
	var err error
	if api, err = anthropictest.Start(anthropictest.PromptScript); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Most of the time a test waits for the CLI: more of them than cores may wait together.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := api.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// cli is the real claude CLI. Without it the contract cannot be tested, and CI must not pass.
func cli(t *testing.T) string {
	t.Helper()
	path, err := anthropictest.FindCLI()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED, the contract with the claude CLI is not tested: %v", err)
	}
	return path
}

// rig is a runner with the real CLI and a scripted model.
type rig struct {
	*Runner
	t   *testing.T
	api *anthropictest.Server
}

const testKey = "sk-ant-test-0123456789"

func config(t *testing.T) Config {
	t.Helper()
	return Config{
		Command: cli(t), Dir: filepath.Join(t.TempDir(), "agent"),
		Agent:   Agent{Name: "breakglass", Description: "repairs a VM", Prompt: "You are the breakglass agent."},
		Model:   "sonnet",
		BaseURL: api.URL(),
		APIKey:  func() (string, error) { return testKey, nil },
		Live:    4, TurnTimeout: time.Minute, IdleTimeout: time.Minute, StallNotice: time.Minute,
		Steps: 60, BudgetUSD: 5,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	cfg := config(t)
	if change != nil {
		change(&cfg)
	}
	return &rig{Runner: open(t, cfg), t: t, api: api}
}

// open makes a runner that is closed with the test.
func open(t *testing.T, cfg Config) *Runner {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		late := time.After(20 * time.Second)
		for left := r.kinOf("").pids(); len(left) > 0; left = r.kinOf("").pids() {
			select {
			case <-time.After(20 * time.Millisecond): // what a CLI of another test has left behind as it died is an orphan to all
			case <-late:
				t.Fatalf("after Close these processes are left: %v", left)
			}
		}
	})
	return r
}

// step is one answer of the scripted model.
type step map[string]any

// script makes a prompt that tells the model what to answer.
func script(steps ...step) string {
	data, err := json.Marshal(steps)
	if err != nil {
		panic(err)
	}
	return "[alice]: please <<<" + string(data) + ">>>"
}

var posts struct {
	sync.Mutex
	n int
}

// prompt is a message of a new id.
func prompt(session, text string) Prompt {
	posts.Lock()
	defer posts.Unlock()
	posts.n++
	return Prompt{Session: session, ID: fmt.Sprint("post-", posts.n), Text: text}
}

func newSession() string { return uuid.NewString() }

// allow lets every command run.
func allow(context.Context, Question) Answer { return Answer{Allow: true} }

// log is what a turn came to.
type record struct {
	events []Event
	err    error
}

// all waits for the end of a turn.
func all(t *testing.T, turn *Turn) record {
	t.Helper()
	return until(t, turn, func(Event) bool { return false })
}

// until waits for an event, or for the end of the turn.
func until(t *testing.T, turn *Turn, found func(Event) bool) record {
	t.Helper()
	var rec record
	stuck := time.AfterFunc(45*time.Second, func() {
		turn.cancel(&Ended{Reason: "the test waited for 45 s"})
	})
	defer stuck.Stop()
	for e, err := range turn.Events() {
		if err != nil {
			rec.err = err
			break
		}
		rec.events = append(rec.events, e)
		if found(e) {
			break
		}
	}
	return rec
}

// first is the first event of its type.
func first[E Event](t *testing.T, rec record) E {
	t.Helper()
	for _, e := range rec.events {
		if e, ok := e.(E); ok {
			return e
		}
	}
	var none E
	t.Fatalf("no %T among %v, error %v", none, rec.events, rec.err)
	return none
}

// each is all events of a type.
func each[E Event](rec record) []E {
	var out []E
	for _, e := range rec.events {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

func is[E Event](e Event) bool {
	_, ok := e.(E)
	return ok
}

// answer is the text of a turn that went well.
func answer(t *testing.T, rec record) string {
	t.Helper()
	if rec.err != nil {
		t.Fatalf("the turn did not end by itself: %v; events %v", rec.err, rec.events)
	}
	res := first[Result](t, rec)
	if res.Failed {
		t.Fatalf("the turn failed: %s", res.Reason)
	}
	return res.Text
}

// eventually waits for a condition that the outside world brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen: %s", what)
		}
	}
}

func contains(t *testing.T, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("got %q, want %q in it", text, want)
	}
}

// lastAsked is the newest call of the model whose prompt has text in it.
func lastAsked(t *testing.T, text string) anthropictest.Request {
	t.Helper()
	for _, q := range slices.Backward(api.Requests()) {
		if strings.Contains(q.Prompt, text) {
			return q
		}
	}
	t.Fatalf("the model was never asked %q", text)
	return anthropictest.Request{}
}
