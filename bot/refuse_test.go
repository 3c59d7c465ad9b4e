package bot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/auth"
	"bgbot/internal/store"
)

// A stranger types on and on in the channel and then tries a verb. They hear it three times; the record has their first
// words and the first of the new kind, a row counts the rest, and of what is stored nothing grows with each word.
func TestAStrangerWhoTypesOnIsCounted(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	stranger := auth.Person{Chat: "phone", ID: "U9"}
	const words = 40
	for n := range words {
		i.hears(Message{ID: fmt.Sprint("w", n), Text: fmt.Sprint("word ", n), From: stranger, Name: "stranger"})
	}
	i.hears(Message{ID: "w0", Text: "word 0", From: stranger, Name: "stranger"})   // delivered again
	i.hears(Message{ID: "w39", Text: "word 39", From: stranger, Name: "stranger"}) // this too
	i.hears(Message{Text: "vm cycle", From: stranger, Name: "stranger"})
	i.types("help") // and nothing else happens
	i.shows(`\*\*I repair devvm`)
	i.phone.says(t, "You may not do that here: phone:U9 is not on the allowlist", 3)

	counts := map[string]int{}
	for _, r := range i.Store.Refusals(t.Context(), 10) { // of two days, if it is midnight
		counts[r.Actor+" "+r.Act] += r.Count
	}
	if len(counts) != 2 || counts["phone:U9 talk"] != words || counts["phone:U9 change"] != 1 {
		t.Errorf("refusals: %v", counts)
	}
	var refused []store.Entry
	i.waits("the first refusals leave no record", func() bool { // a slow disk tells of them later
		refused = slices.DeleteFunc(i.Store.Entries(t.Context(), 100), func(e store.Entry) bool { return e.Outcome != "refused" })
		return len(refused) >= 4
	})
	if n := len(refused); n > 8 || refused[0].Text != "vm cycle" || refused[n-1].Text != "word 0" {
		t.Errorf("records: %+v", refused)
	}
	if said := i.prompts(); said != "" {
		t.Errorf("the agent was told: %s", said)
	}
}

// Somebody is refused, the allowlist is mended, and what they said is read back. None of it is run, also what is only counted;
// what they say from then on is.
func TestWhatWasRefusedIsNotRunWhenItIsReadBack(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	colleague := auth.Person{Chat: "phone", ID: "U2"}
	said := time.Now().Add(time.Minute) // by the clock of the chat
	word := func(n int) Message {
		return Message{ID: fmt.Sprint("w", n), Text: fmt.Sprint("word ", n), From: colleague, Name: "colleague", At: said.Add(time.Duration(n))}
	}
	const words = 6
	for n := range words {
		i.hears(word(n))
	}
	i.Policy = auth.NewPolicy(operator, colleague)
	for n := range words + 1 {
		m := word(n)
		m.Missed = true
		i.hears(m)
	}
	i.shows("🤖 I looked")
	if got := i.prompts(); !strings.Contains(got, "[colleague]: word 6") || strings.Count(got, "word") != 1 {
		t.Errorf("the agent was told %s", got)
	}
}

// A secret that lies across the end of what is kept of a refused text is not kept in part.
func TestASecretOfAStrangerIsMaskedBeforeItIsCut(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.Mask = func(s string) string { return strings.ReplaceAll(s, "hunter2-hunter2", "[secret]") }
	i.hears(Message{Text: strings.Repeat("x", 190) + "hunter2-hunter2", From: auth.Person{Chat: "phone", ID: "U9"}, Name: "stranger"})
	i.types("help")
	i.shows(`\*\*I repair devvm`)
	if e := i.Store.Entries(t.Context(), 1); len(e) != 1 || e[0].Text != strings.Repeat("x", 190)+"[secret]" {
		t.Errorf("the record has %+v", e)
	}
}
