package bot

import (
	"fmt"
	"strings"
	"time"

	"bgbot/pve"
)

// opView is what a running verb looks like: steps in, CommonMark out. It is not safe for concurrent use.
type opView struct {
	verb  pve.Verb
	vm    string
	by    string
	began time.Time
	steps []opStep
	over  string
}

type opStep struct {
	name  string
	text  string
	state pve.State
	at    time.Time
	took  time.Duration
}

func (v *opView) add(s pve.Step, now time.Time) {
	if s.Name != "" || s.Step == "" || s.Step == "op" { // files and the op's id are shown with the result
		return
	}
	for i := len(v.steps) - 1; i >= 0; i-- {
		if old := &v.steps[i]; old.name == s.Step && old.state == pve.StepStart {
			old.state, old.text, old.took = s.State, s.Text, now.Sub(old.at)
			return
		}
	}
	v.steps = append(v.steps, opStep{name: s.Step, text: s.Text, state: s.State, at: now})
}

func (v *opView) page(now time.Time) []Text {
	var b strings.Builder
	switch {
	case v.over != "":
		b.WriteString(v.over)
	case len(v.steps) > 0:
		fmt.Fprintf(&b, "⏳ %s %s %s · %s", v.verb, v.vm, clock(now.Sub(v.began)), v.steps[len(v.steps)-1].name)
	case v.verb.Changes():
		fmt.Fprintf(&b, "⏳ %s %s %s · asking the Proxmox host", v.verb, v.vm, clock(now.Sub(v.began)))
	default:
		fmt.Fprintf(&b, "⏳ %s %s · waiting for the Proxmox host", v.verb, clock(now.Sub(v.began)))
	}
	for i, s := range v.steps {
		if i == 0 {
			b.WriteString("\n\n")
		} else {
			b.WriteString("  \n")
		}
		b.WriteString(s.draw())
	}
	return []Text{{Body: b.String()}}
}

func (s opStep) draw() string {
	text := ""
	if s.text != "" {
		text = " · " + plain(s.text, 160)
	}
	switch s.state {
	case pve.StepStart:
		return fmt.Sprintf("▸ %s%s", s.name, text)
	case pve.StepFail:
		return fmt.Sprintf("✗ %s%s", s.name, text)
	case pve.StepSkip:
		return fmt.Sprintf("– %s%s", s.name, text)
	case pve.StepOK:
		if s.took > 0 {
			return fmt.Sprintf("✓ %s  %s%s", s.name, span(s.took), text)
		}
	}
	return fmt.Sprintf("✓ %s%s", s.name, text)
}
