package bot

import (
	"fmt"
	"maps"

	"bgbot/pve"
)

// denial is what the agent was told of a verb that it may not give to the host.
type denial struct {
	verb pve.Verb
	text string
}

// denialsRecorded is how often the same denial is recorded in one turn: a loop in a shell asks some twenty times a second.
const denialsRecorded = 3

// denied records a denial, the first times.
func (b *Bot) denied(t *turn, d denial) {
	t.mu.Lock()
	t.denials[d]++
	n := t.denials[d]
	t.mu.Unlock()
	if n <= denialsRecorded {
		b.recordDenial(t, d, d.text)
	}
}

// recordDenials records at the end of a turn how often it was in all.
func (b *Bot) recordDenials(t *turn) {
	t.mu.Lock()
	denials := maps.Clone(t.denials)
	t.mu.Unlock()
	for d, n := range denials {
		if n > denialsRecorded {
			b.recordDenial(t, d, fmt.Sprintf("%d times in this turn: %s", n, d.text))
		}
	}
}

func (b *Bot) recordDenial(t *turn, d denial, text string) {
	b.record(b.work, t.place, t.who, "relay", string(d.verb), "denied", text)
}
