package bot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bgbot/pve"
)

// opView is what a running verb looks like: steps in, CommonMark out. It is not safe for concurrent use.
type opView struct {
	verb  pve.Verb
	vm    string
	began time.Time
	steps []opStep
	heard time.Time // when the newest step came in
	over  string
}

type opStep struct {
	name  string
	text  string
	state pve.State
	at    time.Time
	took  time.Duration
}

// A cycle has some fifteen steps, and a phone shows about as many lines. While it runs the newest are shown; when it is
// over, all of them, unless a gate has gone mad.
const (
	opRunning = 9
	opMost    = 40
)

// add takes one step. A step that was not announced has begun when the one before it ended.
func (v *opView) add(s pve.Step, now time.Time) {
	if s.Name != "" || s.Step == "" || s.Step == "op" { // files and the op's id are shown with the result
		return
	}
	began := v.began
	if !v.heard.IsZero() {
		began = v.heard
	}
	v.heard = now
	for i := len(v.steps) - 1; i >= 0; i-- {
		if old := &v.steps[i]; old.name == s.Step && old.state == pve.StepStart {
			old.state, old.text, old.took = s.State, s.Text, now.Sub(old.at)
			return
		}
	}
	step := opStep{name: s.Step, text: s.Text, state: s.State, at: began, took: now.Sub(began)}
	if s.State == pve.StepStart {
		step.at, step.took = now, 0
	}
	v.steps = append(v.steps, step)
}

// page is the state with the total clock, then a line for each step, the newest last.
func (v *opView) page(now time.Time) []Text {
	var b strings.Builder
	switch {
	case v.over != "":
		b.WriteString(v.over)
	case len(v.steps) > 0:
		fmt.Fprintf(&b, "⏳ %s %s %s · %s", v.verb, v.vm, clock(now.Sub(v.began)), plain(v.doing(), 40))
	case v.verb.Changes():
		fmt.Fprintf(&b, "⏳ %s %s %s · asking the Proxmox host", v.verb, v.vm, clock(now.Sub(v.began)))
	default:
		fmt.Fprintf(&b, "⏳ %s %s · waiting for the Proxmox host", v.verb, clock(now.Sub(v.began)))
	}
	most := opRunning
	if v.over != "" {
		most = opMost
	}
	steps := strings.Join(v.lines(now, most), "  \n")
	for runes(steps) > pageSize && most > 1 {
		most--
		steps = strings.Join(v.lines(now, most), "  \n")
	}
	if steps != "" {
		b.WriteString("\n\n" + steps)
	}
	return []Text{{Body: b.String()}}
}

// doing is the step that runs, or else the newest.
func (v *opView) doing() string {
	for _, s := range slices.Backward(v.steps) {
		if s.state == pve.StepStart {
			return s.name
		}
	}
	return v.steps[len(v.steps)-1].name
}

// lines are the steps, at most so many; the first of too many are put together on one line.
func (v *opView) lines(now time.Time, most int) []string {
	var lines []string
	rest := v.steps
	if n := len(v.steps) - most + 1; n > 1 {
		lines, rest = append(lines, folded(v.steps[:n])), v.steps[n:]
	}
	for _, s := range rest {
		lines = append(lines, s.draw(now, v.over != ""))
	}
	return lines
}

// folded is "✓ 6 steps  7.2 s", and what went wrong in them by name.
func folded(steps []opStep) string {
	mark, wrong := "✓", ""
	var took time.Duration
	for _, s := range steps {
		took += s.took
		if s.state == pve.StepFail && len(wrong) < 200 {
			mark, wrong = "✗", wrong+" · "+plain(s.name, 30)
		}
	}
	return fmt.Sprintf("%s %d steps  %s%s", mark, len(steps), lasted(took), wrong)
}

// draw is one line: mark, name, how long it took, what came of it. What went well is said briefly.
func (s opStep) draw(now time.Time, over bool) string {
	name, text, room := plain(s.name, 30), "", 70
	if s.state == pve.StepFail || s.name == "verdict" {
		room = 160
	}
	if s.text != "" {
		text = " · " + plain(unticked(s.text), room)
	}
	switch s.state {
	case pve.StepStart:
		if went := now.Sub(s.at); !over && went >= 2*time.Second { // shorter is over before it is read
			return fmt.Sprintf("▸ %s  %s%s", name, clock(went), text)
		}
		return fmt.Sprintf("▸ %s%s", name, text)
	case pve.StepFail:
		return fmt.Sprintf("✗ %s  %s%s", name, lasted(s.took), text)
	case pve.StepSkip:
		return fmt.Sprintf("– %s%s", name, text)
	case pve.StepOK:
	}
	return fmt.Sprintf("✓ %s  %s%s", name, lasted(s.took), text)
}

// lasted is the span of a step, which takes no time only by the clock.
func lasted(d time.Duration) string { return span(max(d, 100*time.Millisecond)) }
