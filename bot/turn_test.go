package bot

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/internal/store"
)

// The page of a turn still waits for its slot when the answer is there: then the answer takes along what was done.
func TestAnAnswerTakesThePageThatWasNeverPosted(t *testing.T) {
	for name, c := range map[string]struct {
		waits time.Duration // for a slot
		ran   bool
		more  string
		shown int
	}{
		"crowded":             {20 * time.Second, true, "\n\n☑ Ended after 0:10 · 1 command\n\n✓ `uptime`  1.0 s · up 9 days", 0},
		"crowded, no command": {20 * time.Second, false, "", 0},
		"not crowded":         {3 * time.Second, true, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{}
				d := delivers(s)
				d.posts.hold(c.waits)
				turn := &turn{view: newView("x", time.Now())}
				if c.ran {
					turn.view.add(agentrun.Tool{ID: "1", Name: "Bash", Input: "uptime"}, time.Now())
					turn.view.add(agentrun.ToolResult{ID: "1", Output: "up 9 days", Took: time.Second}, time.Now())
				}
				turn.live = d.show(t.Context(), place("a"), 0, turn.draw, nil)
				passes(10 * time.Second)
				turn.mu.Lock()
				turn.view.end("☑ Ended after 0:10 · 1 command", "")
				turn.mu.Unlock()
				if more := turn.close(); more != c.more {
					t.Errorf("the answer goes on with %q, want %q", more, c.more)
				}
				if len(s.thread) != c.shown {
					t.Errorf("the thread is %q", s.thread)
				}
			})
		})
	}
}

// inThread is said in the thread, by somebody who did not begin it.
func inThread(text string) Message { return Message{Text: text, Place: thread} }

// told are the first words of each thing that the agent was told, in its order.
func (i *incident) told() (words []string) {
	for _, m := range regexp.MustCompile(`\[operator\]: (\w+)`).FindAllStringSubmatch(i.prompts(), -1) {
		words = append(words, m[1])
	}
	return words
}

func TestWhatWasSaidInARunningTurnReachesTheAgentInItsOrder(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.write("agent.held", "")
	want := []string{"frozen"}
	i.types("frozen since noon")
	for n := range 40 {
		want = append(want, fmt.Sprintf("more%d", n))
		i.hears(inThread(want[n+1]))
	}
	i.remove("agent.held")
	i.waits("the agent was not told all", func() bool { return len(i.told()) == len(want) })
	if got := i.told(); !slices.Equal(got, want) {
		t.Errorf("the agent was told %q, want %q", got, want)
	}
}

// holdsEnds has each turn stay, its agent having ended, until goOn.
func (i *incident) holdsEnds() (ended <-chan struct{}, goOn func()) {
	over, held := make(chan struct{}, 2), make(chan struct{})
	goOn = sync.OnceFunc(func() { close(held) })
	i.t.Cleanup(goOn)
	i.Turning = func(_ string, running bool) {
		if !running {
			over <- struct{}{}
			<-held
		}
	}
	return over, goOn
}

// The agent has ended, and its answer is not in the chat yet. Then a message begins the next turn, and nothing of it stands in
// the one before.
func TestAMessageThatComesWhenTheAgentHasJustEnded(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	colleague := auth.Person{Chat: "phone", ID: "U2"}
	i.Policy = auth.NewPolicy(operator, colleague)
	ended, goOn := i.holdsEnds()
	i.types("devvm is frozen")
	<-ended
	i.shows("⏳ Working")
	i.Bot.mu.Lock()
	first := i.turns[thread]
	i.Bot.mu.Unlock()
	i.hears(Message{Text: "it shows this", Files: 1, Place: thread, From: colleague})
	i.waits("the page says that the agent reads it at its next step", func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return slices.Contains(first.speakers, colleague) && first.view.trail == ""
	})
	goOn()
	i.waits("a second answer", func() bool { return i.phone.count("🤖 I looked") == 2 })
	var with []string
	for _, page := range i.phone.said(thread) {
		if strings.Contains(page, "📎") {
			with = append(with, page)
		}
	}
	if page := first.draw()[0].Body; len(with) != 1 || strings.Contains(page, "📎") {
		t.Errorf("the file is spoken of in %q, and the first turn shows %q", with, page)
	}
}

func TestATurnThatIsBeingStoppedGoesOnSayingSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := &turn{view: newView("x", time.Now()), stopped: make(chan agentrun.Stopped)}
		turn.view.trail = "Stopping …"
		turn.live = delivers(&service{}).show(t.Context(), place("a"), 0, turn.draw, nil)
		defer turn.live.close()
		turn.received(true)
		if got, want := turn.draw()[0].Body, "⏳ Working 0:00\nStopping …"; got != want {
			t.Errorf("it shows %q, want %q", got, want)
		}
	})
}

// busy says that a turn runs in a thread.
func (i *incident) busy(p Place) bool {
	i.Bot.mu.Lock()
	defer i.Bot.mu.Unlock()
	return i.turns[p] != nil
}

// Somebody begins a thread, and somebody else chooses its model meanwhile.
func TestAModelThatIsChosenWhileASessionBeginsDoesNotUndoThat(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	places := make([]Place, 8)
	for n := range places {
		places[n] = Place{Chat: "phone", Channel: "C1", Thread: fmt.Sprint("t", n)}
		i.hears(Message{Text: "devvm is frozen", Place: places[n], Opens: true})
	}
	var chosen sync.WaitGroup
	for _, p := range places {
		chosen.Go(func() {
			for i.busy(p) {
				i.model(Message{Place: p, From: operator}, "opus")
			}
		})
	}
	chosen.Wait()
	for _, p := range places {
		i.waits("a session began and was forgotten", func() bool {
			th, _ := i.Store.Thread(t.Context(), store.Place(p))
			return th.Started && th.Model == "opus"
		})
	}
}
