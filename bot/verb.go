package bot

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
	b.tell(b.operate(o, nil))
}

// ran is an operation that has ended on the host.
type ran struct {
	operation
	rec    store.Operation
	shown  *progress // nil: it was not begun, and who asked knows
	report pve.Report
	err    error
	up     reach
}

// operate runs a verb, step by step in the thread; its result is for tell. Nothing here needs the model or a working store.
// A change goes on whatever happens to the turn or the chat: half a cycle is worse than a slow exit.
func (b *Bot) operate(o operation, step func(pve.Step)) ran {
	if !b.beginVerb() {
		b.say(o.place, Text{Body: fmt.Sprintf("⏹ %s was not begun: I am restarting. Say it again in a minute.", o.verb), Only: o.only})
		report, err := refusal(o.verb, "bgbot is restarting; nothing was done.")
		return ran{operation: o, report: report, err: err}
	}
	defer b.verbs.Done()
	rec := store.Operation{
		ID: uuid.NewString(), Verb: string(o.verb), VMID: b.VM.ID, Place: store.Place(o.place),
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
	if err != nil {
		b.Log.Error("verb failed", "verb", string(o.verb), "op", rec.ID, "err", err)
	}
	if o.verb.Changes() {
		b.unsee()
	} else {
		b.saw(report.Result, err, rec.Began)
	}
	up := b.reached(o, report, err, p.add)
	rec.Ended, rec.GateOp, rec.Exit = time.Now(), cmp.Or(report.Result.Op, rec.GateOp), int(report.Result.Exit)
	return ran{operation: o, rec: rec, shown: p, report: report, err: err, up: up}
}

// tell ends an operation in the thread, with a result of its own. It waits for the chat, however long that takes none.
func (b *Bot) tell(r ran) {
	if r.shown == nil {
		return
	}
	b.setOver(r.rec.ID, true)
	all := r.rec.Ended.Sub(r.rec.Began)
	took := all
	if !r.up.at.IsZero() { // looking into the VM afterwards is no part of how long it was away
		took = r.up.at.Sub(r.rec.Began)
	}
	result := b.resultText(r.operation, r.report, r.err, r.up, took)
	r.rec.Text = firstLine(result.Body)
	b.recordVerb(r.operation, r.rec.Text, r.rec.ID)
	told := r.unseen()
	if !told {
		mark, _, _ := strings.Cut(result.Body, " ") // a refused verb must not look done
		r.shown.close(fmt.Sprintf("%s %s %s · %s", mark, r.verb, b.VM.Name, span(all)))
		result.Body += b.trouble()
		result.Only = r.only
		told = b.told(r.place, result) || r.only != "" // whoever misses an answer of their own asks again
	}
	if told { // otherwise the next start asks the host and tells the thread
		b.Store.EndOperation(b.work, r.rec)
		b.setOver(r.rec.ID, false)
	}
	if r.verb.Changes() {
		b.redraw()
	}
	b.start(func() { b.checkKey(r.operation, r.report.Result, r.err, r.up.err) })
}

// unseen says that nobody in the chat is shown the operation: the agent looks.
func (o operation) unseen() bool { return o.agent && !o.verb.Changes() }

// setOver notes that an operation is over on the host, for as long as the store has it open: the chat may not have
// its result yet.
func (b *Bot) setOver(id string, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if over {
		b.over[id] = true
	} else {
		delete(b.over, id)
	}
}

// under is the verb that is under way in a place, a change before any other, or nothing.
func (b *Bot) under(p Place) (verb string) {
	for _, o := range b.underWay() {
		if o.Place == store.Place(p) && (verb == "" || pve.Verb(o.Verb).Changes()) {
			verb = o.Verb
		}
	}
	return verb
}

// underWay are the operations that run on the host, as far as it is known.
func (b *Bot) underWay() []store.Operation {
	open := b.Store.OpenOperations(b.work)
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(open, func(o store.Operation) bool { return b.over[o.ID] })
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
