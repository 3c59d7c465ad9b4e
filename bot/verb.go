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
	by        auth.Person // who asked, or confirmed
	name      string
	requester string // who asked, where a confirmation was needed
	agent     bool   // the agent reads the report itself; only changes are shown in the thread
}

// reachWait is how long after a change the VM's SSH is waited for; a guest with a file system check takes its time.
const reachWait = 90 * time.Second

// verb runs a verb of a person: at once if it only looks, else after a confirmation.
func (b *Bot) verb(m Message, v pve.Verb) {
	if v.Changes() {
		b.offer(b.cut, request{place: m.Place, verb: v, requester: m.From, name: m.Name})
		return
	}
	_, _ = b.operate(operation{verb: v, place: m.Place, by: m.From, name: m.Name}, nil)
}

// operate runs a verb and tells the thread, step by step and with a result of its own. Nothing here needs the model or a
// working store. A change goes on whatever happens to the turn or the chat: half a cycle is worse than a slow exit.
func (b *Bot) operate(o operation, step func(pve.Step)) (pve.Report, error) {
	rec := store.Operation{
		ID: uuid.NewString()[:8], Verb: string(o.verb), VMID: b.VM.ID, Place: store.Place(o.place),
		Actor: o.by.String(), Confirmer: o.requester, Began: time.Now(),
	}
	b.Store.BeginOperation(b.work, rec)
	b.record(b.work, o.place, o.by, "verb", string(o.verb), "started", rec.ID)

	view := &opView{verb: o.verb, vm: b.VM.Name, by: o.name, began: rec.Began}
	var mu sync.Mutex // guards view
	var shown *live
	if !o.agent || o.verb.Changes() {
		delay := 700 * time.Millisecond // a quick answer needs no progress
		if o.verb.Changes() {
			delay = 0
		}
		shown = b.out[o.place.Chat].show(b.work, o.place, delay, func() []Text {
			mu.Lock()
			defer mu.Unlock()
			return view.page(time.Now())
		}, nil)
		defer shown.close()
	}
	report, err := b.Gate.Run(b.work, o.verb, func(s pve.Step) {
		mu.Lock()
		view.add(s, time.Now())
		mu.Unlock()
		if shown != nil {
			shown.touch()
		}
		if step != nil {
			step(s)
		}
	})
	reached := b.reached(o, report, err, func(s pve.Step) {
		mu.Lock()
		view.add(s, time.Now())
		mu.Unlock()
		shown.touch()
	})
	took := time.Since(rec.Began)
	result := b.resultText(o, report, err, reached, took)
	rec.Ended, rec.GateOp, rec.Exit, rec.Text = time.Now(), report.Result.Op, int(report.Result.Exit), firstLine(result.Body)
	b.Store.EndOperation(b.work, rec)
	b.record(b.work, o.place, o.by, "verb", string(o.verb), firstLine(result.Body), rec.ID)
	if err != nil {
		b.Log.Error("verb failed", "verb", string(o.verb), "op", rec.ID, "err", err)
	}
	if shown != nil {
		mu.Lock()
		mark, _, _ := strings.Cut(result.Body, " ") // a refused verb must not look done
		view.over = fmt.Sprintf("%s %s %s · %s", mark, o.verb, b.VM.Name, span(took))
		mu.Unlock()
		shown.close()
		result.Body += b.trouble()
		b.say(o.place, result)
	}
	return report, err
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
	ctx, cancel := context.WithTimeout(b.work, reachWait)
	defer cancel()
	for {
		last := b.Reach(ctx)
		if last == nil {
			step(pve.Step{Step: name, State: pve.StepOK, Text: "answered"})
			return reach{asked: true, took: time.Since(began)}
		}
		var key interface{ HostKeyChanged() bool }
		changed := errors.As(last, &key) && key.HostKeyChanged()
		// A refused connection costs the guest nothing; a login each second is no sin for PerSourcePenalties (OpenSSH 9.8).
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
	case err != nil:
		t.Body = fmt.Sprintf("❌ %s: %s", o.verb, message(err))
	case !o.verb.Changes():
		t.Body = statusMark(r) + " " + b.VM.Name + ": " + first
	case r.Result.Exit == pve.Done && o.verb == pve.Stop:
		t.Body = fmt.Sprintf("⏹ %s is stopped after %s (%s).\n%s", b.VM.Name, span(took), who, first)
	case up.asked && up.err == nil:
		t.Body = fmt.Sprintf("✅ %s is back after %s (%s). SSH answered.\n%s", b.VM.Name, span(took), who, first)
	case up.asked:
		t.Body = fmt.Sprintf("🟠 %s was done, but SSH to %s does not answer (%s).\n%s\n%s", o.verb, b.VM.Name, who, message(up.err), first)
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
	if o.verb == pve.Status && err == nil {
		t.Choices = b.nextChoices(r)
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

// verbChoice is a button for a verb. A change still asks for its confirmation, so no button is dangerous by itself.
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
		return "🟢"
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
