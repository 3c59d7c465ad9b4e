package bot

import (
	"context"
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
	replaced // by a newer card for the same
	outdated // by another change
)

// offer puts a card into the thread and returns at once; the card expires by itself, and when ctx ends it is withdrawn.
func (b *Bot) offer(ctx context.Context, r request) *pending {
	news := b.inquire()
	f, known := b.factsSoon(news) // before the clock of the card runs
	c := b.confirmation(r)
	p := b.open(ctx, r, &c, b.card(r, c, f))
	if !known {
		b.start(func() { b.complete(r, c, news) })
	}
	return p
}

// confirmation is a new record for a request.
func (b *Bot) confirmation(r request) store.Confirmation {
	now := time.Now()
	c := store.Confirmation{
		Nonce: uuid.NewString(), Code: b.code(r.place), Verb: string(r.verb), VMID: b.VM.ID, Place: store.Place(r.place),
		Requester: names(r.requesters), Session: r.session, Origin: "person", Made: now, Expires: now.Add(b.Confirm.TTL),
	}
	if r.session != "" {
		c.Origin = "agent"
	}
	return c
}

// open keeps c and puts its card into the thread.
func (b *Bot) open(ctx context.Context, r request, c *store.Confirmation, card Text) *pending {
	b.replace(*c)
	b.Store.AddConfirmation(b.work, *c)
	b.record(b.work, r.place, r.requesters[0], "ask", c.Verb, c.Nonce, c.Origin)
	p := b.await(ctx, *c, r.session != "")
	card.Key = c.Nonce
	c.Card = b.say(r.place, card)
	b.Store.SetCard(b.work, c.Nonce, c.Card)
	b.closeAnswered(*c) // before we knew the card's id
	b.redraw()
	return p
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
		how, outcome, text := expired, "expired", "⌛ Expired: "+b.title(pve.Verb(c.Verb))+" was not confirmed in time. Nothing was done.\nStill wanted? `"+again(pve.Verb(c.Verb))+"` asks again."
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
			b.resolve(old.Nonce, reply{how: replaced})
			b.start(func() { b.closeCard(old.Nonce, "↻ Replaced by a newer card below. Nothing was done.") })
		}
	}
}

// outdate forgets what was seen, and closes the open cards that a change has overtaken: they show a state that is no more.
func (b *Bot) outdate(o operation) {
	b.unsee()
	for _, c := range b.Store.OpenConfirmations(b.work, time.Now()) {
		if b.Store.UseConfirmation(b.work, c.Nonce, "", "cancelled", time.Now()) == nil {
			b.resolve(c.Nonce, reply{how: outdated})
			text := fmt.Sprintf("↻ Withdrawn: a %s of %s by %s has changed what this card shows. Nothing was done here.", o.verb, b.VM.Name, plain(o.name, 40))
			b.start(func() { b.closeCard(c.Nonce, text) })
		}
	}
}

// confirm takes a click or a typed code. Everything is looked up in the record: the click carries only its nonce.
func (b *Bot) confirm(m Message, key string, yes bool) {
	var c store.Confirmation
	var err error
	if m.Click != "" {
		c, err = b.Store.Confirmation(b.work, key)
	} else {
		c, err = b.Store.ConfirmationByCode(b.work, m.Place.Chat, m.Place.Channel, key)
	}
	if errors.Is(err, store.ErrUnread) { // it may be a good one, so this says nothing about it
		b.answer(m, unreadText+b.trouble())
		return
	}
	if err != nil || c.Place.Chat != m.Place.Chat || c.Place.Channel != m.Place.Channel {
		b.answer(m, b.noCard(m.Place))
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
	if m.onPage() { // closing the card draws it
		note := text
		if yes {
			note += " It goes on in its thread."
		}
		b.visit(m.From, note, time.Now())
	}
	b.start(func() { b.closeCard(c.Nonce, text) })
	switch {
	case !yes || waited:
	case verb == hostKeyVerb:
		b.acceptKey(m, c)
	default: // a person's verb, or one whose agent is gone since a restart
		b.tell(b.operate(operation{verb: verb, place: Place(c.Place), asked: c.Requester, confirmed: m.From.String(), name: m.Name}, nil))
	}
}

// noCard answers a code or a press behind which nothing is open. Who gave the same code twice must not think that the first
// did nothing.
func (b *Bot) noCard(p Place) string {
	if v := b.under(p); pve.Verb(v).Changes() {
		return "`" + v + "` is under way already; this did nothing more.\nThere is no open confirmation like that here any more."
	}
	return "There is no open confirmation like that here; nothing was done now.\n" +
		"It was answered, replaced or has expired, or the code is another; `vm status` says how things are."
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
	var asked string // whom that is about
	for name := range strings.SplitSeq(c.Requester, ",") {
		requester, err := auth.ParsePerson(name)
		if err == nil {
			err = by.Check(requester, m.From)
		}
		switch {
		case err == nil && by != auth.Other: // one of those who asked is enough
			return ""
		case err != nil:
			denied, asked = err, name // whoever asked is no second person
		}
	}
	if denied != nil {
		return strings.Replace(message(denied), asked, b.called(c.Requester), 1) // the policy knows IDs only
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

// unreadText answers a press or a code of which only the disk knows, while the disk does not answer.
const unreadText = "I cannot look that confirmation up just now, so nothing was done.\n" +
	"Try it once more in a moment, or type the verb again: a new card works without the old ones."

func usedText(err error, c store.Confirmation) string {
	switch {
	case errors.Is(err, store.ErrExpired) || c.Outcome == store.Expired:
		return "That confirmation has expired; nothing was done. Type `" + again(pve.Verb(c.Verb)) + "` if you still want it."
	case errors.Is(err, store.ErrUnread):
		return unreadText
	case errors.Is(err, store.ErrUsed):
		return "That confirmation was answered already; nothing more was done."
	default:
		return "That confirmation is not known here any more; nothing was done. Type `" + again(pve.Verb(c.Verb)) + "` again."
	}
}
