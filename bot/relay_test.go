package bot

import (
	"context"
	"slices"
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
