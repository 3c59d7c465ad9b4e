package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"bgbot/auth"
	"bgbot/bot"
	"bgbot/bot/console"
	"bgbot/internal/lab"
)

// quiet keeps the transcripts of a world out of the numbers: unlike a test, a benchmark prints its log always.
type quiet struct{ *testing.B }

func (quiet) Logf(string, ...any) {}

// observe serves the world to one operator at a terminal, quietly, for what a log on a screen costs is not the bot's.
func observe(b *testing.B, w *world, limits bot.Limits, every int) *observed {
	b.Helper()
	s := newScreen()
	in, keys := io.Pipe()
	s.keys = keys
	c, err := console.Open(console.Options{
		In: in, Out: s, Person: auth.Person{Chat: "console", ID: "operator"}, Name: "operator", Plain: true, Dir: b.TempDir(), Greeting: "ready",
	})
	if err != nil {
		b.Fatal(err)
	}
	o := &observed{Console: c, screen: s, limits: limits, every: every, after: 3 * time.Second}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, w.settings, atConsole(o), slog.New(slog.DiscardHandler))
	}()
	b.Cleanup(func() {
		stop()
		must(b, <-done)
	})
	if _, err := s.sees("ready", patience); err != nil {
		b.Fatal(err)
	}
	return o
}

// asks types a line and waits for what the terminal shows then.
func (o *observed) asks(b *testing.B, line, pattern string) {
	b.Helper()
	if err := o.screen.says(line); err != nil {
		b.Fatal(err)
	}
	if _, err := o.screen.sees(pattern, patience); err != nil {
		b.Fatal(err)
	}
}

// watchTurn lets the ticker have one turn, and reports what became of its lines. Each 4th edit may be refused.
func watchTurn(b *testing.B, limits bot.Limits, every int) {
	b.Helper()
	w := newWorld(quiet{b}, b.TempDir(), "disk-full", newRoom())
	w.settings.agent.Command = tickerCLI(b)
	o := observe(b, w, limits, every)
	began := time.Now()
	o.asks(b, "devvm is frozen, please look", `bgbot  ▸ .*done$`)
	took := time.Since(began)

	late := o.screen.latencies()
	present, doubled, disordered := o.thread()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(o.screen.shown(tickLine, began).Sub(began).Milliseconds()), "first-line-ms")
	b.ReportMetric(late.quantile(0.5), "p50-ms")
	b.ReportMetric(late.quantile(0.95), "p95-ms")
	b.ReportMetric(late.quantile(1), "max-ms")
	b.ReportMetric(float64(len(late)), "lines-on-screen")
	b.ReportMetric(float64(present), "lines-of-40")
	b.ReportMetric(float64(doubled), "doubled")
	b.ReportMetric(float64(disordered+o.backward), "backward")
	b.ReportMetric(float64(o.inside), "calls-inside-retry-after")
	b.ReportMetric(float64(o.edited())/took.Minutes(), "edits/min")
}

func startLab(b *testing.B) *lab.Lab {
	b.Helper()
	l, err := lab.Start(b.Context(), lab.Options{Scenario: "disk-full", Fast: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { must(b, l.Close()) })
	return l
}

// sshCommand makes commands of ssh(1) that ask the lab's host for its status, with the bot's key.
func sshCommand(b *testing.B, l *lab.Lab) func() *exec.Cmd {
	b.Helper()
	host, port, err := net.SplitHostPort(l.Gate().Address)
	if err != nil {
		b.Fatal(err)
	}
	known := filepath.Join(b.TempDir(), "known_hosts")
	line := knownhosts.Line([]string{l.Gate().Address}, l.Gate().HostKey)
	if err := os.WriteFile(known, []byte(line+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	key, _ := l.KeyFiles()
	return func() *exec.Cmd {
		return exec.Command("ssh", "-F", "none", "-i", key, "-p", port, "-l", l.Gate().User,
			"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
			"-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile="+known, host, "status")
	}
}
