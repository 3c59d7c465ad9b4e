package bot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bgbot/pve"
)

// resultText is the message a verb ends with. Its first line is the state and claims only what was looked at.
func (b *Bot) resultText(o operation, r pve.Report, err error, up reach, took time.Duration) Text {
	f := factsOf(r.Result)
	t := Text{Files: files(r)}
	switch {
	case err != nil: // it has said all, the host's words included
		first, rest, _ := strings.Cut(message(err), "\n")
		t.Body = fmt.Sprintf("❌ %s: %s", o.verb, plain(first, 600)) + lines(rest)
	case o.verb.Changes():
		t.Body = b.changeText(o, r, up, took)
	default:
		t.Body = b.lookText(f)
	}
	switch {
	case !o.verb.Changes() && (err != nil || f.Exit == pve.Rejected): // asking again is all that is left
	case !o.verb.Changes():
		t.Choices = b.nextChoices(f, o.verb)
	case err == nil && up.since(f): // nothing is left to do
	case err != nil || f.Exit != pve.Done || up.err != nil || f.Status == "stopped":
		f.err = err
		t.Choices = b.nextChoices(f, o.verb)
		reset := o.verb == pve.Reset && err == nil && (f.Exit == pve.Done || f.Exit == pve.Unverified) // and not refused
		switch {
		case !reset || errors.Is(up.err, errLeaving) || up.asked && up.err == nil: // SSH answered after all
		case f.after() && f.Advice == pve.Cycle:
			t.Body += "\nThe host advises `cycle`: a reset keeps the old QEMU process, a cycle starts a fresh one."
		case f.Lock != "" || f.Status == "stopped" || f.after() && !f.calm(): // what the host says leads elsewhere, or nowhere
		default:
			t.Body += "\nIf it stays so for a minute: `vm cycle`. A reset keeps the old QEMU process, a cycle starts a fresh one."
		}
	}
	t.Body = inChat(t.Body)
	return t
}

// inChat puts the word of the chat where the host's is, who speaks to people at a shell as well: "status" alone does nothing
// here.
func inChat(body string) string { return strings.ReplaceAll(body, "Ask status", "Type `vm status`") }

// lookText is what a verb says that changes nothing: how the VM is, what the host advises, and the gate's own words.
func (b *Bot) lookText(f facts) string {
	body := lookMark(f) + " " + b.VM.Name + ": "
	line, whole := f.line(lockScreen - runes(body))
	body += plain(line, lockScreen)
	for _, advice := range f.advice(whole) {
		body += "\n" + advice
	}
	var rest []string
	for i, said := range strings.Split(strings.TrimSpace(printable(f.Text)), "\n") {
		first := i == 0 && (f.Status == "stopped" || cut(oneLine(said), 90) == f.state())
		if first || f.Verdict != "" && strings.Contains(said, f.Verdict) { // it stands above
			continue
		}
		rest = append(rest, said)
	}
	if f.LastOp != "" && !strings.Contains(f.Text, f.LastOp) {
		rest = append(rest, "Last: "+unticked(f.LastOp))
	}
	return body + lines(strings.Join(rest, "\n"))
}

// changeText is what came of a change, all of which took so long.
func (b *Bot) changeText(o operation, r pve.Report, up reach, took time.Duration) string {
	f := factsOf(r.Result)
	who, op := fmt.Sprintf("%s by %s", o.verb, plain(o.name, 40)), ""
	if f.Op != "" {
		op = " (op " + plain(f.Op, 20) + ")"
		who += ", op " + plain(f.Op, 20)
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(printable(f.Text)), "\n")
	first = plain(first, 200)
	already := o.verb == pve.Start && strings.Contains(first, "already")
	var body string
	switch {
	case errors.Is(up.err, errLeaving):
		body = fmt.Sprintf("🟠 %s %s%s; I am shutting down and did not look whether SSH answers.\n%s", b.VM.Name, did(o.verb, already, r.Took), op, first)
	case up.asked && up.err != nil:
		body = fmt.Sprintf("🟠 %s is not back after %s (%s): no SSH login.\n%s\n%s", b.VM.Name, span(took), who, plain(message(up.err), 400), first)
	case up.asked && already:
		body = up.inside.behind(fmt.Sprintf("✅ %s runs already; nothing was changed (%s). SSH answered.", b.VM.Name, who)) + "\n" + first
	case up.asked:
		body = up.inside.behind(fmt.Sprintf("✅ %s is back after %s (%s). SSH answered.", b.VM.Name, span(took), who)) + "\n" + first
	case f.Exit == pve.Done && o.verb == pve.Stop:
		body = fmt.Sprintf("⏹ %s is stopped after %s (%s).\n%s", b.VM.Name, span(took), who, first)
	default:
		body = fmt.Sprintf("%s %s: %s (%s)", exitMark(f.Exit), o.verb, first, who)
	}
	body += lines(rest)
	if f.Verdict != "" && !strings.Contains(f.Text, f.Verdict) && !up.since(f) {
		when := "Before"
		if f.after() {
			when = "After"
		}
		body += fmt.Sprintf("\n%s the %s: %s", when, o.verb, plain(f.evidence(), 300))
	}
	return body
}

