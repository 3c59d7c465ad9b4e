package bot

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// visit is how often somebody's page was drawn, when last, and with which note.
type visit struct {
	count int
	at    time.Time
	note  string
}

// pageLife is for how long after it was drawn a page is thought to be looked at.
const pageLife = 10 * time.Minute

// home draws somebody's page: at once with what is known, and again when the host has answered. A note stands on top.
func (b *Bot) home(who auth.Person, note string) { b.show(who, b.visit(who, note, time.Now())) }

func (b *Bot) show(who auth.Person, visit visit) {
	note := visit.note
	news := b.inquire()
	b.draw(who, b.page(who, note, facts{late: true}))
	f := <-news
	if b.last(who) == visit { // otherwise it was drawn anew meanwhile
		b.draw(who, b.page(who, note, f))
	}
}

// visit notes that somebody's page is drawn, for what they did then.
func (b *Bot) visit(who auth.Person, note string, at time.Time) visit {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.visits[who] = visit{count: b.visits[who].count + 1, at: at, note: note}
	return b.visits[who]
}

// revisit notes that somebody's page is drawn anew although they did nothing: what they were told stays.
func (b *Bot) revisit(who auth.Person) visit {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.visits[who]
	v.count++
	b.visits[who] = v
	return v
}

func (b *Bot) last(who auth.Person) visit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.visits[who]
}

// redraw shows a new card, or what came of a change, on the pages that were drawn lately.
func (b *Bot) redraw() {
	b.mu.Lock()
	visits := maps.Clone(b.visits)
	b.mu.Unlock()
	for who, v := range visits {
		if time.Since(v.at) < pageLife && b.Policy.Check(who, auth.Look) == nil {
			b.start(func() { b.show(who, b.revisit(who)) })
		}
	}
}

// draw puts t on somebody's page, once: it is drawn anew whenever they open it.
func (b *Bot) draw(who auth.Person, t Text) {
	out := b.out[who.Chat]
	if out == nil {
		return
	}
	if err := out.home(b.work, who.ID, t); err != nil {
		b.Log.Warn("a page was not drawn", "person", who.String(), "err", err)
	}
}

// page is the bot's own page for somebody: the state first, then what runs, what is open, and what was done. Its buttons
// are those that this person may press, with what ends or decides something first.
func (b *Bot) page(who auth.Person, note string, f facts) Text {
	var s strings.Builder
	if note != "" {
		s.WriteString(note + "\n\n")
	}
	switch {
	case f.late:
		fmt.Fprintf(&s, "⏳ %s: asking the Proxmox host …", b.VM.Name)
	case f.err != nil:
		fmt.Fprintf(&s, "❌ %s: its state is unknown: %s", b.VM.Name, inChat(plain(message(f.err), 400)))
	default:
		if f.Status == "running" && f.Uptime > 0 { // the state has said what the gate's first line says
			_, f.Text, _ = strings.Cut(strings.TrimSpace(f.Text), "\n")
		}
		s.WriteString(b.lookText(f))
	}
	turns, choices := b.running(who.Chat)
	cards, answers := b.openCards(who)
	section(&s, "Running now", turns, "Nothing.")
	section(&s, "Open cards", cards, "None.")
	section(&s, "Done lately", b.done(), "Nothing yet.")
	choices = append(choices, answers...)
	for _, v := range pve.Verbs() {
		c := verbChoice(v)
		if v == pve.Stop { // beside the Stop buttons of turns
			c.Label = "Power off …"
		}
		choices = append(choices, c)
	}
	return Text{Body: s.String() + b.trouble(), Choices: append(choices, b.promptChoices()...)}
}

func section(s *strings.Builder, title string, lines []string, none string) {
	fmt.Fprintf(s, "\n\n**%s**\n", title)
	if len(lines) == 0 {
		s.WriteString("\n" + none)
	}
	for _, line := range lines {
		s.WriteString("\n- " + line)
	}
}

