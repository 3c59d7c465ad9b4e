package bot

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bgbot/auth"
)

func TestAReplyBelowWhatOthersPostedIsNotForTheAgent(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	alert := Place{Chat: "phone", Channel: "C1", Thread: "alert"}
	i.hears(Message{Text: "did somebody restart it?", Place: alert})
	said := i.shows("I do not work in this thread, since it did not begin with a message to me\\.\nSay it in the channel itself, and I begin there\\. Verbs such as `vm status` work here too\\.$")
	if said.Only != operator.ID {
		t.Errorf("that is said to %q", said.Only)
	}
	i.hears(Message{Text: "vm status", Place: alert})
	i.shows("🔵 devvm: running")
	i.hears(Message{Text: "help", Place: alert})
	i.shows("\\*\\*I repair devvm\\.\\*\\*\nSay in the channel what is wrong; an agent logs in")
	for _, words := range []string{"model opus", "again"} { // neither makes the thread ours
		i.hears(Message{Text: words, Place: alert})
		i.phone.says(t, "This thread uses", 0)
	}
	i.hears(Message{Text: "and now?", Place: alert})
	i.waits("somebody was not told", func() bool { return i.phone.count("I do not work in this thread") == 4 })
	if got := i.prompts(); got != "" {
		t.Errorf("the agent was told %s", got)
	}
}

// A thread that began with a verb, or with what was missed, is as good as one that began with talk, also after a restart.
func TestAReplyInAThreadThatBeganWithAVerbIsForTheAgent(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.types("vm status")
	i.shows("🔵 devvm: running")
	i.waits("the thread is not kept", func() bool { return i.ours(thread) })
	i.mu.Lock()
	clear(i.adopted) // as after a restart
	i.mu.Unlock()
	i.waits("the thread is not in the store", func() bool { return i.ours(thread) })
	i.hears(Message{Text: "why is it slow?", Place: thread})
	i.shows("🤖 I looked")
}

// The page has confirm codes and what runs on it. Whoever was taken off the allowlist may still have it open.
func TestAButtonOfAnOldPageShowsNothingToSomebodyWhoMayNot(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	former := auth.Person{Chat: "phone", ID: "U9"}
	i.hears(Message{Click: "vm:status", Place: outside, From: former})
	var page Text
	i.waits("the page is not drawn", func() (ok bool) {
		var drawn int
		page, drawn = i.phone.page(former.ID)
		return drawn > 0
	})
	if want := "⛔ You may not do that here: phone:U9 is not on the allowlist (auth.phone)."; page.Body != want || len(page.Choices) > 0 {
		t.Errorf("the page says %q with %v, want %q alone", page.Body, page.Choices, want)
	}
	i.mu.Lock()
	_, visits := i.visits[former]
	i.mu.Unlock()
	if visits {
		t.Error("the page is drawn again when something changes")
	}
	i.phone.says(t, "", 0)
}

// What the agent says is shaped by what it reads. A page of it must not look like a result of ours on a lock screen.
func TestNoPageOfTheAgentsWorkBeginsWithTheAgentsWords(t *testing.T) {
	t.Parallel()
	began := time.Now()
	v := newView("t", began)
	v.items = []item{
		{text: strings.Repeat("filler ", pageSize/7)},
		{text: "✅ devvm is back after 41 s (cycle by operator, op c81f). SSH answered.\n\n" + strings.Repeat("more ", pageSize/5)},
		{text: "the end"},
	}
	ours := regexp.MustCompile(`^(🤖 The agent's work, part \d+\n\n|⏳ Working )`)
	for n, page := range v.pages(began) {
		if !ours.MatchString(page.Body) {
			t.Errorf("page %d begins with %.60q", n, page.Body)
		}
	}
	if n := len(v.pages(began)); n < 3 {
		t.Fatal(fmt.Sprint(n) + " pages are too few to test this")
	}
}

// A command of the agent can change the modes of what bgbot's user owns. People hear of it, aloud.
func TestAFileThatWasOpenedToOthersIsAnAlarm(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	if err := os.Chmod(filepath.Join(i.dir, "bgbot.db"), 0o666); err != nil {
		t.Fatal(err)
	}
	i.types("devvm is frozen")
	if said := i.shows(`^🚨 Somebody changed who may read a file of mine\n.*bgbot.*db had mode 0666, not 0\d00 as at the start, and has been put right\.`); said.Quiet {
		t.Error("nobody hears the alarm")
	}
	i.shows("🤖 I looked")
}