// since says that the VM has let us in since the host's second look, which saw it not up yet: its evidence is no more, and
// neither is its advice. A VM in which commands do not come back may be what the host saw.
func (u reach) since(f facts) bool {
	return f.after() && u.asked && u.err == nil && u.inside.err == nil
}

// did is what the host has done to a VM that is up now.
func did(v pve.Verb, already bool, took time.Duration) string {
	if already {
		return "runs already"
	}
	return "was " + map[pve.Verb]string{pve.Cycle: "cycled", pve.Start: "started", pve.Reset: "reset"}[v] + " in " + span(took)
}

// behind puts what was seen inside behind the state, on the same line while a lock screen has room for it.
func (in inside) behind(state string) string {
	said := capital(in.said())
	switch {
	case in.err != nil:
		return state + "\n⚠️ I could not look inside: " + plain(message(in.err), 300)
	case said == "":
		return state
	case runes(state+" "+said) <= lockScreen:
		return state + " " + said
	default:
		return state + "\n" + said
	}
}

// lines shows the further words of a gate, each on a line; many of them as a block.
func lines(text string) string {
	text = strings.TrimSpace(printable(text))
	if strings.Count(text, "\n") > 5 {
		return "\n" + block(cut(text, 1500))
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("\n" + plain(line, 300))
	}
	return b.String()
}

// nextChoices offers what fits the state after a verb, the advised verb first: a stopped VM can be started, a running one
// looked into or cycled, and what the host would refuse is not offered.
func (b *Bot) nextChoices(f facts, done pve.Verb) []Choice {
	var verbs []pve.Verb
	if f.Advice != "" && f.Lock == "" {
		verbs = append(verbs, f.Advice)
	}
	switch {
	case f.err != nil:
		verbs = append(verbs, pve.Status, pve.Forensics, pve.Cycle)
	case f.Status == "stopped":
		verbs = append(verbs, pve.Status, pve.Start)
	case f.Lock != "" || f.Status == "stuck":
		verbs = append(verbs, pve.Status, pve.Forensics)
	case done.Changes():
		verbs = append(verbs, pve.Status, pve.Forensics, pve.Cycle)
	default:
		verbs = append(verbs, pve.Forensics, pve.Reset, pve.Cycle)
	}
	var choices []Choice
	for i, v := range verbs {
		if (v != done || v.Changes()) && slices.Index(verbs, v) == i {
			choices = append(choices, verbChoice(v))
		}
	}
	return choices
}

func verbChoices() []Choice {
	return []Choice{verbChoice(pve.Status), verbChoice(pve.Forensics), verbChoice(pve.Cycle)}
}

// verbChoice is a button for a verb. A change is coloured as one, though all that the button does is ask.
func verbChoice(v pve.Verb) Choice {
	label := capital(string(v))
	if v.Changes() {
		label += " …"
	}
	return Choice{ID: clickVerb + string(v), Label: label, Danger: v.Changes()}
}

func files(r pve.Report) []File {
	out := make([]File, 0, len(r.Files))
	for _, f := range r.Files {
		out = append(out, File(f))
	}
	return out
}

func lookMark(f facts) string {
	switch {
	case f.Exit != pve.Done:
		return exitMark(f.Exit)
	case f.Verb == pve.Forensics:
		return "🔎"
	case f.Status == "stopped":
		return "⏹"
	case f.Status == "running" && f.calm():
		return "🔵" // QEMU runs; that says nothing about the guest
	default:
		return "🟠"
	}
}

func exitMark(e pve.Exit) string {
	switch e {
	case pve.Done:
		return "✅"
	case pve.Busy, pve.Rejected, pve.Refused: // busy is no queue: nothing waits to be run
		return "⛔"
	case pve.Unverified:
		return "🟠"
	case pve.Failed, pve.Broken:
		return "❌"
	default:
		return "❌"
	}
}
