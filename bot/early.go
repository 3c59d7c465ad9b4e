package bot

import (
	"fmt"
	"slices"
	"time"

	"bgbot/internal/store"
)

// openerWait is how long a reply waits for the message that began its thread. A service that delivers over several
// connections promises no order, and Slack sends again after 3 s what was under way on one that died.
const openerWait = 3 * time.Second

// early is a reply in a thread that is not ours, and will perhaps be in a moment.
type early struct {
	Message
	command
	act chan func() // what to do with it once its thread has begun; capacity 1. Closed when the thread was told that it was cut
}

// early has a reply wait for the message that began its thread, which it may have overtaken; then it is judged anew. It is
// acknowledged meanwhile, so it is kept as a turn that has not begun: a restart tells of it.
func (b *Bot) early(m Message, c command) (act func()) {
	e := &early{m, c, make(chan func(), 1)}
	id := earlyID + promptID(m)
	b.Store.BeginTurn(b.work, store.Turn{
		ID: id, Place: store.Place(m.Place), Message: m.ID, Actor: m.From.String(), Prompt: cut(b.safe(m.Text), 2000), Began: time.Now(),
	})
	if !b.queues(e) {
		b.Store.EndTurn(b.work, id)
		return b.judgedAtLast(m, c)
	}
	return func() { b.waits(e) }
}

const earlyID = "early/"

// queues puts a reply behind those that wait, unless nobody does and its thread has just begun.
func (b *Bot) queues(e *early) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.adopted[e.Place] && !b.queued(e.Place) {
		return false
	}
	b.waiting[e.Place] = append(b.waiting[e.Place], e)
	return true
}

// queued says that replies in a thread wait, or are being judged after having waited. The caller locks.
func (b *Bot) queued(p Place) bool { return b.begins[p] || len(b.waiting[p]) > 0 }

// waited is queued for who does not lock.
func (b *Bot) waited(p Place) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queued(p)
}

// waits acts on a reply when its thread has begun, or says that it will not.
func (b *Bot) waits(e *early) {
	timer := time.NewTimer(openerWait)
	defer timer.Stop()
	var act func()
	select {
	case act = <-e.act:
	case <-timer.C:
	case <-b.cut.Done():
	}
	switch {
	case act != nil:
	case !b.gaveUp(e):
		act = <-e.act
	case b.cut.Err() != nil:
		b.cutEarly(e.Place, append(b.cutWith(e.Place), earlyID+promptID(e.Message)), cutNow)
		return
	default:
		act = b.judgedAtLast(e.Message, e.command)
	}
	if act == nil {
		return
	}
	b.Store.EndTurn(b.work, earlyID+promptID(e.Message))
	act()
}

// gaveUp takes a reply from those that wait, unless somebody has.
func (b *Bot) gaveUp(e *early) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := slices.Index(b.waiting[e.Place], e)
	if n < 0 || b.begins[e.Place] { // then it is judged at once
		return false
	}
	b.waiting[e.Place] = slices.Delete(b.waiting[e.Place], n, n+1)
	if len(b.waiting[e.Place]) == 0 {
		delete(b.waiting, e.Place)
	}
	return true
}

// begin has replies in a thread wait until opens: none may go before the message that begins it.
func (b *Bot) begin(p Place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begins[p] = true
}

// opens judges the replies that came before what began their thread, in the order in which they came.
func (b *Bot) opens(p Place) {
	for waiting := b.next(p); len(waiting) > 0; waiting = b.next(p) {
		for _, e := range waiting {
			e.act <- b.judgedAtLast(e.Message, e.command)
		}
	}
}

// next takes the replies that wait in a thread; when there are none, no others need to wait.
func (b *Bot) next(p Place) []*early {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting := b.waiting[p]
	delete(b.waiting, p)
	if len(waiting) == 0 {
		delete(b.begins, p)
	}
	return waiting
}

// judgedAtLast is judged for a reply that has waited.
func (b *Bot) judgedAtLast(m Message, c command) (act func()) {
	act, ours := b.judged(m, c)
	if !ours {
		return func() { b.answer(m, notOurs) }
	}
	return act
}

// cutWith takes the other replies that a shutdown cuts in a thread, so that one message tells of all.
func (b *Bot) cutWith(p Place) (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.waiting[p] {
		ids = append(ids, earlyID+promptID(e.Message))
		close(e.act)
	}
	delete(b.waiting, p)
	return ids
}

// cutEarly tells the thread that the end of the process cut the wait of replies: where they belong was not known yet.
func (b *Bot) cutEarly(p Place, ids []string, text func(n int) string) {
	if len(ids) == 0 || b.out[p.Chat] == nil { // as in cutTurn
		return
	}
	if !b.told(p, Text{Body: text(len(ids))}) {
		return
	}
	for _, id := range ids {
		b.Store.EndTurn(b.work, id)
	}
}

func cutNow(n int) string {
	if n == 1 {
		return "⚠️ I am shutting down; a message here did not reach the agent.\nSay it again when I am back."
	}
	return fmt.Sprintf("⚠️ I am shutting down; %d messages here did not reach the agent.\nSay them again when I am back.", n)
}

func cutBefore(n int) string {
	if n == 1 {
		return "⚠️ I was restarted, and a message here did not reach the agent. Say it again."
	}
	return fmt.Sprintf("⚠️ I was restarted, and %d messages here did not reach the agent. Say them again.", n)
}
