package bot

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"bgbot/pve"
)

// facts are what the host says of the VM: its state, and what its evidence says of it. A gate of an older version leaves
// the fields of the evidence empty; then its own words are all there is.
type facts struct {
	pve.Result
	err  error     // why the host says nothing
	late bool      // it has not answered yet
	seen time.Time // when the result was seen, if it is one from before
}

// factsOf takes what the gate said; advice that is no verb is none.
func factsOf(r pve.Result) facts {
	if _, err := pve.ParseVerb(string(r.Advice)); err != nil {
		r.Advice = ""
	}
	return facts{Result: r}
}

// onCard is the state in at most room runes, as somebody needs it who decides on a change: with its age if it is not of now,
// and with the lock first that speaks against any change. For whole see line.
func (f facts) onCard(room int) (text string, whole bool) {
	before, after := "", ""
	switch {
	case f.seen.IsZero() && f.late:
		return "state not known yet; this card completes itself", false
	case f.seen.IsZero() && f.err != nil:
		return cut("its state is unknown: "+oneLine(message(f.err)), room), false
	case f.late:
		before, after = age(time.Since(f.seen))+" ago: ", " · asking again"
	case f.err != nil:
		before, after = "at "+f.seen.Local().Format("15:04:05")+": ", " · no answer now"
	}
	room -= runes(before + after)
	if f.Lock != "" {
		text, whole = cut(f.locked(), room), true
	} else {
		text, whole = f.line(room)
	}
	return before + text + after, whole
}

// locked is the state of a VM that the host will not change; of the verdict it has the beginning.
func (f facts) locked() string {
	text := "locked (" + cut(oneLine(f.Lock), 20) + "): the host will refuse · " + f.state()
	found := unticked(f.Verdict)
	if strings.HasPrefix(found, "Locked (") {
		_, found, _ = strings.Cut(found, ". ")
	}
	found, _, _ = strings.Cut(found, ": ")
	found, _, _ = strings.Cut(found, "; ")
	if found != "" && f.Status != "stopped" {
		text += ", " + small(found)
	}
	return text
}

// line says how the VM is in at most room runes, and whether the verdict's finding is in it whole. The lock is always in
// it; the finding is cut when it must be, and the age of the forensics is the first to go. It is foreign text.
func (f facts) line(room int) (text string, whole bool) {
	found, _ := f.read()
	lock := ""
	if f.Lock != "" && !strings.HasPrefix(found, "Locked ("+f.Lock) {
		lock = " · locked (" + cut(oneLine(f.Lock), 20) + ")"
	}
	parts := []string{f.state()}
	if parts[0] == "" {
		parts = nil
	}
	left := room - runes(strings.Join(append(parts, lock), " · "))
	switch whole = runes(found) <= left; {
	case found == "":
	case whole:
		parts = append(parts, found)
	case left >= 30:
		parts = append(parts, cut(found, left))
	}
	text = strings.Join(parts, " · ") + lock
	if age := f.evidenceAge(); age != "" && runes(text+" · "+age) <= room {
		text += " · " + age
	}
	return text, whole
}

// state is "running 9 d 4 h". For what one word cannot say it is the gate's own sentence.
func (f facts) state() string {
	up := time.Duration(f.Uptime) * time.Second
	switch {
	case f.Status == "stopped" && strings.HasPrefix(f.Verdict, "Stopped"):
		return small(cut(strings.TrimSuffix(unticked(f.Verdict), "; start"), 100))
	case f.Status == "stopped":
		return f.Status
	case f.Status == "" || f.Status == "unknown" || f.Status == "stuck" || up == 0:
		if f.Verdict != "" && strings.Contains(firstLine(f.Text), f.Verdict) { // which follows
			return cut(oneLine(f.Status), 30)
		}
		return cut(oneLine(firstLine(f.Text)), 90)
	case f.Status == "running":
		return f.Status + " " + age(up)
	default: // paused, io-error, …
		return cut(oneLine(f.Status), 30) + ", up " + age(up)
	}
}

// evidenceAge tells how old the newest forensics are, by the host's own clock.
func (f facts) evidenceAge() string {
	if f.Forensics.IsZero() || f.At.IsZero() || f.Verb == pve.Forensics {
		return ""
	}
	return "forensics " + age(max(0, f.At.Sub(f.Forensics))) + " old"
}

