package bot

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"bgbot/internal/store"
	"bgbot/pve"
)

// The gate lets three look at once, and a link carries six: what agents look at must leave room for people.
func TestLooksOfAgentsLeaveRoomForThoseOfPeople(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(pve.Result{Verb: pve.Forensics, Status: "running", Text: "VM 102 is running."})
	i.answers(host(fine, ""))
	i.write("agent.held", "")
	i.write("forensics.held", "")
	i.types("please look")
	i.shows("⏳ Working")
	look := i.Relay(i.turnFor(thread, "").session)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	var looks sync.WaitGroup
	defer looks.Wait()
	for range 8 {
		looks.Go(func() { _, _ = look(ctx, pve.Forensics, func(pve.Step) {}) })
	}
	i.waits("no agent looks", func() bool { return len(i.Store.OpenOperations(t.Context())) > 0 })
	i.types("vm status")
	i.shows("🔵 devvm: running 9 d 4 h")
	under := i.Store.OpenOperations(t.Context())
	under = slices.DeleteFunc(under, func(o store.Operation) bool { return o.Verb == string(pve.Status) }) // told, and about to end
	if len(under) != 1 {
		t.Errorf("looks of agents that are under way, want one: %+v", under)
	}
	hangUp()
	i.remove("forensics.held")
	i.remove("agent.held")
	i.shows("🤖 I looked")
}

// A command of the agent asks the host in a loop for what it may not have. Each is denied; the record says what, by whom and
// how often, and does not grow with the loop.
func TestADenialInALoopIsCounted(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.Power = ReadOnly
	i.write("agent.held", "")
	i.types("please look")
	i.shows("⏳ Working")
	relay := i.Relay(i.turnFor(thread, "").session)
	const often = 50
	for range often {
		if r, _ := relay(t.Context(), pve.Reset, func(pve.Step) {}); r.Result.Exit != pve.Rejected || !strings.HasPrefix(r.Result.Text, "Denied by policy") {
			t.Fatalf("the agent hears %+v", r.Result)
		}
	}
	if r, _ := relay(t.Context(), pve.Cycle, func(pve.Step) {}); r.Result.Exit != pve.Rejected {
		t.Fatalf("the agent hears %+v", r.Result)
	}
	i.remove("agent.held")
	i.shows("🤖 I looked")
	i.waits("the turn does not end", func() bool { return i.turnFor(thread, "") == nil })
	var denied []string
	i.waits("nobody says how often", func() bool {
		denied = nil
		for _, e := range i.Store.Entries(t.Context(), 100) {
			if e.Act == "relay" && e.Outcome == "denied" && e.Actor == operator.String() {
				said, _, _ := strings.Cut(e.Text, ":")
				denied = append(denied, e.Subject+" "+said)
			}
		}
		return len(denied) > 0 && denied[0] == "reset 50 times in this turn"
	})
	if want := "reset 50 times in this turn|cycle Denied by policy|" + strings.Repeat("reset Denied by policy|", 3); strings.Join(denied, "|")+"|" != want {
		t.Errorf("records: %q", denied)
	}
}

// A disk that hangs keeps a record waiting; whoever looks at the turn meanwhile does not wait with it.
func TestATurnIsNotHeldWhileItsDenialsAreRecorded(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	ended := &turn{place: thread, who: operator, denials: map[denial]int{{pve.Reset, "Denied by policy"}: 50}}
	held := false
	i.Mask = func(s string) string { // what is recorded passes by here
		if held = !ended.mu.TryLock(); !held {
			ended.mu.Unlock()
		}
		return s
	}
	i.recordDenials(ended)
	if got := i.Store.Entries(t.Context(), 1); len(got) != 1 || got[0].Text != "50 times in this turn: Denied by policy" || held {
		t.Errorf("recorded %+v, the turn was held: %v", got, held)
	}
}
