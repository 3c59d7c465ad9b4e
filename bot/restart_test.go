package bot

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"bgbot/internal/store"
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
(.*\n)+Still open after my restart\. Only operator may confirm\.\nOr type: .confirm`)
	i.shows(`🔴 Stop devvm\? state not known yet`)
	i.presses(stop.Choices[1].ID)
	i.shows(`✖ Stop devvm: cancelled by operator`)
	i.remove("status.held")
	card := i.shows(`🔴 Cycle devvm\? running 9 d 4 h · No block I/O for 12 s, 3 requests waiting: I/O stall · forensics 20 s old
(.*\n)+Still open after my restart\. Only operator may confirm\.\nOr type: .confirm`)
	if len(card.Choices) != 2 || card.Choices[0].Label != "Cycle devvm" {
		t.Errorf("its buttons are %v", card.Choices)
	}
	i.shutdown()
	if closed := i.shows(`✖ Stop devvm: cancelled by operator`); closed.Choices != nil {
		t.Errorf("a card that was answered has the buttons %v", closed.Choices)
	}
}

// cutAt is a cycle that a former process began, with a live message that looks as if it ran.
func (i *incident) cutAt() store.Operation {
	i.t.Helper()
	live := i.say(thread, Text{Body: "⏳ cycle devvm 0:01 · check\n\n✓ lock"})
	o := store.Operation{ID: "o1", Verb: "cycle", VMID: 102, Place: store.Place(thread), Actor: "phone:U7", Name: "olga", Began: time.Now()}
	i.Store.BeginOperation(i.work, o)
	i.Store.UpdateOperation(i.work, o.ID, live, "6c7c")
	return i.Store.OpenOperations(i.work)[0]
}

func (i *incident) lastWas(status, last string) {
	i.t.Helper()
	i.answers(pve.Result{Verb: pve.Status, Text: "VM 102 is " + status + ".\nLast: " + last, Status: status, LastOp: last})
}

func TestACycleThatTheHostEndsAfterAKill(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	o := i.cutAt()
	i.lastWas("running", "cycle by bgbot, op 6c7c is running: `ssh` since 2 s")
	i.start(func() { i.cutOperation(o) })
	i.shows(`⚠️ cycle devvm: cut by my restart; the result is below$`)
	i.waits("the host is not asked", func() bool { return i.looks() > 0 })
	i.answers(pve.Result{Verb: pve.Status, Exit: pve.Busy, Text: "Busy: 3 others are looking at VM 102 already."}) // says nothing of the cycle
	asked := i.looks()
	i.waits("the host is not asked again", func() bool { return i.looks() > asked })
	i.lastWas("running", "cycle by bgbot, op 6c7c, done 1 s ago")
	said := i.shows(`✅ devvm is back \(cycle by olga, op 6c7c; I was restarted meanwhile\)\. SSH answered\.( .*)?\nVM 102 is running\.\nLast: `)
	i.shutdown()
	if o := i.Store.Operations(t.Context(), 1)[0]; o.Ended.IsZero() || o.Text != firstLine(said.Body) || o.Exit != int(pve.Done) {
		t.Errorf("the record says %d, %q", o.Exit, o.Text)
	}
	i.phone.says(t, "⏳", 0)
}

func TestWhatBecameOfACycleThatWasCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ status, last, want string }{
		"interrupted": {
			"stopped", "cycle by bgbot, op 6c7c was interrupted after `stopped`, 3 s ago; say start to finish it",
			"⚠️ cycle: op 6c7c got to \"stopped\" and was interrupted. devvm is off: `vm start` is next.\nVM 102 is stopped.\nLast: ",
		},
		"perhaps up": {
			"running", "cycle by bgbot, op 6c7c was interrupted after `qmp`, 3 s ago; qm start had come back, so look whether the VM is up",
			"⚠️ cycle: op 6c7c got to \"qmp\" and was interrupted. devvm is running: qm start had come back, so look whether the VM is up.\n",
		},
		"refused": {
			"running", "cycle by bgbot, op 6c7c, refused 3 s ago: The VM is locked (backup).",
			"⚠️ cycle: op 6c7c ended, and I was restarted meanwhile. The host says: refused 3 s ago: The VM is locked (backup).\n",
		},
		"another": {
			"running", "stop by bgbot, op 01ab, done 3 h ago",
			"⚠️ I was restarted while `cycle` ran; its outcome is unknown. The host says:\nVM 102 is running.\nLast: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIncident(t)
			o := i.cutAt()
			i.lastWas(c.status, c.last)
			report, err := i.Gate.Run(t.Context(), pve.Status, func(pve.Step) {})
			if got := i.cutText(o, report, err).Body; !strings.HasPrefix(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestACutTurnKeepsWhatItHadShown(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	for id, doing := range map[string]string{"a": "", "b": "ssh devvm uptime"} {
		shown := Text{Body: "⏳ Working 0:09\n\nI look at the disks.\n\n✓ `df` " + id, Choices: []Choice{{ID: clickStop + id, Label: "Stop"}}}
		i.Store.BeginTurn(i.work, store.Turn{ID: id, Place: store.Place(thread), Began: time.Now()})
		i.Store.UpdateTurn(i.work, id, i.say(thread, shown), doing, shown.Body)
	}
	for _, cut := range i.Store.OpenTurns(i.work) {
		i.cutTurn(cut, true)
	}
	for _, want := range []string{
		"⚠️ Cut by a restart; no command was running\n\nI look at the disks\\.\n\n✓ `df` a$",
		"⚠️ Cut by a restart while `ssh devvm uptime` ran\n\nI look at the disks\\.\n\n✓ `df` b$",
	} {
		if cut := i.shows(want); cut.Choices != nil {
			t.Errorf("it has the buttons %v", cut.Choices)
		}
	}
	i.shows(`⚠️ I was restarted at \d\d:\d\d and the answer was cut\. No command was running\.\nThe session is kept: your next message goes on with it\.$`)
	i.shows("⚠️ I was restarted at \\d\\d:\\d\\d while `ssh devvm uptime` ran; what came of it is unknown\\. I looked: no process of that turn\nis left where I run\\. The session")
}

// A thread may be gone in a way that the chat does not call so. The others hear all the same, each in its order.
func TestAThreadThatTakesNothingHoldsUpNoOtherAfterARestart(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	locked := Place{Chat: "phone", Channel: "C1", Thread: "locked"}
	i.phone.refuse(func(p Place, _ Text) error {
		if p == locked {
			return errors.New("restricted_action")
		}
		return nil
	})
	for n, p := range []Place{locked, thread, thread} {
		i.Store.BeginTurn(i.work, store.Turn{ID: fmt.Sprint(n), Place: store.Place(p), Doing: fmt.Sprint("step ", n), Began: time.Now().Add(time.Duration(n))})
	}
	i.takeOver()
	i.waits("the other thread is not told", func() bool { return i.phone.count("⚠️ I was restarted") == 2 })
	for n, said := range i.phone.said(thread) {
		if want := fmt.Sprintf("while `step %d` ran", n+1); !strings.Contains(said, want) {
			t.Errorf("it was told %q in the place of the one %s", said, want)
		}
	}
	i.phone.refuse(nil)
	i.waits("the thread that takes messages again is not told", func() bool { return i.phone.count("⚠️ I was restarted") == 3 })
}