var reason = regexp.MustCompile(`^\w+ \((.+)\)$`)

// read takes a verdict apart: "FINDING; `VERB` (WHY)", "FINDING; WHY; `VERB`", "FINDING; WHY" or a finding alone. Of a
// stopped VM the state has said it all.
func (f facts) read() (found, why string) {
	if f.Status == "stopped" {
		return "", ""
	}
	found, why, _ = strings.Cut(unticked(f.Verdict), "; ")
	if m := reason.FindStringSubmatch(why); m != nil {
		return found, m[1]
	}
	if why == string(f.Advice) {
		return found, ""
	}
	return found, strings.TrimSuffix(why, "; "+string(f.Advice))
}

// unticked drops the marks around verbs: shown as foreign text they would only be noise.
func unticked(s string) string { return strings.ReplaceAll(oneLine(s), "`", "") }

// calm says that the evidence shows no trouble, or none at all. Only a colour and a hint depend on it.
func (f facts) calm() bool {
	for _, word := range []string{"healthy", "idle", "started", "reset ", "too little", "qemu is well"} {
		if strings.HasPrefix(strings.ToLower(f.Verdict), word) {
			return true
		}
	}
	return f.Verdict == ""
}

// advice says below the state what the host would do; whole means that the state has the finding.
func (f facts) advice(whole bool) []string {
	_, why := f.read()
	lines := f.verdict(whole)
	switch {
	case f.Verdict == "" || f.Status == "stopped" && f.Advice == pve.Start: // what else
	case f.Advice != "":
		lines = append(lines, fmt.Sprintf("The host advises `%s`%s%s", f.Advice, f.because(": ", whole), f.gentler()))
	case whole && why != "":
		lines = append(lines, "The host advises no verb"+f.because("; ", whole))
	}
	return lines
}

// after says that the evidence is from after the change: the host looks again at a VM that it did not see come up.
func (f facts) after() bool {
	return f.Verb.Changes() && f.Exit == pve.Unverified && f.Status == "running"
}

// warning is what the host has against a change, or for it. A lock says it all, and stands in the first line.
func (f facts) warning(v pve.Verb, whole bool) []string {
	var lines []string
	if f.Lock == "" {
		lines = f.verdict(whole)
	}
	switch {
	case f.Lock != "" || f.Verdict == "" || f.Advice == v && f.Status == "stopped":
	case f.Advice == v:
		lines = append(lines, "The host advises it"+f.because(": ", whole)+f.gentler())
	case f.Advice != "":
		lines = append(lines, fmt.Sprintf("⚠️ The host advises `%s`, not %s%s", f.Advice, v, f.because(": ", whole)))
	default:
		lines = append(lines, "⚠️ The host advises no verb"+f.because("; ", whole))
	}
	if f.err != nil && !f.seen.IsZero() {
		lines = append(lines, "⚠️ "+inChat(capital(plain(message(f.err), 400))))
	}
	return lines
}

// verdict is all of it, when the state had no room for the finding.
func (f facts) verdict(whole bool) []string {
	if whole || f.Verdict == "" {
		return nil
	}
	return []string{"Verdict: " + plain(unticked(f.Verdict), 300)}
}

// because ends a sentence with the verdict's reason, unless the whole verdict stands above.
func (f facts) because(sign string, whole bool) string {
	_, why := f.read()
	if why == "" || !whole {
		return "."
	}
	return sign + plain(strings.TrimRight(why, "."), 200) + "."
}

// gentler says why a reset is not enough where a cycle is advised and the verdict does not say it.
func (f facts) gentler() string {
	if f.Advice != pve.Cycle || strings.Contains(f.Verdict, "reset") {
		return ""
	}
	return " A reset keeps this QEMU."
}

// evidence is the verdict without its advice, for when that is done.
func (f facts) evidence() string {
	var all []string
	for part := range strings.SplitSeq(unticked(f.Verdict), "; ") {
		if f.Advice == "" || part != string(f.Advice) && !strings.HasPrefix(part, string(f.Advice)+" ") {
			all = append(all, part)
		}
	}
	return strings.Join(all, "; ")
}

// age shows how long something has been so, in the two units that matter: 20 s, 12 min, 3 h 5 min, 9 d 4 h.
func age(d time.Duration) string {
	s := int(d.Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
}
