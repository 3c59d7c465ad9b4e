package bot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bgbot/auth"
)

// stillWanted is how old a text may be that was read back after a gap and is run at once: so long somebody waits for an
// answer before they do something else.
const stillWanted = 2 * time.Minute

// missed is a text that came too late to be run without being asked for once more.
type missed struct {
	who  auth.Person
	name string
	text string
}

// missed decides on what was said while we were away; nil means that it is as good as new. A stop and a cancel are safe
// however late; nothing else without a model is.
func (b *Bot) missed(m Message, c command) (act func()) {
	late := time.Since(m.At)
	switch {
	case c.kind == power || c.kind == confirm:
		return func() { b.tooLate(m, c) }
	case c.kind != talk && c.kind != rerun || late <= stillWanted:
		return nil
	}
	b.record(b.work, m.Place, m.From, string(auth.Talk), "", outcomeMissed, m.Text)
	if c.kind == talk && b.keep(m, c.arg) > 1 { // the thread has been told
		return func() {}
	}
	return func() {
		b.say(m.Place, Text{Body: fmt.Sprintf("⌛ This arrived while I was away for %s; say `again` to run it.", age(late))})
	}
}

// keep remembers a text for "again"; n is how many are kept in that thread.
func (b *Bot) keep(m Message, text string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.kept) > 1000 {
		clear(b.kept)
	}
	b.kept[m.Place] = append(b.kept[m.Place], missed{m.From, m.Name, text})
	return len(b.kept[m.Place])
}

// recall takes what is kept in the thread of an "again", and whose words it is besides those of who said that.
func (b *Bot) recall(m Message) (text string, who []auth.Person) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []string
	for _, k := range b.kept[m.Place] {
		line := k.text
		if k.who != m.From {
			line = prompt(Message{From: k.who, Name: k.name}, k.text)
		}
		if !slices.Contains(who, k.who) {
			who = append(who, k.who)
		}
		lines = append(lines, line)
	}
	delete(b.kept, m.Place)
	return strings.Join(lines, "\n"), who
}

// rerun answers an "again" for which nothing is kept. Where nothing was missed the word is for the agent, as any other.
func (b *Bot) rerun(m Message) {
	switch {
	case m.Place.Thread == "":
		b.answer(m, "Type `again` in the thread that it is for.")
	case b.forgot(m.Place):
		b.answer(m, "What had arrived here was not kept over my restart; type it anew.")
	default:
		t, fresh := b.turnAt(m)
		b.talk(m, m.Text, t, fresh)
	}
}

// forgot says that a text of this thread was missed and not run since: a former process kept it.
func (b *Bot) forgot(p Place) bool {
	for _, e := range b.Store.Entries(b.work, 500) {
		here := e.Chat == p.Chat && e.Channel == p.Channel && e.Thread == p.Thread
		if here && e.Act == string(auth.Talk) && e.Outcome != "refused" {
			return e.Outcome == outcomeMissed
		}
	}
	return false
}

// outcomeMissed is how a text is recorded that came too late.
const outcomeMissed = "missed"

// tooLate refuses what must not run late.
func (b *Bot) tooLate(m Message, c command) {
	b.record(b.work, m.Place, m.From, string(c.act()), string(c.verb), "too late", "")
	b.answer(m, fmt.Sprintf("⌛ Not done: this reached me %s late, and a power verb never runs late. Say it again if you still want it.", span(time.Since(m.At))))
}
