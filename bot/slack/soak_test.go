package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	slackgo "github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"

	"bgbot/internal/slacktest"
)

// client is something that listens on Socket Mode and tells e what it hears. It returns when ctx ends or it gives up.
type client func(ctx context.Context, s *slacktest.Server, timing linkTiming, e ears)

// ears are who is told what a client hears.
type ears struct {
	record func(payload []byte)  // each payload, before its acknowledgement
	hello  func()                // it is connected
	gap    func(since time.Time) // something may have been missed since then; a client need not know
}

// deafTo is whoever wants to hear of payloads only.
func deafTo(record func([]byte)) ears {
	return ears{record, func() {}, func(time.Time) {}}
}

// ours is the link of this package.
func ours(ctx context.Context, s *slacktest.Server, timing linkTiming, to ears) {
	l := newLink(linkOptions{web: appWeb(s.URL(), s.AppToken()), log: slog.New(slog.DiscardHandler), timing: timing})
	l.run(ctx, listener{
		take:  func(_ context.Context, e envelope) ([]byte, error) { to.record(e.Payload); return nil, nil },
		gap:   func(_ context.Context, since time.Time) { to.gap(since); to.hello() },
		alarm: func(context.Context, string) {},
	})
}

// theirs is slack-go's socketmode, used as its documentation has it, and begun again whenever it gives up. It is why ours
// exists: when more than its 20 acks wait while it reconnects, the loop below waits in Ack for a connection, and the
// connection waits in sendEvent for the loop, for ever. It knows of no gaps.
func theirs(ctx context.Context, s *slacktest.Server, timing linkTiming, to ears) {
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
					to.hello()
				} else if e.Request != nil && e.Request.EnvelopeID != "" {
					to.record(e.Request.Payload)
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

// again is when Slack sends again what nobody acknowledged, forty times faster than it does: at once, after 1 and after 5
// more minutes. But a busy machine needs time to acknowledge.
var again = []time.Duration{0, 1500 * time.Millisecond, 7500 * time.Millisecond}

// soaked is what became of a soak.
type soaked struct {
	said               int
	tally              slacktest.Tally // what a store that knows ids acted on, against what was said
	missed             []string        // what did not come, and was in no gap that the client told of
	again              int             // deliveries that only the store has told from new ones
	truth              slacktest.Truth
	opens, disruptions int
	took               time.Duration
	deaf               bool // no socket for 5 s: it will never have one again
}

// told are the gaps that a client told of.
type told []struct{ since, at time.Time }

// covers says that something was said in one of them.
func (all told) covers(said time.Time) bool {
	for _, gap := range all {
		if !said.Before(gap.since) && said.Before(gap.at) {
			return true
		}
	}
	return false
}

// soak lets somebody speak all the time, and meanwhile so many disruptions happen to the client's sockets.
func soak(t testing.TB, run client, disruptions int, redeliver []time.Duration) soaked {
	t.Helper()
	o := briskly()
	o.AckTimeout, o.Redeliver, o.WarnAhead = 250*time.Millisecond, redeliver, 100*time.Millisecond
	s, err := slacktest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(disruptions)*200*time.Millisecond+30*time.Second)
	defer cancel()
	var mu sync.Mutex // guards the next three
	var acted []string
	var gaps told
	got := map[string]int{}
	hear := deafTo(func(payload []byte) {
		ts := spokenAt(payload)
		mu.Lock()
		defer mu.Unlock()
		if got[ts]++; got[ts] == 1 {
			acted = append(acted, ts)
		}
	})
	hear.gap = func(since time.Time) {
		mu.Lock()
		defer mu.Unlock()
		gaps = append(gaps, struct{ since, at time.Time }{since, time.Now()})
	}
	clientCtx, stopClient := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { run(clientCtx, s, stormy, hear) })
	if err := s.AwaitSockets(ctx, 1, 0); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	quiet := make(chan struct{})
	var said []string
	saidAt := map[string]time.Time{}
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
				saidAt[ts] = time.Now()
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
	<-time.After(stormy.dead + stormy.ping) // until then a socket may be silent before anybody doubts it
	stopClient()
	running.Wait()
	mu.Lock()
	defer mu.Unlock()
	result.said, result.truth = len(said), s.Truth()
	result.opens = len(s.Calls("apps.connections.open"))
	slices.Sort(acted) // order across sockets is nobody's promise
	result.tally = slacktest.Compare(said, acted)
	for _, ts := range result.tally.Lost {
		if !gaps.covers(saidAt[ts]) {
			result.missed = append(result.missed, ts)
		}
	}
	for _, n := range got {
		result.again += n - 1
	}
	return result
}

// A hundred disruptions under traffic: every message arrives, or the link tells of a gap in which it was said, which is
// then read back; and a store that looks at ids acts on each once. Slack gives a message up whose attempts all meet a
// broken socket, which on a busy machine happens; where it makes one attempt only, it happens all the time.
func TestSoak(t *testing.T) {
	t.Parallel()
	for name, redeliver := range map[string][]time.Duration{"Slack sends again": again, "Slack sends once": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := soak(t, ours, 100, redeliver)
			t.Logf("%d messages, %d disruptions in %s, %d opens, %d came again, %d are to be read back, %+v",
				r.said, r.disruptions, r.took, r.opens, r.again, len(r.tally.Lost), r.truth)
			if len(r.missed)+len(r.tally.Doubled)+len(r.tally.Strange) > 0 || r.disruptions != 100 {
				t.Errorf("after %d disruptions: %d in no gap (%v), twice %d, strange %d of %d",
					r.disruptions, len(r.missed), r.missed, len(r.tally.Doubled), len(r.tally.Strange), r.said)
			}
		})
	}
}
