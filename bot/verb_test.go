package bot

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bgbot/pve"
)

func TestACycleFromTheCardToTheUnits(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(stalled, pve.Cycle))
	i.answers(pve.Result{Verb: pve.Cycle, Op: "c81f", Status: "running", Text: "VM 102 was cycled in 5.2 s."},
		pve.Step{Op: "c81f", Step: "op", State: pve.StepStart, Text: "c81f"},
		pve.Step{Op: "c81f", Step: "forensics", State: pve.StepOK, Name: "forensics-c81f.txt", Type: "text/plain", Data: []byte("qmp: running\n")},
		pve.Step{Op: "c81f", Step: "forensics", State: pve.StepOK, Name: "screen-c81f.png", Type: "image/png", Data: []byte("\x89PNG")},
		pve.Step{Op: "c81f", Step: "block writes", State: pve.StepOK, Text: "16384 bytes"})
	i.write("systemctl", "starting\nnginx.service loaded failed failed nginx\n")
	i.write("next", "degraded\nnginx.service loaded failed failed nginx\nt3-serve.service loaded failed failed T3\n")

	i.types("vm reset")
	i.shows(`🔴 Reset devvm\? running 9 d 4 h · No block I/O for 12 s, 3 requests waiting: I/O stall · forensics 20 s old

⚠️ The host advises .cycle., not reset: a reset keeps the wedged QEMU\.`)
	i.presses("vm:cycle") // the button for what is advised
	card := i.shows(`🔴 Cycle devvm\? running 9 d 4 h · .*

The host advises it: a reset keeps the wedged QEMU\.
A cycle stops QEMU [^\n]*
Last: [^\n]*

Asked by operator\. Only operator may confirm\.
Or type: `)
	if len(card.Choices) != 2 {
		t.Errorf("the card of the advised verb has the buttons %v", card.Choices)
	}
	i.presses(card.Choices[0].ID)
	back := i.shows(`✅ devvm is back after [\d.]+ s \(cycle by operator, op c81f\)\. SSH answered\. 2 failed units: nginx, t3-serve
VM 102 was cycled`)
	if len(back.Files) != 2 || back.Files[0].Name != "forensics-c81f.txt" || back.Files[1].Type != "image/png" {
		t.Errorf("the result has the files %v", back.Files)
	}
	steps := i.shows(`✅ cycle devvm · `).Body
	for _, want := range []string{`✓ block writes  [\d.]+ s · 16384 bytes`, `✓ SSH login  [\d.]+ s · devvm answered`, `✗ services  [\d.]+ s · 2 failed units: nginx, t3-serve$`} {
		if !regexp.MustCompile(want).MatchString(steps) {
			t.Errorf("the steps lack %q:\n%s", want, steps)
		}
	}
	if strings.Contains(steps, "forensics-c81f") {
		t.Errorf("a file is shown as a step:\n%s", steps)
	}
}

func TestACardThatCannotWaitForTheHostGetsTheStateLater(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(stalled, pve.Cycle))
	i.write("status.held", "")
	i.types("vm cycle")
	first := i.shows(`🔴 Cycle devvm\? state not known yet; this card completes itself`)
	i.remove("status.held")
	card := i.shows(`🔴 Cycle devvm\? running 9 d 4 h · No block`)
	if code := regexp.MustCompile("confirm [2-9A-Z]{4}"); code.FindString(first.Body) != code.FindString(card.Body) {
		t.Errorf("the code changed from\n%s\nto\n%s", first.Body, card.Body)
	}
	if len(card.Choices) != 2 || card.Choices[0] != first.Choices[0] {
		t.Errorf("the buttons changed from %v to %v", first.Choices, card.Choices)
	}
}

