package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

// answerAfter is how long the stand-in of Slack takes for each answer, as in the measurements of other bots. People are
// taken to see what a call did when it is answered.
const answerAfter = 60 * time.Millisecond

// slow makes Slack take so long for each answer.
func (d *desk) slow(after time.Duration) {
	if after > 0 {
		d.slack.Inject(slacktest.Fault{Kind: slacktest.Slow, Delay: after})
	}
}

// shift is the service at a desk, without terminals: what a log on a screen costs is not the bot's.
type shift struct {
	*desk
	stop context.CancelFunc
	done chan error
}

// serveSlack begins one that has connected, with the ticker for a claude and faults in Slack.
func serveSlack(b *testing.B, faults ...slacktest.Fault) *shift {
	b.Helper()
	d := newDesk(b)
	for _, f := range faults {
		d.slack.Inject(f)
	}
	d.slow(answerAfter)
	w := newWorld(quiet{b}, b.TempDir(), "disk-full", d)
	w.settings.agent.Command = tickerCLI(b)
	w.log.to = io.Discard // a benchmark prints its log always
	d.fill(b)
	ctx, stop := context.WithCancel(context.Background())
	s := &shift{d, stop, make(chan error, 1)}
	go func() { s.done <- serve(ctx, w.settings, d.open(w), slog.New(slog.DiscardHandler)) }()
	d.connected(b, 0)
	return s
}

// leaves ends it as SIGTERM would.
func (s *shift) leaves(b *testing.B) {
	b.Helper()
	s.stop()
	must(b, <-s.done)
}

// fill lets everybody into the channel.
func (d *desk) fill(t testing.TB) {
	t.Helper()
	for name := range characters {
		d.enters(t, name)
	}
}

// connected waits for a socket that is not one of those dialled before.
func (d *desk) connected(b *testing.B, dialled int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	if err := d.slack.AwaitSockets(ctx, 1, dialled); err != nil {
		b.Fatal("no connection: ", err)
	}
}

// gone waits until Slack has no socket.
func (d *desk) gone(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	must(b, d.slack.AwaitSockets(ctx, 0, 0))
}

// ask has the operator say something in the channel.
func (d *desk) ask(b *testing.B, text string) (thread string) {
	b.Helper()
	sent, err := d.slack.Say(member("operator"), "", text)
	if err != nil {
		b.Fatal(err)
	}
	return sent.TS
}

// answered waits for the ticker's last word in a thread.
func (d *desk) answered(b *testing.B, thread string) { b.Helper(); d.awaits(b, thread, doneText) }

const doneText = `^🤖 done`

// awaits waits until the thread shows pattern.
func (d *desk) awaits(b *testing.B, thread, pattern string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 4*time.Minute)
	defer cancel()
	fits := regexp.MustCompile(pattern)
	if _, err := d.slack.Await(ctx, 0, func(h slacktest.Happening) bool {
		return ofBot(h, thread) && fits.MatchString(h.Message.Shown())
	}); err != nil {
		var seen []string
		for _, h := range d.slack.Happenings() {
			seen = append(seen, fmt.Sprintf("%s in %q: %s", h.Kind, h.Message.ThreadTS, h.Message.Shown()))
		}
		b.Fatalf("%q does not come into %s: %v\n%s", pattern, thread, err, strings.Join(seen, "\n---\n"))
	}
}

// ofBot says that the bot said or changed something in the thread; without a thread, that it said anything anywhere.
func ofBot(h slacktest.Happening, thread string) bool {
	if h.Message.BotID == "" || thread == "" {
		return h.Message.BotID != ""
	}
	return h.Message.ThreadTS == thread && (h.Kind == slacktest.Posted || h.Kind == slacktest.Changed)
}

// watched is what people saw of a turn of the ticker.
type watched struct {
	first, last, answer time.Time // the first line seen; the last line said; the answer seen
	lines               timings   // from being said to being seen
	present             int
}

