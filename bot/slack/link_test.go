package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

// quick is the link's timing for tests: the same proportions, a hundred times faster.
var quick = linkTiming{
	open: 2 * time.Second, ping: 50 * time.Millisecond, dead: 600 * time.Millisecond, frame: 2 * time.Second, write: time.Second,
	least: 10 * time.Millisecond, most: 150 * time.Millisecond, away: 150 * time.Millisecond, healthy: 300 * time.Millisecond, drain: 400 * time.Millisecond,
	take: 2 * time.Second, finish: time.Second, patient: 300 * time.Millisecond, ghost: 300 * time.Millisecond,
}

// briskly is a workspace as impatient as the link.
func briskly() slacktest.Options {
	return slacktest.Options{
		Unlimited: true, AckTimeout: 150 * time.Millisecond, PingEvery: 200 * time.Millisecond, WarnAhead: 300 * time.Millisecond,
		Redeliver: []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond},
	}
}

// rig is a workspace, a link to it, and what a store behind the link would have recorded.
type rig struct {
	*slacktest.Server
	link   *link
	cancel context.CancelCauseFunc
	ended  chan struct{} // run has returned
	err    error         // what it returned
	log    *lockedBuffer

	refuse atomic.Bool   // take fails
	block  chan struct{} // take waits for it to be closed; nil: it does not
	busy   atomic.Int32  // takes under way

	mu      sync.Mutex // guards what follows
	changed chan struct{}
	taken   map[string]int // by event id
	order   []string
	last    []envelope
	alarms  []string
	gaps    []time.Time
	clumsy  bool // two takes at once
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// appWeb asks over connections of its own, with the app token, and is as impatient as the link.
func appWeb(address, token string) *web {
	w := newWeb(address, "").forApp(token)
	w.silence.unsaid = quick.least
	w.http.Transport = gate{&http.Transport{}, w.silence}
	return w
}

// newRig prepares a link to a workspace; start runs it.
func newRig(t testing.TB, o slacktest.Options, timing linkTiming) *rig {
	t.Helper()
	server, err := slacktest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Server: server, log: &lockedBuffer{}, ended: make(chan struct{}), changed: make(chan struct{}), taken: map[string]int{}}
	r.link = newLink(linkOptions{web: appWeb(server.URL(), server.AppToken()), timing: timing, log: slog.New(slog.NewTextHandler(r.log, nil))})
	t.Cleanup(func() {
		if r.cancel != nil {
			r.stop(t)
		}
		server.Close()
		for _, secret := range []string{server.AppToken(), "ticket"} {
			if strings.Contains(r.log.String(), secret) {
				t.Errorf("the log has %q in it", secret)
			}
		}
		if t.Failed() {
			t.Log(r.log.String())
		}
		if r.clumsy {
			t.Error("take was called while it had not returned yet")
		}
		if left := goroutines(t.Name()); left != "" {
			t.Errorf("run has returned, and this still runs:\n%s", left)
		}
	})
	return r
}

// start runs the link, with every goroutine of it labelled by the test's name.
func (r *rig) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background()) // t.Context ends before the cleanups
	r.cancel = cancel
	go pprof.Do(ctx, pprof.Labels("link", t.Name()), func(ctx context.Context) {
		r.err = r.link.run(ctx, listener{take: r.take, gap: r.gap, alarm: r.alarm})
		close(r.ended)
	})
}

// open starts the link and waits until it is connected.
func (r *rig) open(t testing.TB) *rig {
	t.Helper()
	r.start(t)
	r.until(t, "it is connected", func() bool { return len(r.gaps) > 0 })
	return r
}

var errStop = errors.New("the test is over")

func (r *rig) stop(t testing.TB) {
	t.Helper()
	r.cancel(errStop)
	select {
	case <-r.ended:
	case <-time.After(10 * time.Second):
		t.Error("run does not return")
	}
}

