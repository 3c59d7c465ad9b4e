package console

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/auth"
	"bgbot/bot"
)

var (
	kim     = auth.Person{Chat: "console", ID: "kim"}
	evening = time.Date(2026, 8, 3, 18, 20, 0, 0, time.UTC)
	patient = 10 * time.Second // how long a test waits for what must happen
)

// clock is a time that only the test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// paper is an Out that can be read while it is written.
type paper struct {
	mu   sync.Mutex
	b    strings.Builder
	more chan struct{}
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
	return p.b.Write(b)
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// rig is a running console of plain lines whose core is the test.
type rig struct {
	*Console
	t     *testing.T
	clock *clock
	out   *paper
	in    *io.PipeWriter
	heard chan bot.Message
	ended chan error
	err   error // what the core answers
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r, w := io.Pipe()
	g := &rig{
		t: t, clock: &clock{at: evening}, out: &paper{more: make(chan struct{}, 1)}, in: w,
		heard: make(chan bot.Message, 16), ended: make(chan error, 1),
	}
	opt := Options{In: r, Out: g.out, Person: kim, Name: "Kim", Dir: t.TempDir(), Now: g.clock.now}
	if change != nil {
		change(&opt)
	}
	c, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	c.quiet = 50 * time.Millisecond
	g.Console = c
	return g
}

// run starts Run; the test ends only after it has.
func (g *rig) run() *rig {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		g.ended <- g.Run(ctx, func(_ context.Context, m bot.Message) error {
			g.heard <- m
			return g.err
		})
		close(g.ended)
	}()
	g.t.Cleanup(func() {
		stop()
		select {
		case <-g.ended:
		case <-time.After(patient):
			g.t.Error("Run does not end with its context")
		}
	})
	return g
}

// types sends a line and returns what the core heard.
func (g *rig) types(line string) bot.Message {
	g.t.Helper()
	g.enters(line)
	select {
	case m := <-g.heard:
		return m
	case <-time.After(patient):
		g.t.Fatalf("%q did not reach the core; the screen:\n%s", line, g.out)
		return bot.Message{}
	}
}

func (g *rig) enters(line string) {
	g.t.Helper()
	if _, err := io.WriteString(g.in, line+"\n"); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) says(p bot.Place, t bot.Text) string {
	g.t.Helper()
	id, err := g.Post(g.t.Context(), p, t)
	if err != nil {
		g.t.Fatal(err)
	}
	return id
}

func (g *rig) edits(p bot.Place, id string, t bot.Text) {
	g.t.Helper()
	if err := g.Edit(g.t.Context(), p, id, t); err != nil {
		g.t.Fatal(err)
	}
}

// shows waits until want was printed.
func (g *rig) shows(want string) {
	g.t.Helper()
	late := time.After(patient)
	for !strings.Contains(g.out.String(), want) {
		select {
		case <-g.out.more:
		case <-late:
			g.t.Fatalf("%q was not printed:\n%s", want, g.out)
		}
	}
}

// prints compares all that was printed.
func (g *rig) prints(want string) {
	g.t.Helper()
	if got := g.out.String(); got != want {
		g.t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}
