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
	err  error // why the host said nothing
	late bool  // it has not answered yet
}

// factsOf takes what the gate said; advice that is no verb is none.
func factsOf(r pve.Result) facts {
	if _, err := pve.ParseVerb(string(r.Advice)); err != nil {
		r.Advice = ""
	}
	return facts{Result: r}
}

// line says how the VM is in at most room runes, and whether the verdict's finding is in it whole. The lock is always in
// it; the finding is cut when it must be, and the age of the forensics is the first to go. It is foreign text.
func (f facts) line(room int) (text string, whole bool) {
	switch {
	case f.late:
		return "its state is unknown: the Proxmox host has not answered yet", false
	case f.err != nil:
		return cut("its state is unknown: "+oneLine(message(f.err)), room), false
	}
	lock := ""
	if f.Lock != "" {
		lock = " · locked (" + cut(oneLine(f.Lock), 20) + ")"
	}
	text = f.state()
	found, left := f.finding(), room-runes(text+lock+" · ")
	switch whole = runes(found) <= left; {
	case found == "":
	case whole:
		text += " · " + found
	case left >= 30:
		text += " · " + cut(found, left)
	}
	text += lock
	if age := f.evidenceAge(); age != "" && runes(text+" · "+age) <= room {
		text += " · " + age
	}
	return text, whole
}

// state is "running 9 d 4 h". For what one word cannot say it is the gate's own sentence.
func (f facts) state() string {
	up := time.Duration(f.Uptime) * time.Second
	switch {
	case f.Status == "stopped":
		return f.Status
	case f.Status == "" || f.Status == "unknown" || f.Status == "stuck" || up == 0:
		return cut(oneLine(firstLine(f.Text)), 90)
	case f.Status == "running":
		return f.Status + " " + age(up)
	default: // paused, io-error, …
		return cut(oneLine(f.Status), 30) + ", up " + age(up)
	}
}

// evidenceAge tells how old the newest forensics are, by the host's own clock.
func (f facts) evidenceAge() string {
	if f.Forensics.IsZero() || f.At.IsZero() {
		return ""
	}
	return "forensics " + age(max(0, f.At.Sub(f.Forensics))) + " old"
}

// A verdict is "FINDING; `VERB` (REASON)", or "FINDING; what to do", or a finding alone.

// finding is what the verdict found. Of a stopped VM there is no more to say.
func (f facts) finding() string {
	if f.Status == "stopped" {
		return ""
	}
	found, _, _ := strings.Cut(unticked(f.Verdict), "; ")
	return found
}

var reason = regexp.MustCompile(`^\w+ \((.+)\)$`)

// why is the verdict's reason for its advice; there may be none.
func (f facts) why() string {
	_, rest, _ := strings.Cut(unticked(f.Verdict), "; ")
	if m := reason.FindStringSubmatch(rest); m != nil {
		rest = m[1]
	}
	return rest
}

// unticked drops the marks around verbs: shown as foreign text they would only be noise.
func unticked(s string) string { return strings.ReplaceAll(oneLine(s), "`", "") }

// A verdict without advice found nothing wrong, or could not tell, or knows of no cure. Only its words say which.

func (f facts) healthy() bool { return strings.HasPrefix(f.Verdict, "healthy") }
func (f facts) unsure() bool  { return strings.HasPrefix(f.Verdict, "Too little") }
func (f facts) hopeless() bool {
	return f.Verdict != "" && f.Advice == "" && !f.healthy() && !f.unsure()
}

// advice says below the state what the host would do; whole means that the state has the finding.
func (f facts) advice(whole bool) []string {
	lines := f.verdict(whole)
	switch {
	case f.Status == "stopped" && f.Advice == pve.Start: // what else
	case f.Advice != "":
		lines = append(lines, fmt.Sprintf("The host advises `%s`%s", f.Advice, f.because(whole)))
	case f.hopeless():
		lines = append(lines, "⚠️ The host names no verb that would help"+f.because(whole))
	}
	return lines
}

// warning is what the host has against a change, or for it.
func (f facts) warning(v pve.Verb, whole bool) []string {
	lines := f.verdict(whole)
	if f.Lock != "" {
		lines = append(lines, fmt.Sprintf("⚠️ The VM is locked (%s): the host will refuse a %s until that is over.", plain(f.Lock, 20), v))
	}
	switch {
	case f.Advice == v && f.Status == "stopped":
	case f.Advice == v:
		lines = append(lines, "The host advises it"+f.because(whole))
	case f.Advice != "":
		lines = append(lines, fmt.Sprintf("⚠️ The host advises `%s`, not %s%s", f.Advice, v, f.because(whole)))
	case f.hopeless():
		lines = append(lines, fmt.Sprintf("⚠️ The host does not expect that a %s helps%s", v, f.because(whole)))
	case f.healthy() && (v == pve.Reset || v == pve.Cycle):
		lines = append(lines, "⚠️ Seen from the host, nothing is wrong with it.")
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
func (f facts) because(whole bool) string {
	why := strings.TrimRight(f.why(), ".")
	if why == "" || !whole {
		return "."
	}
	return ": " + plain(why, 200) + "."
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
