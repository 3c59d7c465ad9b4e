package evidence

import (
	"fmt"
	"slices"
	"strings"

	"bgbot/pve"
)

// Verdict is what the evidence says.
type Verdict struct {
	Rule   string   // a stable name, such as io-stall; all are in this package's rules
	Text   string   // one line of at most 110 characters, for a lock screen
	Advice pve.Verb // the verb that helps; forensics where a closer look is needed first; empty if none does
}

const maxText = 110

// rule is one thing that the evidence can say.
type rule struct {
	name  string
	holds func(*Capture) (Verdict, bool)
}

// Verdict is the first rule that holds. It looks at nothing but the capture. A lock of Proxmox goes before all but the
// gravest: whatever else is wrong, no change gets past it.
func (c *Capture) Verdict() Verdict {
	v := c.found()[0]
	if by := c.Lock(); by != "" && v.Rule != stuckProcess {
		beneath, _, _ := strings.Cut(v.Text, ";") // without the advice, which would be refused
		text := fmt.Sprintf("Locked (%s), changes refused. %s", by, beneath)
		v = Verdict{Rule: "locked", Text: text}
	}
	return v.short()
}

// found are the verdicts of all rules that hold, the first of them being the one that counts. There is always one.
func (c *Capture) found() (all []Verdict) {
	for _, r := range rules() {
		if v, ok := r.holds(c); ok {
			v.Rule = r.name
			all = append(all, v)
		}
	}
	return append(all, c.unknown())
}

func (v Verdict) short() Verdict {
	v.Text = firstLine(v.Text)
	if runes := []rune(v.Text); len(runes) > maxText {
		v.Text = string(runes[:maxText-1]) + "…"
	}
	return v
}

// The names that the code itself needs.
const (
	stuckProcess = "stuck-process"
	unknownRule  = "unknown"
)

// rules are all rules: the most dangerous first, and the certain before the likely. Those that say that all is well are
// last. A rule may lean on those above it not to hold.
func rules() []rule {
	return []rule{
		{stuckProcess, (*Capture).stuckProcess},

		{"lost", (*Capture).lost},
		{"host-oom", (*Capture).hostOOM},
		{"start-failed", (*Capture).startFailed},
		{"stopped", (*Capture).stopped},

		{"main-loop", (*Capture).mainLoop},
		{"main-loop-suspected", (*Capture).mainLoopSuspected},
		{"fell-silent", (*Capture).fellSilent},
		{"socket-taken", (*Capture).socketTaken},
		{"socket-gone", (*Capture).socketGone},

		{"nospace", (*Capture).noSpace},
		{"io-error", (*Capture).ioError},
		{"not-running", (*Capture).notRunning},

		{"panic", (*Capture).panicked},
		{"fs-frozen", (*Capture).fsFrozen},
		{"host-storage", (*Capture).hostStorage},
		{"io-stall", (*Capture).ioStall},
		{"io-slow", (*Capture).ioSlow},
		{"disk-stall", (*Capture).diskStall},
		{"reset-in-vain", (*Capture).resetInVain},
		{"no-boot", (*Capture).noBoot},
		{"guest-oom", (*Capture).guestOOM},
		{"guest-hung", (*Capture).guestHung},
		{"io-stall-suspected", (*Capture).ioStallSuspected},
		{"host-pressure", (*Capture).hostPressure},
		{"guest-quiet", (*Capture).guestQuiet},

		{"booting", (*Capture).booting},
		{"no-io", (*Capture).noIO},
		{"idle", (*Capture).idle},
		{"healthy", (*Capture).healthy},
	}
}

// well lists the rules that are no trouble.
func well(rule string) bool {
	return slices.Contains([]string{"booting", "no-io", "idle", "healthy", unknownRule}, rule)
}

// unknown is what is left: it says what is missing.
func (c *Capture) unknown() Verdict {
	text := "Nothing of what answered tells what is wrong"
	if missing, _ := c.Missing(); len(missing) > 0 {
		text = "Too little answered to judge; missing: " + strings.Join(missing, ", ")
	} else if c.running() {
		text = fmt.Sprintf("QEMU runs the guest (%s), but it has no disk counters to judge by", c.cpu())
	}
	return Verdict{Rule: unknownRule, Text: text}
}
