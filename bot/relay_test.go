package bot

import (
	"context"
	"sync"
	"testing"

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
	if n := len(i.Store.OpenOperations(t.Context())); n > 1 {
		t.Errorf("%d looks of agents are under way, want one", n)
	}
	hangUp()
	i.remove("forensics.held")
	i.remove("agent.held")
	i.shows("🤖 I looked")
}