// watchThread reads a thread whose turn has ended, and fails b if it is not complete.
func watchThread(b *testing.B, s *slacktest.Server, thread string) (t watched) {
	b.Helper()
	said, seen, last := map[int]time.Time{}, map[int]time.Time{}, map[string]int{}
	backward, newest := 0, 0
	done := regexp.MustCompile(doneText)
	for _, h := range s.Happenings() {
		if !ofBot(h, thread) {
			continue
		}
		at, text, highest := h.At.Add(answerAfter), h.Message.Shown(), 0
		for _, m := range tickLine.FindAllStringSubmatch(text, -1) {
			n, _ := strconv.Atoi(m[1])              // digits
			ms, _ := strconv.ParseInt(m[2], 10, 64) // digits
			said[n], highest = time.UnixMilli(ms), n
		}
		if highest < last[h.Message.TS] {
			backward++
		}
		last[h.Message.TS] = highest
		for ; newest < highest; newest++ { // a later line says that the earlier ones are there too; whether they are is looked at below
			seen[newest+1] = at
		}
		if done.MatchString(text) && t.answer.IsZero() {
			t.answer = at
		}
	}
	for n, at := range said {
		t.lines = append(t.lines, seen[n].Sub(at))
	}
	t.first, t.last = seen[1], said[tickCount]
	var texts []string
	for _, m := range s.Thread(thread) {
		if m.BotID != "" {
			texts = append(texts, m.Shown())
		}
	}
	present, doubled, disordered := completeness(texts)
	if present != tickCount || doubled+disordered+backward > 0 {
		b.Errorf("thread %s: %d lines of %d, %d doubled, %d out of order, %d edits backward:\n%s",
			thread, present, tickCount, doubled, disordered, backward, strings.Join(texts, "\n---\n"))
	}
	t.present = present
	return t
}

// mostInAMinute is the most calls that came within any minute.
func mostInAMinute(calls []slacktest.Call) (most int) {
	for i, c := range calls {
		n := count(calls[i:], func(o slacktest.Call) bool { return o.At.Sub(c.At) < time.Minute })
		most = max(most, n)
	}
	return most
}

func count[T any](of []T, is func(T) bool) (n int) {
	for _, o := range of {
		if is(o) {
			n++
		}
	}
	return n
}

// slackConfig is a configuration for a lab and a desk in which everybody is.
func slackConfig(b *testing.B, d *desk, live int) (path string) {
	b.Helper()
	d.fill(b)
	for key, value := range map[string]string{
		"SLACK_APP_TOKEN": d.slack.AppToken(), "SLACK_BOT_TOKEN": d.slack.BotToken(), "SLACK_CHANNEL": d.slack.Channel(),
		"SLACK_API_URL": d.slack.URL(), "AUTH_SLACK": member("operator") + "," + member("colleague"), "AGENT_LIVE": strconv.Itoa(live),
	} {
		b.Setenv("BGBOT_"+key, value)
	}
	return configFile(b, startLab(b))
}

// serveBuilt starts the binary on Slack and waits for its socket.
func serveBuilt(b *testing.B, bgbot, cfg string, d *desk) *process {
	b.Helper()
	log, err := os.CreateTemp(b.TempDir(), "log")
	if err != nil {
		b.Fatal(err)
	}
	dialled := d.slack.Dialled()
	p := &process{cmd: exec.Command(bgbot, "serve", "-c", cfg)}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.begins(b)
	must(b, log.Close()) // the process has its own
	b.Cleanup(func() {
		if text, err := os.ReadFile(log.Name()); b.Failed() && err == nil {
			b.Logf("bgbot serve logged:\n%s", text)
		}
	})
	d.connected(b, dialled)
	return p
}

// peak is the most memory that the process ever had, in MiB.
func (p *process) peak(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// memories are samples of what a process takes.
type memories struct{ rss, anonymous []float64 }

func (m *memories) measure(b *testing.B, p *process) {
	b.Helper()
	m.rss = append(m.rss, p.memory(b, "Rss:"))
	m.anonymous = append(m.anonymous, p.memory(b, "Anonymous:"))
}

func (m *memories) report(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(quantile(m.rss, 0.5), "rss-p50-MiB")
	b.ReportMetric(slices.Max(m.rss), "rss-max-MiB")
	b.ReportMetric(30, "rss-reach-MiB")
	b.ReportMetric(quantile(m.anonymous, 0.5), "anonymous-p50-MiB")
	b.ReportMetric(slices.Max(m.anonymous), "anonymous-max-MiB")
	b.ReportMetric(14, "anonymous-reach-MiB")
}
