package bot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/auth"
)

func ago(d time.Duration) time.Time { return time.Now().Add(-d) }

func TestWhatWasSaidLongAgoIsRunOnlyWhenAskedForAgain(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	colleague := auth.Person{Chat: "phone", ID: "U2"}
	i.Policy = auth.NewPolicy(operator, colleague)

	i.hears(Message{Text: "devvm is frozen", Missed: true, At: ago(7 * time.Minute)})
	i.shows("⌛ This reached me 7 min late, and I did not run it\\. Type `again` to run it\\.$")
	i.hears(Message{Text: "it hangs in the disk", Missed: true, At: ago(6 * time.Minute)})
	i.shows("⌛ 2 messages here reached me up to 7 min late, and I did not run them\\. Type `again` to run both\\.$")
	i.hears(Message{Text: "Again.", From: colleague, Name: "colleague"})
	i.shows("🤖 I looked")
	if got, want := i.prompts(), `[colleague]: [operator]: devvm is frozen\n[operator]: it hangs in the disk`; !strings.Contains(got, want) {
		t.Errorf("the agent was told %s, want %s", got, want)
	}
	i.phone.says(t, "⌛", 1)
	i.phone.says(t, "away", 0) // a chat that delivers late looks the same

	i.types("again") // to the agent, as nothing is missed any more
	i.waits("a second answer", func() bool { return i.phone.count("🤖 I looked") == 2 })
	if !strings.Contains(i.prompts(), "[operator]: again") {
		t.Errorf("the agent was told %s", i.prompts())
	}
}

func TestWhatCameWithAMissedTextIsSpokenOf(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.hears(Message{Text: "it shows this", Files: 2, Missed: true, At: ago(7 * time.Minute)})
	i.shows("⌛ This reached me")
	i.types("again")
	i.shows("(🤖 I looked\\.\n\n)?☑ Ended .*\n\n_📎 I read words only, and have not seen 2 files that came with them_")
	if told, want := i.prompts(), `it shows this\n[2 files came with this, which you are not given.]`; !strings.Contains(told, want) {
		t.Errorf("the agent was told %s, want %s", told, want)
	}
}

// With confirm.by other, whose words a turn has must not be its second person, in whichever turn the words come.
func TestWhoseWordsAreRunAgainHasSpokenInTheTurnThatTheyComeTo(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	colleague := auth.Person{Chat: "phone", ID: "U2"}
	i.Policy = auth.NewPolicy(operator, colleague)
	ended, goOn := i.holdsEnds()
	i.types("devvm is frozen")
	<-ended // and its answer is not told yet
	i.hears(Message{Text: "cycle it", Missed: true, At: ago(7 * time.Minute), Place: thread, From: colleague})
	i.shows("⌛ This reached me")
	i.Bot.mu.Lock()
	first := i.turns[thread]
	i.Bot.mu.Unlock()
	i.write("agent.held", "")
	i.hears(inThread("again"))
	goOn()
	var second *turn
	i.waits("no turn of its own", func() bool {
		i.Bot.mu.Lock()
		defer i.Bot.mu.Unlock()
		second = i.turns[thread]
		return second != nil && second != first
	})
	<-second.ready
	second.mu.Lock()
	defer second.mu.Unlock()
	if !slices.Contains(second.speakers, colleague) || !slices.Contains(second.speakers, operator) {
		t.Errorf("the speakers are %v", second.speakers)
	}
	i.remove("agent.held")
}

func TestWhatWasMissedBeforeARestartHasToBeTypedAnew(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.hears(Message{Text: "devvm is frozen", Missed: true, At: ago(7 * time.Minute)})
	i.shows("⌛ This reached me")
	i.Bot.mu.Lock() // as a new process begins
	clear(i.kept)
	i.Bot.mu.Unlock()
	i.types("again")
	said := i.shows("What had arrived here was not kept over my restart; type it anew\\.$")
	if said.Only != operator.ID || i.prompts() != "" {
		t.Errorf("that is said to %q, and the agent was told %q", said.Only, i.prompts())
	}
	i.types("devvm is frozen")
	i.shows("🤖 I looked")
}

func TestAgainOutsideOfTheThreadBeginsNothing(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	for _, m := range []Message{
		{Text: "again", Place: outside},
		{Text: "again", ID: "t7", Place: Place{Chat: "phone", Channel: "C1", Thread: "t7"}, Opens: true},
	} {
		i.hears(m)
	}
	i.waits("two answers", func() bool { return i.phone.count("Type `again` in the thread that it is for.") == 2 })
	if told := i.prompts(); told != "" {
		t.Errorf("the agent was told %s", told)
	}
}

func TestWhatWasSaidJustNowIsRun(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.hears(Message{Text: "devvm is frozen", Missed: true, At: ago(90 * time.Second)})
	i.shows("🤖 I looked")
	i.phone.says(t, "⌛", 0)
}

func TestAMissedVerbNeverRuns(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	for text, want := range map[string]string{
		"vm cycle":     "your `vm cycle` came 3 min late, and a power verb never runs late.\nType `vm cycle` once more if you still want it.",
		"vm status":    "your `vm status` came 3 min late.\nType `vm status` once more if you still want it.",
		"confirm 4F7Q": "your confirmation came 3 min late, and a power verb never runs late.\nGive it once more if you still want it.",
	} {
		i.hears(Message{Text: text, Missed: true, At: ago(200 * time.Second)})
		i.waits("no refusal of "+text, func() bool { return i.phone.count("⌛ Not done: "+want) == 1 })
	}
	i.types("vm status")
	i.shows("🔵 devvm: running")
	i.phone.says(t, "🔵", 1)
	i.phone.says(t, "🔴", 0)
}

func TestAMissedStopStops(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.write("agent.held", "")
	i.types("devvm is frozen")
	i.shows("⏳ Working")
	i.hears(Message{Text: "stop", Missed: true, At: ago(7 * time.Minute)})
	i.shows("⏹ The agent was stopped by operator\\.")
}
