package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/bot/console"
	"bgbot/internal/anthropictest"
)

// The numbers that the design promises, on the console path. One operation is one whole measurement of several samples,
// so these run with -benchtime=1x; what to reach is printed beside each number.

// BenchmarkStart measures from the start of the process to the line that greets the person.
func BenchmarkStart(b *testing.B) {
	b.Run("version", func(b *testing.B) {
		bgbot := built(b)
		samples(b, 15, func() time.Duration {
			began := time.Now()
			if err := exec.Command(bgbot, "version").Run(); err != nil {
				b.Fatal(err)
			}
			return time.Since(began)
		}).report(b, "", 100)
	})
	b.Run("console", func(b *testing.B) {
		bgbot, cfg := built(b), configFile(b, startLab(b))
		samples(b, 15, func() time.Duration {
			began := time.Now()
			p := startBuilt(b, bgbot, "console", "--plain", "-c", cfg)
			p.awaits(b, "Say what is wrong")
			took := time.Since(began)
			p.leaves(b)
			return took
		}).report(b, "", 100)
	})
}

// BenchmarkIdleMemory measures a console with a warm link and nothing to do: one that has only answered a verb since its
// very first start, and one that has seen a turn too.
func BenchmarkIdleMemory(b *testing.B) {
	b.Run("after-a-verb", func(b *testing.B) {
		idleMemory(b, 5, func(*process) {})
	})
	b.Run("after-a-turn", func(b *testing.B) {
		idleMemory(b, 3, func(p *process) {
			p.says("devvm is frozen, please look")
			p.awaits(b, `bgbot  ▸ .*done$`)
		})
	})
}

func idleMemory(b *testing.B, n int, work func(*process)) {
	b.Helper()
	bgbot, l := built(b), startLab(b)
	for b.Loop() {
		var m memories
		for range n {
			p := startBuilt(b, bgbot, "console", "--plain", "-c", configFile(b, l))
			p.awaits(b, "Say what is wrong")
			p.says("vm status")
			p.awaits(b, statusAnswer)
			work(p)
			<-time.After(8 * time.Second) // two ticks of giveBack
			m.measure(b, p)
			p.leaves(b)
		}
		m.report(b)
	}
}

// BenchmarkStream measures a turn of 40 lines, one each 250 ms: from the message to its first line on the screen, with
// the start of claude's process in it; from each line to the screen; and whether the thread is complete in the end.
func BenchmarkStream(b *testing.B) {
	for _, pace := range []struct {
		name   string
		limits bot.Limits
	}{
		{"terminal", terminalPace},
		{"45-edits-a-minute", bot.SlowLimits},
	} {
		b.Run(pace.name+"/steady", func(b *testing.B) {
			for b.Loop() {
				watchTurn(b, pace.limits, 0)
				b.ReportMetric(400, "first-line-reach-ms")
				b.ReportMetric(700, "p50-reach-ms")
				b.ReportMetric(1500, "p95-reach-ms")
			}
		})
		b.Run(pace.name+"/every-4th-busy", func(b *testing.B) { // to reach: all lines, none twice, none backwards, no call inside
			for b.Loop() {
				watchTurn(b, pace.limits, 4)
			}
		})
	}
}

// terminalPace is that of the console itself.
var terminalPace = (*console.Console)(nil).Limits()

// BenchmarkVerb measures a typed verb over the warm link, to the first byte that goes to the host and to the answer on
// the screen, and ssh(1) asking the same host for the same.
func BenchmarkVerb(b *testing.B) {
	w := newWorld(quiet{b}, b.TempDir(), "disk-full", newRoom())
	cold := sshCommand(b, w.lab)
	wire := newTap(b, w.settings.gate.Address)
	w.settings.gate.Address = wire.address()
	o := observe(b, w, terminalPace, 0)
	o.asks(b, "vm status", statusAnswer)
	for b.Loop() {
		var first, answer, viaSSH timings
		for range 15 {
			wire.forget()
			began := time.Now()
			o.asks(b, "vm status", statusAnswer)
			answer = append(answer, time.Since(began))
			if wire.firstByte().IsZero() {
				b.Fatal("nothing went to the host")
			}
			first = append(first, wire.firstByte().Sub(began))
			began = time.Now()
			if out, err := cold().CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			viaSSH = append(viaSSH, time.Since(began))
		}
		first.report(b, "first-byte-", 30)
		b.ReportMetric(answer.quantile(0.5), "answer-p50-ms")
		b.ReportMetric(viaSSH.quantile(0.5), "ssh-p50-ms")
		b.ReportMetric(viaSSH.quantile(0.5)/answer.quantile(0.5), "ssh/answer") // to reach: more than 1
	}
}

// BenchmarkStop measures from the typed word, while a command of the real claude runs, to the proof in the thread.
func BenchmarkStop(b *testing.B) {
	w := newWorld(quiet{b}, b.TempDir(), "disk-full", newRoom())
	sleep := fmt.Sprintf("sleep 6%05d", os.Getpid()%100000)
	must(b, w.script.add("please look", anthropictest.Answer{Bash: []string{sleep}}))
	o := observe(b, w, terminalPace, 0)
	samples(b, 5, func() time.Duration {
		o.asks(b, "please look", `⏳ Working .*`+sleep)
		for deadline := time.Now().Add(20 * time.Second); running(sleep) == 0; {
			if time.Now().After(deadline) {
				b.Fatal("the command does not run")
			}
			<-time.After(10 * time.Millisecond)
		}
		began := time.Now()
		o.asks(b, "stop", `I looked, none is left`)
		took := time.Since(began)
		if n := running(sleep); n > 0 {
			b.Fatalf("%d commands of the turn still run", n)
		}
		return took
	}).report(b, "", 1000)
}

// statusAnswer is what the thread says of a running VM.
const statusAnswer = `devvm.*is running`

// timings are samples of one number.
type timings []time.Duration

func samples(b *testing.B, n int, measure func() time.Duration) (t timings) {
	for b.Loop() {
		t = nil
		for range n {
			t = append(t, measure())
		}
	}
	return t
}

func (t timings) quantile(q float64) float64 {
	var ms []float64
	for _, d := range t {
		ms = append(ms, float64(d.Microseconds())/1000)
	}
	return quantile(ms, q)
}

// report prints the median, the worst and what to reach, and hides the time of the whole measurement.
func (t timings) report(b *testing.B, what string, reach float64) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(t.quantile(0.5), what+"p50-ms")
	b.ReportMetric(t.quantile(1), what+"max-ms")
	b.ReportMetric(reach, what+"reach-ms")
}

func quantile(of []float64, q float64) float64 {
	if len(of) == 0 {
		return -1
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