// running lists the turns and verbs that run, and a Stop button for each turn of that chat.
func (b *Bot) running(chat string) (lines []string, stops []Choice) {
	b.mu.Lock()
	turns, said := make([]*turn, 0, len(b.turns)), map[*turn]string{}
	for _, t := range b.turns {
		turns = append(turns, t)
		said[t] = t.said
	}
	b.mu.Unlock()
	slices.SortFunc(turns, func(x, y *turn) int { return x.view.began.Compare(y.view.began) })
	for i, t := range turns {
		state := "the agent thinks"
		if doing := t.doing(); doing != "" {
			state = code(doing, 90)
		}
		lines = append(lines, fmt.Sprintf("%d · %s · %s · %s: “%s”", i+1, clock(time.Since(t.view.began)), state, plain(t.name, 40), plain(b.label(b.safe(said[t])), 60)))
		if t.place.Chat == chat {
			stops = append(stops, Choice{ID: clickStop + t.id, Label: fmt.Sprintf("Stop turn %d", i+1)})
		}
	}
	for _, o := range b.underWay() {
		lines = append(lines, fmt.Sprintf("%s · `%s` on the host · asked by %s", clock(time.Since(o.Began)), o.Verb, b.nameOf(o)))
	}
	return lines, stops
}

// openCards lists the cards of somebody's chat, with the buttons of each: the same record is behind them as behind those in
// the thread. Who would be refused has no button to confirm, and a host key is accepted only where both keys are shown.
func (b *Bot) openCards(who auth.Person) (lines []string, choices []Choice) {
	open := slices.DeleteFunc(b.Store.OpenConfirmations(b.work, time.Now()), func(c store.Confirmation) bool { return c.Place.Chat != who.Chat })
	for _, c := range open {
		lines = append(lines, fmt.Sprintf("%s? asked by %s · open until %s · `confirm %s` or `cancel %s` in the channel",
			b.title(pve.Verb(c.Verb)), b.called(c.Requester), c.Expires.Local().Format("15:04:05"), c.Code, c.Code))
		label := b.title(pve.Verb(c.Verb))
		if len(open) > 1 { // which of them
			label += " · " + c.Code
		}
		if c.Verb != string(hostKeyVerb) && b.mayConfirm(Message{From: who}, c, true) == "" {
			choices = append(choices, Choice{ID: clickConfirm + c.Nonce, Label: "Confirm: " + label, Danger: true})
		}
		choices = append(choices, Choice{ID: clickCancel + c.Nonce, Label: "Cancel: " + label})
	}
	return lines, choices
}

// doneLately is how many operations a page shows; a phone shows about as many.
const doneLately = 6

func (b *Bot) done() (lines []string) {
	ctx, cancel := context.WithTimeout(b.work, 2*time.Second) // a page must not wait for a disk that hangs
	defer cancel()
	for _, o := range b.Store.Operations(ctx, doneLately) {
		if o.Ended.IsZero() {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s `%s` by %s: %s", when(o.Began), o.Verb, b.nameOf(o), b.outcomeOf(o)))
	}
	return lines
}

// outcomeOf is the first line that the thread read, and who let it happen if that was another.
func (b *Bot) outcomeOf(o store.Operation) string {
	text := o.Text
	if o.Confirmer != "" && o.Confirmer != o.Actor {
		text += " Confirmed by " + b.called(o.Confirmer) + "."
	}
	return text
}

// when is the time of day, with the date if that was not today.
func when(t time.Time) string {
	t = t.Local()
	if t.Format(time.DateOnly) == time.Now().Format(time.DateOnly) {
		return t.Format("15:04")
	}
	return t.Format("2 Jan 15:04")
}

// meets remembers how the chat shows somebody who may act; records have only their IDs.
func (b *Bot) meets(m Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.Name != "" {
		b.names[m.From] = m.Name
	}
}

// nameOf names whoever asked for an operation.
func (b *Bot) nameOf(o store.Operation) string {
	if o.Name != "" {
		return plain(o.Name, 60)
	}
	return b.called(o.Actor)
}

// called names the people of a record as their chat shows them; of whom that is not known it has the ID.
func (b *Bot) called(people string) string {
	var all []string
	for id := range strings.SplitSeq(people, ",") {
		who, _ := auth.ParsePerson(id)
		b.mu.Lock()
		name := b.names[who]
		b.mu.Unlock()
		if chat, ok := b.Chats[who.Chat].(Naming); ok && name == "" { // who has said nothing since the start
			name = chat.NameOf(who.ID)
		}
		all = append(all, plain(cmp.Or(name, id), 40))
	}
	return strings.Join(all, ", ")
}
