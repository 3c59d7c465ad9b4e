package bot

import (
	"errors"
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

// A channel may be made read-only, and the chat may be down. The place is free then, and the answer waits.
func TestATurnWhoseAnswerTheChatDoesNotTakeIsOver(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.write("agent.held", "")
	i.types("devvm is frozen")
	i.shows("⏳ Working")
	i.phone.refuse(func(Place, Text) error { return errors.New("restricted_action_read_only_channel") })
	i.remove("agent.held")
	i.waits("the turn is still open", func() bool { return !i.busy(thread) })
	i.hears(inThread("and now?"))
	i.waits("the agent does not hear what is said next", func() bool { return strings.Contains(i.prompts(), "and now?") })
	i.waits("the second turn is still open", func() bool { return !i.busy(thread) })
	if n := len(i.Store.OpenTurns(t.Context())); n != 2 {
		t.Errorf("a restart would tell of %d turns that nobody has heard the end of", n)
	}
	i.phone.refuse(nil)
	i.waits("the answers are lost", func() bool { return i.phone.count("🤖 I looked") == 2 })
	i.waits("a restart would tell of them again", func() bool { return len(i.Store.OpenTurns(t.Context())) == 0 })
}
