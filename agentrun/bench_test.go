package agentrun

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"bgbot/internal/anthropictest"
)

func benchRunner(b *testing.B) *Runner {
	b.Helper()
	path, err := anthropictest.FindCLI()
	if err != nil {
		if os.Getenv("CI") == "true" {
			b.Fatal(err)
		}
		b.Skip(err)
	}
	r, err := New(Config{
		Command: path, Dir: b.TempDir(), BaseURL: api.URL(), Model: "sonnet",
		Agent:  Agent{Name: "breakglass", Description: "d", Prompt: "p"},
		APIKey: func() (string, error) { return testKey, nil },
		Live:   2, TurnTimeout: time.Minute, IdleTimeout: time.Minute, Steps: 60, BudgetUSD: 5, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close(context.Background()) })
	return r
}

// BenchmarkFirstText measures from a message to the first word of the answer; cold starts the CLI for it.
func BenchmarkFirstText(b *testing.B) {
	for name, warm := range map[string]bool{"cold": false, "warm": true} {
		b.Run(name, func(b *testing.B) {
			r := benchRunner(b)
			s := newSession()
			if warm {
				for range r.Start(b.Context(), prompt(s, "[alice]: hello"), allow).Events() {
				}
			}
			for b.Loop() {
				if !warm {
					s = newSession()
				}
				turn := r.Start(b.Context(), prompt(s, "[alice]: hello"), allow)
				for e, err := range turn.Events() {
					if err != nil {
						b.Fatal(err)
					}
					if is[Text](e) {
						break
					}
				}
				b.StopTimer()
				<-turn.done
				b.StartTimer()
			}
		})
	}
}

// BenchmarkStop measures from a stop in a running command to the proof that nothing is left.
func BenchmarkStop(b *testing.B) {
	r := benchRunner(b)
	s := newSession()
	for b.Loop() {
		b.StopTimer()
		turn := r.Start(b.Context(), prompt(s, script(step{"bash": "setsid sleep 700 & sleep 701"}, step{"text": "x"})), allow)
		for e := range turn.Events() {
			if is[Tool](e) {
				break
			}
		}
		for alive := 0; alive < 4; { // the CLI, its shell and two commands
			alive = len(r.kinOf(s).pids())
		}
		b.StartTimer()
		if got := turn.Stop(b.Context()); len(got.Left) > 0 {
			b.Fatalf("%+v", got)
		}
		b.StopTimer()
		<-turn.done
		b.StartTimer()
	}
}
