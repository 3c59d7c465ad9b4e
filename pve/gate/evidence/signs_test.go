package evidence_test

import (
	"testing"

	"bgbot/pve/gate/evidence"
)

// A guest is asked for its host keys if its agent can tell them, however busy its host may be.
func TestWhoIsAttentive(t *testing.T) {
	t.Parallel()
	busy := func(c *evidence.Capture) { c.Host.MemoryFull = 41 }
	for _, s := range []struct {
		base   string
		change func(*evidence.Capture)
		want   bool
	}{
		{"healthy", nil, true},
		{"idle", nil, true},
		{"healthy", busy, true},
		{"stall", nil, false},
		{"frozen", nil, false},
		{"idle-deaf", nil, false},
		{"noagent", nil, false},
		{"stopped", nil, false},
	} {
		c := recorded(t, s.base)
		if s.change != nil {
			s.change(c)
		}
		if got := c.Attentive(); got != s.want {
			t.Errorf("%s: %t", s.base, got)
		}
	}
}
