package bot

import (
	"testing"
	"time"

	"bgbot/pve"
)

func TestCardsThatARestartShowsAgainGetTheStateLater(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(stalled, pve.Cycle))
	i.types("vm cycle")
	i.types("vm stop")
	i.shows(`🔴 Cycle devvm\? running 9 d 4 h`)
	stop := i.shows(`🔴 Stop devvm\? running 9 d 4 h`)
	i.unsee() // as a new process knows nothing
	i.write("status.held", "")
	i.start(func() { i.showAllAgain(i.Store.OpenConfirmations(i.work, time.Now())) })
	i.shows(`🔴 Cycle devvm\? state not known yet; this card completes itself
(.*\n)+Still open after my restart\. Or type: .confirm`)
	i.shows(`🔴 Stop devvm\? state not known yet`)
	i.presses(stop.Choices[1].ID)
	i.shows(`✖ Stop devvm: cancelled by operator`)
	i.remove("status.held")
	card := i.shows(`🔴 Cycle devvm\? running 9 d 4 h · No block I/O for 12 s, 3 requests waiting: I/O stall · forensics 20 s old
(.*\n)+Still open after my restart\. Or type: .confirm`)
	if len(card.Choices) != 2 || card.Choices[0].Label != "Cycle devvm" {
		t.Errorf("its buttons are %v", card.Choices)
	}
	i.shutdown()
	if closed := i.shows(`✖ Stop devvm: cancelled by operator`); closed.Choices != nil {
		t.Errorf("a card that was answered has the buttons %v", closed.Choices)
	}
}
