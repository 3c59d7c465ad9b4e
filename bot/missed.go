package bot

import (
	"cmp"
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
	who   auth.Person
	name  string
	text  string
	files int           // that came with it
	late  time.Duration // when it reached us
}

// absence is what was missed in one thread, and what the thread was told of it.
type absence struct {
	texts   []missed
	id      string // of the message that tells it
	told    int    // how many texts it tells of
	telling bool
}

// missed decides on what did not reach us when it was said; nil means that it is as good as new. A stop and a cancel are safe
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
	if c.kind == rerun {
		return func() { b.say(m.Place, Text{Body: missedText(1, late)}) }
	}
	kept := b.keep(m, c.arg, late)
	return func() { b.tellMissed(m.Place, kept) }
}

// tellMissed has one message in the thread tell of all that was missed there, however many goroutines ask for it.
func (b *Bot) tellMissed(p Place, a *absence) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.telling {
		return
	}
	a.telling = true
	for a.told < len(a.texts) {
		n, id := len(a.texts), a.id
		latest := slices.MaxFunc(a.texts, func(x, y missed) int { return cmp.Compare(x.late, y.late) })
		t := Text{Body: missedText(n, latest.late)}
		b.mu.Unlock()
		if id == "" || b.out[p.Chat].settle(b.work, p, id, t) != nil {
			id = b.say(p, t)
		}
		b.mu.Lock()
		a.id, a.told = id, n
	}
	a.telling = false
}

// missedText claims no more than what is known of a text. Who was away, bgbot or only the chat's delivery, is the chat's to
// tell, once for all of them.
func missedText(n int, late time.Duration) string {
	if n == 1 {
		return fmt.Sprintf("⌛ This reached me %s late, and I did not run it. Type `again` to run it.", age(late))
	}
	them := "them all"
	if n == 2 {
		them = "both"
	}
	return fmt.Sprintf("⌛ %d messages here reached me up to %s late, and I did not run them. Type `again` to run %s.", n, age(late), them)
}

// keep remembers a text for "again".
func (b *Bot) keep(m Message, text string, late time.Duration) *absence {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.kept) > 1000 {
		clear(b.kept)
	}
	kept := b.kept[m.Place]
	if kept == nil {
		kept = &absence{}
		b.kept[m.Place] = kept
	}
	kept.texts = append(kept.texts, missed{m.From, m.Name, text, m.Files, late})
	return kept
}

// recall takes what is kept in the thread of an "again", whose words it is besides those of who said that, and how many files
// came with it.
func (b *Bot) recall(m Message) (text string, who []auth.Person, files int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.kept[m.Place]
	if kept == nil {
		return "", nil, 0
	}
	var lines []string
	for _, k := range kept.texts {
		line := k.text
		if k.who != m.From {
			line = prompt(Message{From: k.who, Name: k.name}, k.text)
		}
		if !slices.Contains(who, k.who) {
			who = append(who, k.who)
		}
		lines = append(lines, line)
		files += k.files
	}
	delete(b.kept, m.Place)
	return strings.Join(lines, "\n"), who, files
}

// rerun answers an "again" for which nothing is kept. Where nothing was missed the word is for the agent, as any other.
func (b *Bot) rerun(m Message) {
	switch {
	case m.Place.Thread == "" || m.Place.Thread == m.ID: // it begins a thread, in which nothing was missed
		b.answer(m, "Type `again` in the thread that it is for.")
	case b.forgot(m.Place):
		b.answer(m, "What had arrived here was not kept over my restart; type it anew.")
	default:
		b.talk(m, m.Text, b.turnAt(m))
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
	late := age(time.Since(m.At))
	switch {
	case c.kind == confirm:
		b.answer(m, fmt.Sprintf("⌛ Not done: your confirmation came %s late, and a power verb never runs late.\nGive it once more if you still want it.", late))
	case c.verb.Changes():
		b.answer(m, fmt.Sprintf("⌛ Not done: your `vm %s` came %s late, and a power verb never runs late.\nType `vm %[1]s` once more if you still want it.", c.verb, late))
	default:
		b.answer(m, fmt.Sprintf("⌛ Not done: your `vm %s` came %s late.\nType `vm %[1]s` once more if you still want it.", c.verb, late))
	}
}
