package evidence

import (
	"fmt"

	"bgbot/pve"
)

// Verdict is what the evidence says.
type Verdict struct {
	Rule   string   // a stable name, such as io-stall
	Text   string   // one line of at most 110 characters, for a lock screen
	Advice pve.Verb // empty when no verb helps
}

// rule is one thing that the evidence can say.
type rule struct {
	name  string
	holds func(*Capture) (Verdict, bool)
}

// Verdict is the first rule that holds. It looks at nothing but the capture.
func (c *Capture) Verdict() Verdict {
	for _, r := range rules() {
		if v, ok := r.holds(c); ok {
			v.Rule = r.name
			return v
		}
	}
	return Verdict{Rule: "unknown", Text: "Too little answered to judge"}
}

// rules are all rules: the most dangerous first, and the more certain before the less.
func rules() []rule {
	return []rule{
		{"stopped", func(c *Capture) (Verdict, bool) {
			return Verdict{Text: fmt.Sprintf("VM %d is stopped: there is no QEMU of it", c.VMID), Advice: pve.Start}, c.Process == nil && c.Machine == nil
		}},
	}
}
