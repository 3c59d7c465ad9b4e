package bot

import (
	"context"
	"errors"
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
}

// reachWait is how long after a change the VM's SSH is waited for; a guest with a file system check takes its time.
const reachWait = 90 * time.Second

// verb runs a verb of a person: at once if it only looks, else after a confirmation.
func (b *Bot) verb(m Message, v pve.Verb) {
	if v.Changes() {
		b.offer(b.cut, request{place: m.Place, verb: v, requesters: []auth.Person{m.From}, name: m.Name})
		return
	}
	_, _ = b.operate(operation{verb: v, place: m.Place, asked: m.From.String(), name: m.Name}, nil)
}

// operate runs a verb and tells the thread, step by step and with a result of its own. Nothing here needs the model or a
// working store. A change goes on whatever happens to the turn or the chat: half a cycle is worse than a slow exit.
func (b *Bot) operate(o operation, step func(pve.Step)) (pve.Report, error) {
	if !b.beginVerb() {
		b.say(o.place, Text{Body: fmt.Sprintf("⏹ %s was not begun: I am restarting. Say it again in a minute.", o.verb)})
		return refusal(o.verb, "bgbot is restarting; nothing was done.")
	}
	rec := store.Operation{
		ID: uuid.NewString()[:8], Verb: string(o.verb), VMID: b.VM.ID, Place: store.Place(o.place),
		Actor: o.asked, Confirmer: o.confirmed, Began: time.Now(),
	}
	b.Store.BeginOperation(b.work, rec)
	b.recordVerb(o, "started", rec.ID)
	if o.verb.Changes() {
		b.outdate(o)
	}
	p := b.progress(o, rec.Began)
	report, err := b.Gate.Run(b.work, o.verb, func(s pve.Step) {
		p.add(s)
		if step != nil {
			step(s)
		}
	})
	up := b.reached(o, report, err, p.add)
	b.verbs.Done()

	took := time.Since(rec.Began)
	result := b.resultText(o, report, err, up, took)
	rec.Ended, rec.GateOp, rec.Exit, rec.Text = time.Now(), report.Result.Op, int(report.Result.Exit), firstLine(result.Body)
	b.recordVerb(o, firstLine(result.Body), rec.ID)
	if err != nil {
		b.Log.Error("verb failed", "verb", string(o.verb), "op", rec.ID, "err", err)
	}
	told := p.live == nil
	if !told {
		mark, _, _ := strings.Cut(result.Body, " ") // a refused verb must not look done
		p.close(fmt.Sprintf("%s %s %s · %s", mark, o.verb, b.VM.Name, span(took)))
		result.Body += b.trouble()
		told = b.say(o.place, result) != ""
	}
	if told { // otherwise the next start asks the host and tells the thread
		b.Store.EndOperation(b.work, rec)
	}
	return report, err
}

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
}

func (b *Bot) progress(o operation, began time.Time) *progress {
	p := &progress{view: &opView{verb: o.verb, vm: b.VM.Name, by: o.name, began: began}}
	if o.agent && !o.verb.Changes() {
		return p
	}
	delay := 700 * time.Millisecond // a quick answer needs no progress
	if o.verb.Changes() {
		delay = 0
	}
	p.live = b.out[o.place.Chat].show(b.work, o.place, delay, func() []Text {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.view.page(time.Now())
	}, nil)
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
	p.mu.Lock()
	p.view.over = state
	p.mu.Unlock()
	p.live.close()
}

// reach is what is known of the VM's SSH after a change.
type reach struct {
	asked bool
	err   error
	took  time.Duration
}

// reached looks, after a change that should leave the VM up, whether SSH answers: the gate's word alone is not "back".
func (b *Bot) reached(o operation, r pve.Report, err error, step func(pve.Step)) reach {
	up := o.verb == pve.Cycle || o.verb == pve.Start || o.verb == pve.Reset
	if !up || err != nil || r.Result.Exit != pve.Done && r.Result.Exit != pve.Unverified {
		return reach{}
	}
	began := time.Now()
	name := "SSH to " + b.VM.Name
	step(pve.Step{Step: name, State: pve.StepStart})
	ctx, cancel := context.WithTimeout(b.cut, reachWait) // shutdown waits for the verb, not for a guest that boots
	defer cancel()
	for {
		last := b.Reach(ctx)
		if last == nil {
			step(pve.Step{Step: name, State: pve.StepOK, Text: "answered"})
			return reach{asked: true, took: time.Since(began)}
		}
		lost, ok := errors.AsType[*pve.Unreachable](last)
		changed := ok && lost.Why == pve.HostKeyChanged // waiting does not change it back
		// A refused connection costs the guest nothing; a login each second is no sin for PerSourcePenalties (OpenSSH 9.8).
		if b.cut.Err() != nil {
			last = &says{"I am shutting down and did not wait for it."}
		}
		if changed || sleep(ctx, time.Second) != nil {
			step(pve.Step{Step: name, State: pve.StepFail, Text: message(last)})
			return reach{asked: true, err: last, took: time.Since(began)}
		}
	}
}

