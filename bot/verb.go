package bot

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// operation is one run of a verb on the host, whoever asked: a person, a card or the agent.
type operation struct {
	verb      pve.Verb
	place     Place
	asked     string // the people who asked, as recorded
	confirmed string // the person who confirmed, where that was needed
	name      string // who is named in the thread
	agent     bool   // the agent reads the report itself; only changes are shown in the thread
	only      string // the ID of whoever alone sees the answer, outside of threads
}

// verb runs a verb of a person: at once if it only looks, else after a confirmation.
func (b *Bot) verb(m Message, v pve.Verb) {
	if v.Changes() {
		b.offer(b.cut, request{place: m.Place, verb: v, requesters: []auth.Person{m.From}, name: m.Name})
		return
	}
	o := operation{verb: v, place: m.Place, asked: m.From.String(), name: m.Name}
	switch {
	case m.onPage() && v == pve.Status: // the page says it
		b.home(m.From, "")
		return
	case m.Place.Thread == "" && v == pve.Status:
		o.only = m.From.ID
	}
	_, _ = b.operate(o, nil)
}

// operate runs a verb and tells the thread, step by step and with a result of its own. Nothing here needs the model or a
// working store. A change goes on whatever happens to the turn or the chat: half a cycle is worse than a slow exit.
func (b *Bot) operate(o operation, step func(pve.Step)) (pve.Report, error) {
	if !b.beginVerb() {
		b.say(o.place, Text{Body: fmt.Sprintf("⏹ %s was not begun: I am restarting. Say it again in a minute.", o.verb), Only: o.only})
		return refusal(o.verb, "bgbot is restarting; nothing was done.")
	}
	rec := store.Operation{
		ID: uuid.NewString()[:8], Verb: string(o.verb), VMID: b.VM.ID, Place: store.Place(o.place),
		Actor: o.asked, Confirmer: o.confirmed, Began: time.Now(),
	}
	if o.agent || o.confirmed == "" || o.confirmed == o.asked { // otherwise the name is that of who confirmed
		rec.Name = o.name
	}
	b.Store.BeginOperation(b.work, rec)
	b.recordVerb(o, "started", rec.ID)
	if o.verb.Changes() {
		b.outdate(o)
	}
	p := b.progress(o, rec)
	report, err := b.Gate.Run(b.work, o.verb, func(s pve.Step) {
		p.add(s)
		if rec.GateOp == "" && s.Op != "" {
			rec.GateOp = s.Op
			b.Store.UpdateOperation(b.work, rec.ID, "", s.Op)
		}
		if step != nil {
			step(s)
		}
	})
	if o.verb.Changes() {
		b.unsee()
	} else {
		b.saw(report.Result, err, rec.Began)
	}
	up := b.reached(o, report, err, p.add)
	b.verbs.Done()

	all := time.Since(rec.Began)
	took := all
	if !up.at.IsZero() { // looking into the VM afterwards is no part of how long it was away
		took = up.at.Sub(rec.Began)
	}
	result := b.resultText(o, report, err, up, took)
	rec.Ended, rec.GateOp, rec.Exit, rec.Text = time.Now(), cmp.Or(report.Result.Op, rec.GateOp), int(report.Result.Exit), firstLine(result.Body)
	b.recordVerb(o, firstLine(result.Body), rec.ID)
	if err != nil {
		b.Log.Error("verb failed", "verb", string(o.verb), "op", rec.ID, "err", err)
	}
	told := o.unseen()
	if !told {
		mark, _, _ := strings.Cut(result.Body, " ") // a refused verb must not look done
		p.close(fmt.Sprintf("%s %s %s · %s", mark, o.verb, b.VM.Name, span(all)))
		result.Body += b.trouble()
		result.Only = o.only
		told = b.say(o.place, result) != "" || o.only != "" // whoever misses an answer of their own asks again
	}
	if told { // otherwise the next start asks the host and tells the thread
		b.Store.EndOperation(b.work, rec)
	}
	if o.verb.Changes() {
		b.redraw()
	}
	b.start(func() { b.checkKey(o, report.Result, err, up.err) })
	return report, err
}

// unseen says that nobody in the chat is shown the operation: the agent looks.
func (o operation) unseen() bool { return o.agent && !o.verb.Changes() }

// under is the verb that is under way in a place, or nothing.
func (b *Bot) under(p Place) string {
	for _, o := range b.Store.OpenOperations(b.work) {
		if o.Place == store.Place(p) {
			return o.Verb
		}
	}
	return ""
}

// beginVerb lets a verb begin unless shutdown has; shutdown waits for those that began.
func (b *Bot) beginVerb() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return false
	}
	b.verbs.Add(1)
	return true
}

func (b *Bot) recordVerb(o operation, outcome, id string) {
	b.Store.Record(b.work, store.Entry{
		At: time.Now(), Actor: o.asked, Act: "verb", Chat: o.place.Chat, Channel: o.place.Channel, Thread: o.place.Thread,
		Subject: string(o.verb), Outcome: outcome, Text: strings.TrimSpace(id + " " + o.confirmed),
	})
}

// progress is the live message of a running verb; the agent's looking has none.
type progress struct {
	mu   sync.Mutex // guards view
	view *opView
	live *live
	wait func() // ends the waiting of whoever alone sees the answer
}

// slowAnswer is how long an answer may take without progress; a status takes one or two seconds.
const slowAnswer = 2500 * time.Millisecond

func (b *Bot) progress(o operation, rec store.Operation) *progress {
	p := &progress{view: &opView{verb: o.verb, vm: b.VM.Name, began: rec.Began}}
	switch {
	case o.unseen():
		return p
	case o.only != "": // what one person alone sees cannot be edited
		wait, end := context.WithCancel(b.work)
		p.wait = end
		b.start(func() {
			if sleep(wait, slowAnswer) == nil {
				b.say(o.place, Text{Body: fmt.Sprintf("⏳ %s: waiting for the Proxmox host; you will see its answer here.", o.verb), Only: o.only})
			}
		})
		return p
	}
	delay := slowAnswer
	if o.verb.Changes() {
		delay = 0
	}
	p.live = b.out[o.place.Chat].show(b.work, o.place, delay, func() []Text {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.view.page(time.Now())
	}, func(id string) { b.Store.UpdateOperation(b.work, rec.ID, id, "") })
	return p
}

func (p *progress) add(s pve.Step) {
	p.mu.Lock()
	p.view.add(s, time.Now())
	p.mu.Unlock()
	if p.live != nil {
		p.live.touch()
	}
}

func (p *progress) close(state string) {
	if p.live == nil {
		p.wait()
		return
	}
	p.mu.Lock()
	p.view.over = state
	p.mu.Unlock()
	p.live.close()
}