func TestACardThatCannotWaitShowsWhatWasSeenBefore(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(with(host("No block I/O for 23 s; `cycle`", pve.Cycle), func(r *pve.Result) { r.Uptime, r.Forensics = 23, time.Time{} }))
	i.answers(pve.Result{Verb: pve.Stop, Status: "stopped", Text: "VM 102 is stopped."})
	i.types("vm status")
	i.shows(`🟠 devvm: running 23 s · No block I/O for 23 s`)
	i.write("status.held", "")
	i.types("vm cycle")
	i.shows(`🔴 Cycle devvm\? \d s ago: running 23 s · No block I/O for 23 s · asking again

The host advises it\. A reset keeps this QEMU\.`)
	i.answers(host(fine, ""))
	i.remove("status.held")
	i.shows(`🔴 Cycle devvm\? running 9 d 4 h · Healthy`)

	i.types("vm stop") // after it, nothing that was seen is true any more
	i.presses(i.shows(`🔴 Stop devvm`).Choices[0].ID)
	i.shows(`⏹ devvm is stopped`)
	if f := i.orBefore(facts{late: true}); !f.seen.IsZero() {
		t.Errorf("after a change, cards show what was seen before it: %+v", f)
	}
}

func TestWhatWasSeenIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Bot{}
		asked := time.Now()
		passes(time.Second)
		b.saw(host(fine, ""), nil, asked)
		if f := b.orBefore(facts{late: true}); f.Verdict != fine || !f.late {
			t.Errorf("nothing is known: %+v", f)
		}
		if f := b.orBefore(factsOf(pve.Result{Status: "stopped"})); f.Status != "stopped" {
			t.Errorf("an answer is passed over: %+v", f)
		}
		passes(sightLife + time.Second)
		if f := b.orBefore(facts{late: true}); f.Verdict != "" {
			t.Errorf("it is known for too long: %+v", f)
		}
		asked = time.Now()
		passes(time.Second)
		b.unsee()
		b.saw(host(fine, ""), nil, asked) // before a change that is over
		b.saw(with(host(fine, ""), func(r *pve.Result) { r.Exit = pve.Failed }), nil, time.Now().Add(time.Second))
		b.saw(host(fine, ""), errors.New("lost"), time.Now().Add(time.Second))
		if f := b.orBefore(facts{late: true}); f.Verdict != "" {
			t.Errorf("what is not true is shown: %+v", f)
		}
	})
}

func TestAnAnsweredCardStaysAnsweredWhenTheStateComesLate(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.write("status.held", "")
	i.types("vm stop")
	card := i.shows(`🔴 Stop devvm\? state not known yet`)
	i.presses(card.Choices[1].ID)
	i.shows(`✖ Stop devvm: cancelled by operator`)
	i.remove("status.held")
	i.types("vm status")
	i.shows(`🔵 devvm: running 9 d 4 h · Healthy`)
	if closed := i.shows(`(✖|☑) Stop devvm: cancelled`); closed.Choices != nil {
		t.Errorf("a card that was answered has the buttons %v", closed.Choices)
	}
}

// The result of a verb may wait for the chat. Whoever gives the code again meanwhile is not told that the verb runs.
func TestAVerbIsOverBeforeTheChatHasItsResult(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.answers(pve.Result{Verb: pve.Stop, Status: "stopped", Text: "VM 102 is stopped."})
	i.types("vm stop")
	code := i.code(i.shows(`🔴 Stop devvm\? running`))
	held := make(chan struct{}, 1)
	i.phone.refuse(func(_ Place, t Text) error {
		if !strings.HasPrefix(t.Body, "⏹ devvm is stopped") {
			return nil
		}
		select {
		case held <- struct{}{}:
		default:
		}
		return &Busy{After: 10 * time.Millisecond}
	})
	i.types("confirm " + code)
	<-held
	i.types("confirm " + code)
	i.shows(`There is no open confirmation like that here; nothing was done now\.`)
	i.types("stop")
	i.shows(`No turn of the agent runs in this thread\.\n`)
	i.phone.refuse(nil)
	i.shows(`⏹ devvm is stopped`)
}
