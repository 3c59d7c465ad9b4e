package bot

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"bgbot/auth"
)

// Slack promises no order. Who types fast must not be told that the thread is not ours.
func TestRepliesThatOvertookTheirOpenerFollowIt(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	want := []string{"frozen"}
	for n := range 8 {
		want = append(want, fmt.Sprintf("more%d", n))
		i.hears(inThread(want[n+1]))
	}
	i.types("frozen since noon")
	i.hears(inThread("last"))
	want = append(want, "last")
	i.waits("the agent was not told all", func() bool { return len(i.told()) == len(want) })
	if got := i.told(); !slices.Equal(got, want) {
		t.Errorf("the agent was told %q, want %q", got, want)
	}
	i.shows("🤖 I looked")
	i.phone.says(t, "I do not work in this thread", 0)
	i.waits("a reply still counts as cut", func() bool { return len(i.Store.OpenTurns(i.work)) == 0 })
}

// Slack sends again after 3 s what was not acknowledged, and a slow disk holds up the first delivery for a while.
func TestAnOpenerThatIsDeliveredTwiceLosesNoReply(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.hears(inThread("more"))
	opener := Message{ID: "o1", Text: "frozen since noon", Place: thread, Opens: true, From: operator, Name: "operator", At: time.Now()}
	i.Store.Seen(t.Context(), "phone", opener.ID, opener.At) // of the first delivery, which is not done yet
	i.hears(opener)
	i.taken(opener, parse(opener, nil))()
	i.waits("the agent was not told all", func() bool { return len(i.told()) == 2 })
	if got, want := i.told(), []string{"frozen", "more"}; !slices.Equal(got, want) {
		t.Errorf("the agent was told %q, want %q", got, want)
	}
	i.phone.says(t, "I do not work in this thread", 0)
}

func TestNoReplyGoesBeforeThoseThatWaitedForTheOpener(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.hears(inThread("more1"))
	i.begin(thread) // by its opener
	i.adopt(thread, true)
	i.hears(inThread("more2"))
	opener := Message{ID: "o1", Text: "frozen since noon", Place: thread, Opens: true, From: operator, Name: "operator", At: time.Now()}
	i.taken(opener, parse(opener, nil))()
	i.hears(inThread("more3"))
	want := []string{"frozen", "more1", "more2", "more3"}
	i.waits("the agent was not told all", func() bool { return len(i.told()) == len(want) })
	if got := i.told(); !slices.Equal(got, want) {
		t.Errorf("the agent was told %q, want %q", got, want)
	}
}

func TestAModelThatWasNamedBeforeItsThreadBegan(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.hears(inThread("model opus"))
	i.types("vm status")
	i.shows("This thread uses `?opus")
	i.shows("🔵 devvm: running")
	i.phone.says(t, "I do not work in this thread", 0)
}

func TestNothingWithoutAModelWaitsForAnOpener(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	began := time.Now()
	i.hears(inThread("and now?"))
	i.hears(inThread("stop"))
	i.hears(inThread("vm status"))
	i.shows("No turn of the agent runs in this thread")
	i.shows("🔵 devvm: running")
	if n := i.phone.count("I do not work in this thread"); n > 0 && time.Since(began) < openerWait {
		t.Error("the reply did not wait")
	}
	i.shows("I do not work in this thread")
	if got := i.prompts(); got != "" {
		t.Errorf("the agent was told %s", got)
	}
}

func TestAStrangerNeitherWaitsNorOpens(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	stranger := auth.Person{Chat: "phone", ID: "U9"}
	i.hears(Message{Text: "let me in", Place: thread, From: stranger})
	i.shows("You may not do that here: phone:U9")
	i.hears(inThread("what is this?"))
	i.hears(Message{Text: "let me in", Place: thread, Opens: true, From: stranger})
	i.mu.Lock()
	waiting := len(i.waiting)
	i.mu.Unlock()
	if waiting > 0 {
		t.Error("a reply waits for a message that has come")
	}
	i.shows("I do not work in this thread")
}

func TestRepliesAreToldOfOnceWhenARestartCutsTheirWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ends func(*incident)
		says string
	}{
		"gracefully": {func(i *incident) {
			i.hears(inThread("more"))
			i.hears(inThread("and more"))
			i.shutdown()
		}, "⚠️ I am shutting down; 2 messages here did not reach the agent.\nSay them again when I am back."},
		"gracefully, one": {func(i *incident) {
			i.hears(inThread("more"))
			i.shutdown()
		}, "⚠️ I am shutting down; a message here did not reach the agent.\nSay it again when I am back."},
		"killed": {func(i *incident) {
			for _, id := range []string{"1", "2"} {
				m := inThread("more")
				m.ID, m.From, m.At = id, operator, time.Now()
				_ = i.received(t.Context(), m, parse(m, nil)) // recorded, and nothing came of it
			}
			i.takeOver()
		}, "⚠️ I was restarted, and 2 messages here did not reach the agent. Say them again."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIncident(t)
			c.ends(i)
			if said := i.shows(regexp.QuoteMeta(c.says) + "$"); len(said.Choices) > 0 {
				t.Errorf("it has the buttons %v", said.Choices)
			}
			i.waits("it is told once more at the next start", func() bool { return len(i.Store.OpenTurns(i.work)) == 0 })
			i.phone.says(t, "⚠️", 1)
			i.phone.says(t, "I do not work in this thread", 0)
		})
	}
}
