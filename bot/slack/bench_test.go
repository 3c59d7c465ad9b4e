package slack

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

// Each benchmark runs our link and slack-go's socketmode side by side against the same server.
func sideBySide(b *testing.B, bench func(b *testing.B, run client)) {
	b.Run("ours", func(b *testing.B) { bench(b, ours) })
	b.Run("slack-go", func(b *testing.B) { bench(b, theirs) })
}

// begin runs a client until the returned function is called.
func begin(run client, s *slacktest.Server, timing linkTiming, to ears) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { run(ctx, s, timing, to) })
	return func() { cancel(); running.Wait() }
}

func startServer(b *testing.B, o slacktest.Options) *slacktest.Server {
	b.Helper()
	s, err := slacktest.Start(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func awaitSockets(b *testing.B, s *slacktest.Server, n int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	if err := s.AwaitSockets(ctx, n, 0); err != nil {
		b.Fatal(err)
	}
}

func report(b *testing.B, took []time.Duration, what string) {
	slices.Sort(took)
	b.ReportMetric(0, "ns/op") // an average says nothing here
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[(len(took)-1)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-%s-ms", p, what))
	}
}

// A hundred disruptions an iteration, under traffic. Late is what waited longer than the 3 s after which a person sees an
// error (here 250 ms); again is what only the store's memory of ids keeps from happening twice; to be read back is what
// Slack gave up, and the client knows it may have.
func BenchmarkSoak(b *testing.B) {
	sideBySide(b, func(b *testing.B, run client) {
		var sum soaked
		var late, deaf int
		for b.Loop() {
			r := soak(b, run, 100, again)
			sum.said += r.said
			sum.again += r.again
			sum.disruptions += r.disruptions
			sum.opens += r.opens
			sum.missed = append(sum.missed, r.missed...)
			sum.tally.Lost = append(sum.tally.Lost, r.tally.Lost...)
			sum.tally.Doubled = append(sum.tally.Doubled, r.tally.Doubled...)
			late += r.truth.Late
			if r.deaf {
				deaf++
			}
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(deaf), "deaf-for-ever")
		b.ReportMetric(float64(sum.disruptions), "disruptions")
		b.ReportMetric(float64(sum.said), "messages")
		b.ReportMetric(float64(len(sum.missed)), "lost")
		b.ReportMetric(float64(len(sum.tally.Lost)-len(sum.missed)), "to-be-read-back")
		b.ReportMetric(float64(len(sum.tally.Doubled)), "acted-on-twice")
		b.ReportMetric(float64(100*late)/float64(sum.said), "%late")
		b.ReportMetric(float64(100*sum.again)/float64(sum.said), "%again")
		b.ReportMetric(float64(sum.opens)/float64(sum.disruptions), "opens/disruption")
	})
}

// The hourly replacement, announced 10 s ahead, while somebody speaks: how long it takes until a message is here.
func BenchmarkAnnouncedReplacement(b *testing.B) {
	sideBySide(b, func(b *testing.B, run client) {
		s := startServer(b, slacktest.Options{Unlimited: true, WarnAhead: 300 * time.Millisecond})
		s.SetLink(slacktest.Link{HelloAfter: 150 * time.Millisecond}) // what open, TLS and hello take over a real line
		timing := quick
		timing.healthy = 50 * time.Millisecond
		var mu sync.Mutex // guards the next two
		at := map[string]time.Time{}
		var took []time.Duration
		record := func(payload []byte) {
			mu.Lock()
			defer mu.Unlock()
			if ts := spokenAt(payload); !at[ts].IsZero() {
				took = append(took, time.Since(at[ts]))
				delete(at, ts)
			}
		}
		defer begin(run, s, timing, deafTo(record))()
		awaitSockets(b, s, 1)
		n := 0
		for b.Loop() {
			<-time.After(2 * timing.healthy)
			s.Disrupt(slacktest.Warning)
			for range 200 {
				n++
				ts := fmt.Sprintf("1796000000.%06d", n)
				mu.Lock()
				at[ts] = time.Now()
				mu.Unlock()
				s.Send("events_api", spoken(s, ts))
				<-time.After(3 * time.Millisecond)
			}
			awaitSockets(b, s, 1)
		}
		mu.Lock()
		defer mu.Unlock()
		report(b, took, "message")
	})
}

// Slack accepts each socket and ends it at once, for one second.
func BenchmarkAcceptThenDisconnect(b *testing.B) {
	for _, reason := range []string{"too_many_websockets", "refresh_requested"} {
		b.Run(reason, func(b *testing.B) {
			sideBySide(b, func(b *testing.B, run client) {
				opens := 0
				for b.Loop() {
					s := startServer(b, slacktest.Options{Unlimited: true})
					s.SetLink(slacktest.Link{Refuse: reason})
					stop := begin(run, s, slackTiming, deafTo(func([]byte) {}))
					<-time.After(time.Second)
					opens += len(s.Calls("apps.connections.open"))
					stop()
					s.Close()
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(opens)/float64(b.N), "opens/s")
			})
		})
	}
}

// From nothing to hello.
func BenchmarkStartToConnected(b *testing.B) {
	sideBySide(b, func(b *testing.B, run client) {
		s := startServer(b, slacktest.Options{Unlimited: true})
		var took []time.Duration
		for b.Loop() {
			connected := make(chan struct{})
			began := time.Now()
			to := deafTo(func([]byte) {})
			to.hello = sync.OnceFunc(func() { close(connected) })
			stop := begin(run, s, slackTiming, to)
			<-connected
			took = append(took, time.Since(began))
			stop()
		}
		report(b, took, "start")
	})
}

// A hundred envelopes an iteration, one every 2 ms; the store takes no time here.
func BenchmarkAck(b *testing.B) {
	sideBySide(b, func(b *testing.B, run client) {
		s := startServer(b, slacktest.Options{Unlimited: true})
		defer begin(run, s, slackTiming, deafTo(func([]byte) {}))()
		awaitSockets(b, s, 1)
		sent := 0
		for b.Loop() {
			for range 100 {
				s.Send("events_api", spoken(s, fmt.Sprintf("1796000000.%06d", sent)))
				sent++
				<-time.After(2 * time.Millisecond)
			}
		}
		for s.Truth().Pending > 0 {
			<-time.After(time.Millisecond)
		}
		report(b, s.AckTimes(), "ack")
	})
}
