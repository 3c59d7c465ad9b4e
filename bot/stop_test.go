package bot

import (
	"strings"
	"testing"
	"time"

	"bgbot/agentrun"
	"bgbot/internal/store"
)

// The pages of a turn may take a while to be written. A change that ends meanwhile does not go on, and its result stands above.
func TestWhatGoesOnAfterAStopIsSaidAsItIsThen(t *testing.T) {
	t.Parallel()
	for name, ended := range map[string]bool{"it goes on": false, "it has ended meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIncident(t)
			cycle := store.Operation{ID: "o1", Verb: "cycle", VMID: 102, Place: store.Place(thread), Actor: operator.String(), Began: time.Now()}
			i.Store.BeginOperation(t.Context(), cycle)
			turn := i.turnAt(Message{Place: thread, From: operator}).turn
			turn.live = i.out["phone"].show(i.work, thread, 0, turn.draw, nil)
			i.shows("⏳ Working")
			turn.stopper, turn.stopped = "Anna", make(chan agentrun.Stopped, 1)
			turn.stopped <- agentrun.Stopped{}
			told := make(chan struct{})
			turn.telling = append(turn.telling, told)
			over := make(chan struct{})
			go func() {
				defer close(over)
				i.finish(turn, agentrun.Result{}, nil)
			}()
			i.shows("⏹ Stopped after")
			if ended {
				cycle.Ended = time.Now()
				i.Store.EndOperation(t.Context(), cycle)
			}
			close(told)
			<-over
			said := i.shows(`⏹ The agent was stopped by Anna\.`)
			if goesOn := strings.Contains(firstLine(said.Body), " `cycle` goes on; its result comes here."); goesOn == ended {
				t.Errorf("it says\n%s", said.Body)
			}
		})
	}
}
