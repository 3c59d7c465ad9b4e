package bot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// Each click is answered, to the person alone, whatever became of the card meanwhile.

func TestTwoPeopleClickAtOnce(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	colleague := auth.Person{Chat: "phone", ID: "U2"}
	i.Policy, i.Confirm.By = auth.NewPolicy(operator, colleague), auth.Any
	i.answers(host(fine, ""))
	i.answers(pve.Result{Verb: pve.Stop, Op: "c81f", Status: "stopped", Text: "VM 102 was stopped."})
	i.types("vm stop")
	card := i.shows(`🔴 Stop devvm\?`)
	i.presses(card.Choices[0].ID)
	i.hears(Message{Click: card.Choices[0].ID, From: colleague, Name: "colleague"})
	i.shows(`⏹ devvm is stopped after .* \(stop by (operator|colleague), op c81f\)`)
	second := i.shows("That confirmation was answered already; nothing more was done.$")
	if second.Only == "" {
		t.Error("the second click is answered to all")
	}
	i.phone.says(t, "⏹ devvm is stopped", 1)
}

func TestAClickAfterTheTimeIsOver(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.Confirm.TTL = 200 * time.Millisecond
	i.answers(host(fine, ""))
	i.types("vm stop")
	i.shows("⌛ Expired: Stop devvm was not confirmed in time. Nothing was done.")
	for _, c := range i.Store.Entries(t.Context(), 10) {
		if c.Act == "ask" {
			i.presses("confirm:" + c.Outcome)
		}
	}
	said := i.shows("That confirmation has expired; nothing was done. Type `vm stop` if you still want it.$")
	if said.Only != operator.ID {
		t.Errorf("it is said to %q", said.Only)
	}
}

func TestAClickOnACardFromBeforeARestart(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.answers(pve.Result{Verb: pve.Stop, Op: "c81f", Status: "stopped", Text: "VM 102 was stopped."})
	open := store.Confirmation{
		Nonce: "n1", Code: "4F7Q", Verb: "stop", VMID: 102, Place: store.Place(thread), Requester: operator.String(), Origin: "person",
		Made: time.Now(), Expires: time.Now().Add(time.Minute),
	}
	old := open
	old.Nonce, old.Code, old.Expires = "n2", "5F7Q", time.Now().Add(-time.Minute)
	i.Store.AddConfirmation(t.Context(), open)
	i.Store.AddConfirmation(t.Context(), old)
	i.presses("confirm:n2")
	i.shows("That confirmation has expired; nothing was done. Type `vm stop` if you still want it.$")
	i.presses("confirm:unknown")
	i.shows("(There is no open confirmation like that here|I cannot look that confirmation up just now)") // a busy disk may be late
	i.presses("confirm:n1")
	i.shows(`⏹ devvm is stopped after .* \(stop by operator, op c81f\)`)
}

// The button of a card of days ago: only the disk knows it, and the disk does not answer. That is no word about the card.
func TestAClickThatCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	file := filepath.Join(i.dir, "bgbot.db")
	if err := errors.Join(os.Rename(file, file+".away"), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	i.presses("confirm:n1")
	said := i.shows("I cannot look that confirmation up just now, so nothing was done.\nTry it once more in a moment, or type the verb again: " +
		"a new card works without the old ones.\n\n⚠️ The store is (failing|slow) ")
	if said.Only != operator.ID {
		t.Errorf("it is said to %q", said.Only)
	}
	if err := errors.Join(os.Remove(file), os.Rename(file+".away", file)); err != nil {
		t.Fatal(err)
	}
}

func TestStopIsPressedTwice(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.write("agent.held", "")
	i.types("devvm is frozen")
	stop := i.shows("⏳ Working").Choices[0].ID
	i.presses(stop)
	i.presses(stop)
	i.shows(`⏹ The agent was stopped by operator\.`)
	i.shows("(It is being stopped already; the thread hears when nothing of it is left|That turn has ended already)")
}