// goroutines lists those that were started under a label and are still there.
func goroutines(label string) string {
	deadline := time.Now().Add(2 * time.Second)
	for {
		var b bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&b, 1)
		var left []string
		for stack := range strings.SplitSeq(b.String(), "\n\n") {
			if strings.Contains(stack, fmt.Sprintf("%q:%q", "link", label)) {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) { // the transport closes its idle connections in the background
			return strings.Join(left, "\n\n")
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (r *rig) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *rig) take(ctx context.Context, e envelope) ([]byte, error) {
	if r.busy.Add(1) > 1 {
		r.note(func() { r.clumsy = true })
	}
	defer r.busy.Add(-1)
	if r.block != nil {
		select {
		case <-r.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if r.refuse.Load() {
		return nil, errors.New("the disk is full")
	}
	var p struct {
		EventID string `json:"event_id"`
	}
	json.Unmarshal(e.Payload, &p)
	r.note(func() {
		r.taken[p.EventID]++
		r.order = append(r.order, p.EventID)
		r.last = append(r.last, e)
	})
	if e.Type == "slash_commands" {
		return []byte(`{"text":"done"}`), nil
	}
	return nil, nil
}

func (r *rig) gap(_ context.Context, since time.Time) {
	r.note(func() { r.gaps = append(r.gaps, since) })
}

func (r *rig) alarm(_ context.Context, text string) {
	r.note(func() { r.alarms = append(r.alarms, text) })
}

// until waits for something that take, gap or alarm bring about.
func (r *rig) until(t testing.TB, what string, is func() bool) {
	t.Helper()
	timeout := time.After(patientTest)
	for {
		r.mu.Lock()
		ok, changed := is(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// event makes something happen in the workspace.
func (r *rig) event(n int) (id string, sent slacktest.Sent) {
	id = fmt.Sprintf("Ev%04d", n)
	return id, r.Send("events_api", json.RawMessage(fmt.Sprintf(`{"event_id":%q}`, id)))
}

// ack waits for the acknowledgement of an envelope.
func (r *rig) ack(t testing.TB, sent slacktest.Sent) slacktest.Ack {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	ack, err := r.AwaitAck(ctx, sent.Envelope)
	if err != nil {
		t.Fatalf("envelope: %v", err)
	}
	return ack
}

func TestAnEnvelopeIsRecordedThenAcknowledged(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick).open(t)
	for n := range 20 {
		_, sent := r.event(n)
		if ack := r.ack(t, sent); ack.Attempts != 1 || len(ack.Payload) != 0 {
			t.Errorf("event %d: acknowledged at attempt %d with %q", n, ack.Attempts, ack.Payload)
		}
	}
	if !slices.IsSorted(r.order) || len(r.order) != 20 {
		t.Errorf("taken: %v", r.order)
	}
	command := r.Send("slash_commands", json.RawMessage(`{"command":"/vm"}`))
	if ack := r.ack(t, command); string(ack.Payload) != `{"text":"done"}` {
		t.Errorf("the command was answered with %q", ack.Payload)
	}
	if !r.link.connected() {
		t.Error("the link does not know that it is connected")
	}
	if len(r.gaps) != 1 || !r.gaps[0].IsZero() {
		t.Errorf("the first connection reads back since the beginning, got %v", r.gaps)
	}
}

// Bad luck of every kind, in the middle of traffic: everything arrives, and a store that looks at ids acts once on each.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]slacktest.Disruption{
		"warning": slacktest.Warning, "refresh": slacktest.Refresh, "refresh without FIN": slacktest.RefreshSilent,
		"too many": slacktest.TooMany, "half open": slacktest.HalfOpen, "RST": slacktest.ResetSocket, "FIN": slacktest.Hangup,
		"close frame": slacktest.CloseFrame, "half a frame": slacktest.CutFrame, "garbage": slacktest.GarbageFrame,
		"empty": slacktest.EmptyFrame, "binary": slacktest.BinaryFrame, "unknown": slacktest.UnknownFrame, "slow": slacktest.SlowFrame,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, briskly(), quick).open(t)
			for n := range 60 {
				r.event(n)
				if n%20 == 10 {
					r.DisruptOne(d)
				}
				<-time.After(5 * time.Millisecond)
			}
			r.until(t, "all has arrived", func() bool { return len(r.taken) == 60 })
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := r.AwaitSockets(ctx, 1, 0); err != nil {
				t.Errorf("it ends with %d sockets: %v", r.Sockets(), err)
			}
		})
	}
}
