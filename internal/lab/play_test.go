package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/pve"
)

// console plays a bot behind plain lines: say is what it answers to a typed line.
func console(t *testing.T, say func(typed string, out io.Writer)) (in io.Writer, out io.Reader, end func()) {
	t.Helper()
	typed, in := io.Pipe()
	out, drawn := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		for lines := bufio.NewScanner(typed); lines.Scan(); {
			say(lines.Text(), drawn)
		}
		_ = drawn.Close()
	})
	return in, out, func() { _ = typed.Close(); _ = drawn.Close(); wg.Wait() }
}

func TestTheOperatorConfirmsOnceAndScoresOnlyWhatIsReallyBack(t *testing.T) {
	t.Parallel()
	var transcript bytes.Buffer
	l := start(t, "io-stall")
	l.opts.Transcript = &transcript
	var typed []string
	in, out, end := console(t, func(line string, out io.Writer) {
		typed = append(typed, line)
		switch line {
		case l.Scenario().Prompt:
			fmt.Fprint(out, "bgbot  ▸ ⏳ Working 0:00\n")
			fmt.Fprint(out, "bgbot  ▸ 🔴 Cycle devvm? running 9 d\n         [1] Cycle devvm   [2] Cancel\n         Or type: `confirm 4F7Q` · `cancel 4F7Q` · expires in 2:00\n")
			fmt.Fprint(out, "bgbot  ~ 🔴 Cycle devvm?   or type: confirm 4F7Q   expires in 1:58\n")
		case "confirm 4F7Q":
			onHost(t, l, pve.Cycle)
			l.model.closing.Store(true)
			fmt.Fprint(out, "bgbot  ▸ ✅ Done\nbgbot  ▸ **devvm is back.** SSH answers\n")
		}
	})
	defer end()
	score, err := l.Play(t.Context(), in, out, func() int { return 3 })
	if err != nil {
		t.Fatal(err)
	}
	if !score.OK || score.Commands != 1 || score.Pushes != 3 || score.FirstLine == 0 || score.FirstCommand < score.FirstLine || score.Recovered < score.FirstCommand {
		t.Errorf("score:\n%s", score)
	}
	if got := strings.Join(typed, "|"); got != l.Scenario().Prompt+"|confirm 4F7Q" {
		t.Errorf("typed %s", got)
	}
	if !strings.Contains(transcript.String(), "**devvm is back.**") || !strings.Contains(transcript.String(), "confirm 4F7Q\n") {
		t.Errorf("transcript:\n%s", transcript.String())
	}
}

func TestTheOperatorTakesThePowerPathWhenTheModelIsDown(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"io-stall", "disk-full"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := start(t, name)
			l.opts.BreakModel = true
			in, out, end := console(t, func(line string, out io.Writer) {
				switch line {
				case l.Scenario().Prompt:
					fmt.Fprint(out, "bgbot  ▸ ❌ The model cannot be reached. The verbs work: vm status …\n")
				case "vm cycle":
					onHost(t, l, pve.Cycle)
					fmt.Fprint(out, "bgbot  ▸ ✅ devvm is back after 1 s\n")
				}
			})
			defer end()
			score, err := l.Play(t.Context(), in, out, nil)
			if err != nil || !score.OK {
				t.Errorf("%v\n%s", err, score)
			}
		})
	}
}

func TestABotThatOnlySaysSoIsNotBelieved(t *testing.T) {
	t.Parallel()
	l := start(t, "io-stall")
	in, out, end := console(t, func(_ string, out io.Writer) {
		fmt.Fprint(out, "bgbot  ▸ ✅ devvm is back\n")
		_ = out.(io.Closer).Close()
	})
	defer end()
	score, err := l.Play(t.Context(), in, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if score.OK || !strings.HasPrefix(score.Why, "the console ended before the VM was back; the last check said: devvm:") {
		t.Errorf("score:\n%s", score)
	}
}

func TestABrokenModelRefusesConnections(t *testing.T) {
	t.Parallel()
	began := time.Now()
	l, err := Start(t.Context(), Options{Scenario: "io-stall", Fast: true, BreakModel: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up after %s", time.Since(began))
	if !strings.HasPrefix(l.ModelURL(), "http://127.0.0.1:") {
		t.Errorf("model at %s", l.ModelURL())
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}
