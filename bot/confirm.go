package bot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// Confirm says how long a confirmation is open and who may give it.
type Confirm struct {
	TTL   time.Duration
	By    auth.By
	Verbs map[pve.Verb]auth.By // what differs from By
}

func (c Confirm) by(v pve.Verb) auth.By {
	if by, ok := c.Verbs[v]; ok {
		return by
	}
	return c.By
}

// request is who wants which verb, where.
type request struct {
	place      Place
	verb       pve.Verb
	requesters []auth.Person // who asked: one person, or all who spoke in the agent's turn
	name       string
	session    string // of the agent that asks; empty for a person
}

// pending is a confirmation that nobody has answered in this process. What counts is the record in the store; this is
// only who waits for it.
type pending struct {
	reply chan reply    // gets exactly one
	done  chan struct{} // closed with it
	agent bool          // an agent of this process waits for the reply, and acts on it
}

// reply is how a confirmation ended, and by whom, if it was a person.
type reply struct {
	how answer
	by  auth.Person
}

type answer int

const (
	confirmed answer = iota
	cancelled
	expired
	withdrawn
	outdated // by another change
)

// offer puts a card into the thread and returns at once; the card expires by itself, and when ctx ends it is withdrawn.
func (b *Bot) offer(ctx context.Context, r request) *pending {
	state := b.state() // before the clock of the card runs
	now := time.Now()
	c := store.Confirmation{
		Nonce: uuid.NewString(), Code: b.code(r.place), Verb: string(r.verb), VMID: b.VM.ID, Place: store.Place(r.place),
		Requester: names(r.requesters), Session: r.session, Origin: "person", Made: now, Expires: now.Add(b.Confirm.TTL),
	}
	if r.session != "" {
		c.Origin = "agent"
	}
	b.replace(c)
	b.Store.AddConfirmation(b.work, c)
	b.record(b.work, r.place, r.requesters[0], "ask", c.Verb, c.Nonce, c.Origin)
	p := b.await(ctx, c, r.session != "")
	c.Card = b.say(r.place, Text{Body: b.card(r, c, state), Key: c.Nonce, Choices: b.cardChoices(c)})
	b.Store.SetCard(b.work, c.Nonce, c.Card)
	if now, ok := b.Store.Confirmation(b.work, c.Nonce); ok && !now.Used.IsZero() { // answered before we knew the card's id
		b.closeCard(c.Nonce, "☑ "+b.title(r.verb)+": "+now.Outcome+".")
	}
	return p
}

func (b *Bot) cardChoices(c store.Confirmation) []Choice {
	return []Choice{
		{ID: clickConfirm + c.Nonce, Label: b.title(pve.Verb(c.Verb)), Danger: true},
		{ID: clickCancel + c.Nonce, Label: "Cancel"},
	}
}

// await registers who waits for c and ends c when its time is over or ctx ends.
func (b *Bot) await(ctx context.Context, c store.Confirmation, agent bool) *pending {
	p := &pending{reply: make(chan reply, 1), done: make(chan struct{}), agent: agent}
	b.mu.Lock()
	b.pending[c.Nonce] = p
	b.mu.Unlock()
	wait, cancel := context.WithDeadline(ctx, c.Expires)
	started := b.start(func() {
		defer cancel()
		select {
		case <-p.done:
			return
		case <-wait.Done():
		case <-b.cut.Done(): // the record stays open over a restart
			b.resolve(c.Nonce, reply{how: withdrawn})
			return
		}
		if b.cut.Err() != nil { // both ended at once
			b.resolve(c.Nonce, reply{how: withdrawn})
			return
		}
		how, outcome, text := expired, "expired", "⌛ Expired: "+b.title(pve.Verb(c.Verb))+" was not confirmed in time. Nothing was done.\nStill wanted? `vm "+c.Verb+"` asks again."
		if ctx.Err() != nil {
			how, outcome, text = withdrawn, "cancelled", "⏹ Withdrawn: the turn that asked for "+c.Verb+" ended. Nothing was done."
		}
		if b.Store.UseConfirmation(b.work, c.Nonce, "", outcome, time.Now()) == nil {
			b.record(b.work, Place(c.Place), auth.Person{}, "confirmation", c.Verb, outcome, c.Nonce)
			b.resolve(c.Nonce, reply{how: how}) // first the decision, then its looks
			b.closeCard(c.Nonce, text)
		}
		b.resolve(c.Nonce, reply{how: how})
	})
	if !started {
		cancel()
		b.resolve(c.Nonce, reply{how: withdrawn})
	}
	return p
}

