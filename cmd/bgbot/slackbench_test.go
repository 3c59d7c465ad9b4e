package main

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

// The numbers that the design promises, on Slack: the whole of bgbot against a stand-in of Slack with Slack's limits. What
// is lost, doubled, backward or hasty fails a benchmark; what is slow is only a number. The link alone, beside slack-go's,
// is measured in bot/slack, and so are a thousand disconnects.

// BenchmarkSlackStream is a turn of 40 lines, one each 250 ms.
func BenchmarkSlackStream(b *testing.B) {
	for b.Loop() {
		streams(b, 3)
		b.ReportMetric(400, "first-line-reach-ms")
		b.ReportMetric(700, "p50-reach-ms")
		b.ReportMetric(1500, "p95-reach-ms")
		b.ReportMetric(45, "edits/min-reach")
	}
}

// BenchmarkSlackStreamLimited is the same while each 4th edit is answered 429 with a Retry-After of 3 s.
func BenchmarkSlackStreamLimited(b *testing.B) {
	for b.Loop() {
		streams(b, 3, slacktest.Fault{Methods: []string{"chat.update"}, Kind: slacktest.RateLimited, Every: 4, RetryAfter: 3})
	}
}

// streams watches n turns, each of a new bot.
func streams(b *testing.B, n int, faults ...slacktest.Fault) {
	b.Helper()
	var first, lines, answer timings
	edits, limited, hasty, present := 0, 0, 0, tickCount
	for range n {
		d := serveSlack(b, faults...)
		asked := time.Now()
		thread := d.ask(b, "devvm is frozen, please look")
		d.answered(b, thread)
		t := watchThread(b, d.slack, thread)
		first = append(first, t.first.Sub(asked))
		lines = append(lines, t.lines...)
		answer = append(answer, t.answer.Sub(t.last))
		present = min(present, t.present)
		edits = max(edits, mostInAMinute(d.slack.Calls("chat.update")))
		limited += count(d.slack.Calls(), func(c slacktest.Call) bool { return c.Status == 429 })
		hasty += d.hasty()
		d.leaves(b)
	}
	if hasty > 0 {
		b.Errorf("%d calls inside a Retry-After", hasty)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(first.quantile(0.5), "first-line-p50-ms")
	b.ReportMetric(first.quantile(1), "first-line-max-ms")
	b.ReportMetric(lines.quantile(0.5), "p50-ms")
	b.ReportMetric(lines.quantile(0.95), "p95-ms")
	b.ReportMetric(lines.quantile(1), "max-ms")
	b.ReportMetric(float64(edits), "edits/min")
	b.ReportMetric(answer.quantile(1), "answer-after-last-line-max-ms")
	b.ReportMetric(float64(present), "lines-of-40")
	b.ReportMetric(float64(limited), "limited")
	b.ReportMetric(float64(hasty), "calls-inside-retry-after")
}

// BenchmarkSlackAck is how long an acknowledgement takes with the real store before it, while a turn is shown. The
// stranger's words are recorded, refused and audited like anybody's, and answered three times only.
func BenchmarkSlackAck(b *testing.B) {
	for b.Loop() {
		d := serveSlack(b)
		thread := d.ask(b, "devvm is frozen, please look")
		var sent []slacktest.Sent
		for n := range 500 {
			s, err := d.slack.Say(member("stranger"), "", fmt.Sprintf("stranger %d", n))
			if err != nil {
				b.Fatal(err)
			}
			sent = append(sent, s)
			<-time.After(20 * time.Millisecond)
		}
		d.answered(b, thread)
		var took timings
		for _, s := range sent {
			ack, err := d.slack.AwaitAck(b.Context(), s.Envelope)
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, ack.After)
		}
		d.leaves(b)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(took.quantile(0.5), "p50-ms")
		b.ReportMetric(took.quantile(0.99), "p99-ms")
		b.ReportMetric(took.quantile(1), "max-ms")
		b.ReportMetric(50, "p99-reach-ms")
	}
}

// BenchmarkSlackStart is from the start of the process until Slack has a socket of it, with a Slack that answers at once
// and with one as far away as in the measurements of other bots. It has no rate limits: fifteen starts in a row have more
// questions than Slack answers within a minute, and a start that obeys a Retry-After of 1 s takes 1 to 2 s.
func BenchmarkSlackStart(b *testing.B) {
	bgbot := built(b)
	for _, after := range []time.Duration{0, answerAfter} {
		b.Run("answers-after-"+after.String(), func(b *testing.B) {
			d := newDesk(b)
			d.slack.SetRates(slacktest.Rates{})
			d.slow(after)
			cfg := slackConfig(b, d, 4)
			samples(b, 15, func() time.Duration {
				began := time.Now()
				p := serveBuilt(b, bgbot, cfg, d)
				took := time.Since(began)
				p.leaves(b)
				d.gone(b)
				return took
			}).report(b, "", 100)
		})
	}
}

// BenchmarkSlackIdleMemory is a bot on Slack with a warm link to the host and nothing to do: one that has only answered a
// verb since its very first start, and one that has seen a turn too.
func BenchmarkSlackIdleMemory(b *testing.B) {
	bgbot := built(b)
	for _, turns := range []int{0, 1} {
		b.Run(fmt.Sprintf("after-%d-turns", turns), func(b *testing.B) {
			for b.Loop() {
				var m memories
				for range 3 {
					d := newDesk(b)
					p := serveBuilt(b, bgbot, slackConfig(b, d, 4), d)
					d.ask(b, "vm status")
					d.awaits(b, "", `(?s)devvm.*is running`) // Slack keeps the lines apart
					for range turns {
						d.answered(b, d.ask(b, "devvm is frozen, please look"))
					}
					<-time.After(8 * time.Second) // two ticks of giveBack
					m.measure(b, p)
					p.leaves(b)
				}
				m.report(b)
			}
		})
	}
}

// BenchmarkSlackThreads is so many turns at once. All of them share one post a second and 45 edits a minute, so the more
// there are the older is what a thread shows.
func BenchmarkSlackThreads(b *testing.B) {
	bgbot := built(b)
	for _, threads := range []int{1, 10, 50} {
		b.Run(strconv.Itoa(threads), func(b *testing.B) {
			for b.Loop() {
				d := newDesk(b)
				d.slow(answerAfter)
				p := serveBuilt(b, bgbot, slackConfig(b, d, threads), d)
				idle := p.memory(b, "Rss:")
				began := time.Now()
				var asked []string
				for n := range threads {
					asked = append(asked, d.ask(b, fmt.Sprintf("devvm is frozen, look at it for the %d. time", n+1)))
				}
				var lines timings
				for _, thread := range asked {
					d.answered(b, thread)
				}
				took, peak := time.Since(began), p.peak(b)
				for _, thread := range asked {
					lines = append(lines, watchThread(b, d.slack, thread).lines...)
				}
				if n := d.hasty(); n > 0 {
					b.Errorf("%d calls inside a Retry-After", n)
				}
				p.leaves(b)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(lines.quantile(0.5), "stale-p50-ms")
				b.ReportMetric(lines.quantile(0.95), "stale-p95-ms")
				b.ReportMetric(float64(mostInAMinute(d.slack.Calls("chat.update"))), "edits/min")
				b.ReportMetric(float64(mostInAMinute(d.slack.Calls("chat.postMessage"))), "posts/min")
				b.ReportMetric(took.Seconds(), "all-answered-s")
				b.ReportMetric(idle, "rss-before-MiB")
				b.ReportMetric(peak, "rss-peak-MiB")
			}
		})
	}
}