// resultText is the message a verb ends with. Its first line is the state and claims only what was looked at.
func (b *Bot) resultText(o operation, r pve.Report, err error, up reach, took time.Duration) Text {
	t := Text{Files: files(r)}
	who := fmt.Sprintf("%s by %s", o.verb, plain(o.name, 40))
	if r.Result.Op != "" {
		who += ", op " + plain(r.Result.Op, 20)
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(printable(r.Result.Text)), "\n")
	first = plain(first, 200)
	switch {
	case err != nil: // it has said all, the host's words included
		first, rest, _ = strings.Cut(message(err), "\n")
		t.Body = fmt.Sprintf("❌ %s: %s", o.verb, plain(first, 600))
	case !o.verb.Changes():
		t.Body = statusMark(r) + " " + b.VM.Name + ": " + first
	case r.Result.Exit == pve.Done && o.verb == pve.Stop:
		t.Body = fmt.Sprintf("⏹ %s is stopped after %s (%s).\n%s", b.VM.Name, span(took), who, first)
	case up.asked && up.err == nil && o.verb == pve.Start && strings.Contains(first, "already"):
		t.Body = fmt.Sprintf("✅ %s runs already; nothing was changed (%s). SSH answered.\n%s", b.VM.Name, who, first)
	case up.asked && up.err == nil:
		t.Body = fmt.Sprintf("✅ %s is back after %s (%s). SSH answered.\n%s", b.VM.Name, span(took), who, first)
	case up.asked:
		t.Body = fmt.Sprintf("🟠 %s was done, but SSH to %s does not answer (%s).\n%s\n%s", o.verb, b.VM.Name, who, plain(message(up.err), 400), first)
	default:
		t.Body = fmt.Sprintf("%s %s: %s (%s)", exitMark(r.Result.Exit), o.verb, first, who)
	}
	if rest = strings.TrimSpace(rest); strings.Count(rest, "\n") > 4 {
		t.Body += "\n" + block(cut(rest, 1500))
	} else if rest != "" {
		for line := range strings.Lines(rest) {
			t.Body += "\n" + plain(line, 300)
		}
	}
	if r.Result.Verdict != "" && !strings.Contains(r.Result.Text, r.Result.Verdict) {
		t.Body += "\n" + plain(r.Result.Verdict, 300)
	}
	switch {
	case o.verb == pve.Status && err == nil:
		t.Choices = b.nextChoices(r)
	case o.verb.Changes() && (err != nil || r.Result.Exit != pve.Done || up.err != nil):
		t.Choices = []Choice{b.verbChoice(pve.Status), b.verbChoice(pve.Forensics), b.verbChoice(pve.Cycle)}
		if o.verb == pve.Reset && err == nil {
			t.Body += "\nIf it stays so for a minute: `vm cycle`. A reset keeps the old QEMU process, a cycle starts a fresh one."
		}
	}
	return t
}

// nextChoices offers what fits the state: a stopped VM can be started, a running one looked into or cycled.
func (b *Bot) nextChoices(r pve.Report) []Choice {
	if r.Result.Status == "stopped" {
		return []Choice{b.verbChoice(pve.Start)}
	}
	return []Choice{b.verbChoice(pve.Forensics), b.verbChoice(pve.Reset), b.verbChoice(pve.Cycle)}
}

func (b *Bot) verbChoices() []Choice {
	return []Choice{b.verbChoice(pve.Status), b.verbChoice(pve.Forensics), b.verbChoice(pve.Cycle)}
}

// verbChoice is a button for a verb. A change is coloured as one, though all that the button does is ask.
func (b *Bot) verbChoice(v pve.Verb) Choice {
	label := strings.ToUpper(string(v[:1])) + string(v[1:])
	if v.Changes() {
		label += " …"
	}
	return Choice{ID: clickVerb + string(v), Label: label, Danger: v.Changes()}
}

func files(r pve.Report) []File {
	out := make([]File, 0, len(r.Files))
	for _, f := range r.Files {
		out = append(out, File(f))
	}
	return out
}

func statusMark(r pve.Report) string {
	switch {
	case r.Result.Verb == pve.Forensics:
		return "🔎"
	case r.Result.Exit != pve.Done:
		return exitMark(r.Result.Exit)
	case r.Result.Status == "running":
		return "🔵" // QEMU runs; that says nothing about the guest
	case r.Result.Status == "stopped":
		return "⏹"
	default:
		return "🟠"
	}
}

func exitMark(e pve.Exit) string {
	switch e {
	case pve.Done:
		return "✅"
	case pve.Busy, pve.Rejected, pve.Refused: // busy is no queue: nothing waits to be run
		return "⛔"
	case pve.Unverified:
		return "🟠"
	case pve.Failed, pve.Broken:
		return "❌"
	default:
		return "❌"
	}
}