// resolve ends the waiting for a confirmation, and says whether an agent takes the reply from here.
func (b *Bot) resolve(nonce string, r reply) bool {
	b.mu.Lock()
	p := b.pending[nonce]
	delete(b.pending, nonce)
	b.mu.Unlock()
	if p == nil {
		return false
	}
	p.reply <- r
	close(p.done)
	return p.agent
}

// replace closes an older open card for the same verb in the same thread: two of them would be two changes.
func (b *Bot) replace(c store.Confirmation) {
	for _, old := range b.Store.OpenConfirmations(b.work, time.Now()) {
		if old.Place == c.Place && old.Verb == c.Verb && b.Store.UseConfirmation(b.work, old.Nonce, "", "cancelled", time.Now()) == nil {
			b.resolve(old.Nonce, reply{how: withdrawn})
			b.start(func() { b.closeCard(old.Nonce, "↻ Replaced by a newer card below. Nothing was done.") })
		}
	}
}

// outdate closes the open cards that a change has overtaken: they show a state that is no more.
func (b *Bot) outdate(o operation) {
	for _, c := range b.Store.OpenConfirmations(b.work, time.Now()) {
		if b.Store.UseConfirmation(b.work, c.Nonce, "", "cancelled", time.Now()) == nil {
			b.resolve(c.Nonce, reply{how: outdated})
			text := fmt.Sprintf("↻ Withdrawn: a %s of %s by %s has changed what this card shows. Nothing was done here.", o.verb, b.VM.Name, plain(o.name, 40))
			b.start(func() { b.closeCard(c.Nonce, text) })
		}
	}
}

// code is a short code that no other open card of the channel has. Letters that look alike are left out.
func (b *Bot) code(p Place) string {
	const letters = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
	for {
		var raw [4]byte
		_, _ = rand.Read(raw[:]) // never fails since Go 1.24
		for i := range raw {
			raw[i] = letters[int(raw[i])%len(letters)]
		}
		raw[raw[1]%4] = letters[int(raw[0])%8] // a digit somewhere
		if _, taken := b.Store.ConfirmationByCode(b.work, p.Chat, p.Channel, string(raw[:])); !taken {
			return string(raw[:])
		}
	}
}

// state is what the host says of the VM, for a card. It is asked for, but not waited for longer than a moment.
func (b *Bot) state() string {
	ctx, cancel := context.WithTimeout(b.work, 2*time.Second)
	defer cancel()
	switch rep, err := b.Gate.Run(ctx, pve.Status, func(pve.Step) {}); {
	case err == nil:
		return plain(firstLine(rep.Result.Text), 90)
	case ctx.Err() == nil:
		return "its state is unknown: " + plain(message(err), 90)
	default:
		return "its state is unknown: the Proxmox host has not answered yet"
	}
}

// card shows the facts that a person decides on.
func (b *Bot) card(r request, c store.Confirmation, state string) string {
	who := plain(r.name, 40)
	if r.session != "" {
		who = "the agent, working for " + who
	}
	return fmt.Sprintf("🔴 %s? %s\nA %s %s.\nAsked by %s. %s\nOr type: `confirm %s` · `cancel %s` · open until %s",
		b.title(r.verb), state, r.verb, r.verb.Explain(), who, b.rule(r), c.Code, c.Code, c.Expires.Local().Format("15:04:05"))
}

func (b *Bot) rule(r request) string {
	switch b.Confirm.by(r.verb) {
	case auth.Other:
		return "A second person has to confirm."
	case auth.Any:
		return "Anybody on the allowlist may confirm."
	case auth.Requester:
	}
	return "Only " + plain(r.name, 40) + " may confirm."
}

