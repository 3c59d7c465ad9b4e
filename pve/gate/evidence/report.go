package evidence

import (
	"fmt"
	"strings"
	"time"
)

// Report is the file for people: the verdict first, then everything that was found.
func (c *Capture) Report() []byte {
	b := &strings.Builder{}
	v := c.Verdict()
	_, _ = fmt.Fprintf(b, "VM %d, op %s, %s, for %s\n%s (%s)\n", c.VMID, c.Op, c.At.Format(time.RFC3339), c.Verb, v.Text, v.Rule)
	for _, p := range c.Probes {
		_, _ = fmt.Fprintf(b, "\n== %s (%.1f s)\n%s\n", p.Name, p.Took.Seconds(), strings.TrimSpace(p.Text))
		if p.Missing != "" {
			_, _ = fmt.Fprintf(b, "[missing: %s]\n", p.Missing)
		}
	}
	text := b.String()
	return []byte(text[:min(len(text), maxReport)])
}
