package bot

import (
	"strings"
	"testing"
)

// Slack lets people lock a thread; then nobody says anything there any more. What the agent found is not lost with it.
func TestTheAnswerOfALockedThreadStandsInTheChannel(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.write("agent.held", "")
	i.types("devvm is frozen")
	i.shows("⏳ Working")
	i.phone.refuse(func(p Place, _ Text) error {
		if p == thread {
			return &Gone{Reason: "restricted_action_thread_locked"}
		}
		return nil
	})
	i.remove("agent.held")
	said := i.finds("🤖 I looked")
	if said.place != outside || !strings.HasSuffix(said.Body, "\n\nI say this here because its thread takes no messages any more; it is locked or deleted.") {
		t.Errorf("it stands in %s: %q", said.place, said.Body)
	}
	i.waits("the turn is still open", func() bool { return !i.busy(thread) && len(i.Store.OpenTurns(t.Context())) == 0 })
	i.phone.says(t, "🤖", 1)
}