// title is the verb as a button says it: "Cycle devvm".
func (b *Bot) title(v pve.Verb) string {
	return strings.ToUpper(string(v[:1])) + string(v[1:]) + " " + b.VM.Name
}

// confirm takes a click or a typed code. Everything is looked up in the record: the click carries only its nonce.
func (b *Bot) confirm(m Message, key string, yes bool) {
	var c store.Confirmation
	var ok bool
	if m.Click != "" {
		c, ok = b.Store.Confirmation(b.work, key)
	} else {
		c, ok = b.Store.ConfirmationByCode(b.work, m.Place.Chat, m.Place.Channel, key)
	}
	if !ok || c.Place.Chat != m.Place.Chat || c.Place.Channel != m.Place.Channel {
		b.answer(m, "There is no open confirmation like that here: it was answered, replaced or has expired, or the code is another. Nothing was done now; `vm status` says how things are.")
		return
	}
	if no := b.mayConfirm(m, c, yes); no != "" {
		b.record(b.work, m.Place, m.From, "confirm", c.Verb, "refused", no)
		b.answer(m, no)
		return
	}
	outcome, how := "confirmed", confirmed
	if !yes {
		outcome, how = "cancelled", cancelled
	}
	if err := b.Store.UseConfirmation(b.work, c.Nonce, m.From.String(), outcome, time.Now()); err != nil {
		b.answer(m, usedText(err, c))
		return
	}
	b.record(b.work, m.Place, m.From, "confirm", c.Verb, outcome, c.Nonce)
	waited := b.resolve(c.Nonce, reply{how: how, by: m.From})
	verb := pve.Verb(c.Verb)
	text := "☑ " + b.title(verb) + ": confirmed by " + plain(m.Name, 40) + "."
	if !yes {
		text = "✖ " + b.title(verb) + ": cancelled by " + plain(m.Name, 40) + ". Nothing was done."
	}
	b.start(func() { b.closeCard(c.Nonce, text) })
	if yes && !waited { // a person's verb, or one whose agent is gone since a restart
		_, _ = b.operate(operation{verb: verb, place: Place(c.Place), asked: c.Requester, confirmed: m.From.String(), name: m.Name}, nil)
	}
}

func (b *Bot) mayConfirm(m Message, c store.Confirmation, yes bool) (no string) {
	if c.VMID != b.VM.ID {
		return fmt.Sprintf("That card is for VM %d, and I serve VM %d now. Type the verb again.", c.VMID, b.VM.ID)
	}
	if !yes {
		return ""
	}
	by := b.Confirm.by(pve.Verb(c.Verb))
	var denied error
	for name := range strings.SplitSeq(c.Requester, ",") {
		requester, err := auth.ParsePerson(name)
		if err == nil {
			err = by.Check(requester, m.From)
		}
		switch {
		case err == nil && by != auth.Other: // one of those who asked is enough
			return ""
		case err != nil:
			denied = err // whoever asked is no second person
		}
	}
	if denied != nil {
		return message(denied)
	}
	return ""
}

// names is the record's form of the people who asked.
func names(people []auth.Person) string {
	var all []string
	for _, p := range people {
		all = append(all, p.String())
	}
	return strings.Join(all, ",")
}

func usedText(err error, c store.Confirmation) string {
	switch {
	case errors.Is(err, store.ErrExpired):
		return "That confirmation has expired; nothing was done. Type `vm " + c.Verb + "` again if you still want it."
	case errors.Is(err, store.ErrUsed):
		return "That confirmation was answered already; nothing more was done."
	default:
		return "That confirmation is not known here any more; nothing was done. Type `vm " + c.Verb + "` again."
	}
}

// closeCard takes the buttons off a card and says how it ended.
func (b *Bot) closeCard(nonce, text string) {
	c, ok := b.Store.Confirmation(b.work, nonce)
	if !ok || c.Card == "" {
		return
	}
	p := Place(c.Place)
	if err := b.out[p.Chat].settle(b.work, p, c.Card, Text{Body: text}); err != nil && !gone(err) {
		b.Log.Error("a card keeps its buttons", "place", p.String(), "err", err)
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
