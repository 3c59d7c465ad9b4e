package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	slackgo "github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"

	"bgbot/internal/slacktest"
)

// client is something that listens on Socket Mode: record is told each payload before its acknowledgement, and hello each
// hello. It returns when ctx ends or it gives up.
type client func(ctx context.Context, s *slacktest.Server, timing linkTiming, record func(payload []byte), hello func())

// ours is the link of this package.
func ours(ctx context.Context, s *slacktest.Server, timing linkTiming, record func([]byte), hello func()) {
	caller := &http.Client{Transport: &http.Transport{}}
	defer caller.CloseIdleConnections()
	l := newLink(linkOptions{appToken: s.AppToken(), apiURL: s.URL(), http: caller, log: slog.New(slog.DiscardHandler), timing: timing})
	l.run(ctx, listener{
		take:  func(_ context.Context, e envelope) ([]byte, error) { record(e.Payload); return nil, nil },
		gap:   func(context.Context, time.Time) { hello() },
		alarm: func(context.Context, string) {},
	})
}

// theirs is slack-go's socketmode, used as its documentation has it, and begun again whenever it gives up. It is why ours
// exists: when more than its 20 acks wait while it reconnects, the loop below waits in Ack for a connection, and the
// connection waits in sendEvent for the loop, for ever.
func theirs(ctx context.Context, s *slacktest.Server, timing linkTiming, record func([]byte), hello func()) {
	api := slackgo.New(s.BotToken(), slackgo.OptionAppLevelToken(s.AppToken()), slackgo.OptionAPIURL(s.URL()))
	c := socketmode.New(api, socketmode.OptionPingInterval(timing.dead))
	var listening sync.WaitGroup
	listening.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-c.Events:
				if e.Type == socketmode.EventTypeHello {
					hello()
				} else if e.Request != nil && e.Request.EnvelopeID != "" {
					record(e.Request.Payload)
					c.AckCtx(ctx, e.Request.EnvelopeID, nil)
				}
			}
		}
	})
	for ctx.Err() == nil {
		c.RunContext(ctx)
	}
	listening.Wait()
}

// luck is every bad luck that does not end the link for good.
var luck = []slacktest.Disruption{
	slacktest.Warning, slacktest.Refresh, slacktest.RefreshSilent, slacktest.TooMany, slacktest.HalfOpen, slacktest.ResetSocket,
	slacktest.Hangup, slacktest.CloseFrame, slacktest.CutFrame, slacktest.GarbageFrame, slacktest.EmptyFrame,
	slacktest.BinaryFrame, slacktest.UnknownFrame,
}

// spoken is a message event as slack-go reads it too.
func spoken(s *slacktest.Server, ts string) json.RawMessage {
	return fmt.Appendf(nil, `{"type":"event_callback","team_id":%q,"api_app_id":%q,"event_id":"Ev%s","event_time":1796000000,
		"event":{"type":"message","channel":%q,"channel_type":"group","user":"U0SPEAKER","text":"hi","ts":%q}}`,
		s.TeamID(), s.AppID(), ts, s.Channel(), ts)
}

// spokenAt is the ts of a message.
func spokenAt(payload []byte) string {
	var p struct{ Event struct{ TS string } }
	_ = json.Unmarshal(payload, &p)
	return p.Event.TS
}

// soakPace is the time from one disruption to the next, and stormy the link's timing for it.
const soakPace = 15 * time.Millisecond

var stormy = func() linkTiming {
	t := quick
	t.most, t.healthy = 50*time.Millisecond, 2*soakPace
	return t
}()

// soaked is what became of a soak.
type soaked struct {
	said               int
	tally              slacktest.Tally // what a store that knows ids acted on, against what was said
	again              int             // deliveries that only the store has told from new ones
	truth              slacktest.Truth
	opens, disruptions int
	took               time.Duration
	deaf               bool // no socket for 5 s: it will never have one again
}

// soak lets somebody speak all the time, and meanwhile so many disruptions happen to the client's sockets.
func soak(t testing.TB, run client, disruptions int) soaked {
	t.Helper()
	o := briskly()
	// Slack's own times, forty times faster: attempts at once and after 1 and 5 minutes, but a busy machine needs time to ack
	o.AckTimeout, o.Redeliver, o.WarnAhead = 250*time.Millisecond, []time.Duration{0, 1500 * time.Millisecond, 7500 * time.Millisecond}, 100*time.Millisecond
	s, err := slacktest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(disruptions)*200*time.Millisecond+30*time.Second)
	defer cancel()
	var mu sync.Mutex
	var acted []string
	got := map[string]int{}
	record := func(payload []byte) {
		ts := spokenAt(payload)
		mu.Lock()
		defer mu.Unlock()
		if got[ts]++; got[ts] == 1 {
			acted = append(acted, ts)
		}
	}
	clientCtx, stopClient := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { run(clientCtx, s, stormy, record, func() {}) })
	if err := s.AwaitSockets(ctx, 1, 0); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	quiet := make(chan struct{})
	var said []string
	var talking sync.WaitGroup
	talking.Go(func() {
		for {
			select {
			case <-quiet:
				return
			case <-time.After(2 * time.Millisecond):
				ts := fmt.Sprintf("1796000000.%06d", len(said))
				said = append(said, ts)
				s.Send("events_api", spoken(s, ts))
			}
		}
	})
	result := soaked{}
	for open := began; result.disruptions < disruptions && !result.deaf; {
		if s.DisruptOne(luck[rand.IntN(len(luck))]) {
			result.disruptions++
			open = time.Now()
		}
		result.deaf = time.Since(open) > 5*time.Second
		<-time.After(soakPace)
	}
	result.took = time.Since(began)
	close(quiet)
	talking.Wait()
	for s.Truth().Pending > 0 && ctx.Err() == nil {
		<-time.After(20 * time.Millisecond)
	}
	stopClient()
	running.Wait()
	mu.Lock()
	defer mu.Unlock()
	result.said, result.truth = len(said), s.Truth()
	result.opens = len(s.Calls("apps.connections.open"))
	slices.Sort(acted) // order across sockets is nobody's promise
	result.tally = slacktest.Compare(said, acted)
	for _, n := range got {
		result.again += n - 1
	}
	return result
}

// A hundred disruptions under traffic: every message arrives, and a store that looks at ids acts on each once.
func TestSoak(t *testing.T) {
	t.Parallel()
	r := soak(t, ours, 100)
	t.Logf("%d messages, %d disruptions in %s, %d opens, %d came again, %+v", r.said, r.disruptions, r.took, r.opens, r.again, r.truth)
	if !r.tally.Clean() || r.disruptions != 100 {
		t.Errorf("after %d disruptions: lost %d, twice %d, strange %d of %d", r.disruptions, len(r.tally.Lost), len(r.tally.Doubled), len(r.tally.Strange), r.said)
	}
}
