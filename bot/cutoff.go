package bot

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// stillRunning is how often the host is asked whether it has ended what a former process began, and outOfSight how long it
// may give no answer meanwhile: one that is lost says nothing.
const (
	stillRunning = 3 * time.Second
	outOfSight   = 30 * time.Second
)

// cutOperation tells what became of a verb that the former process had started. The host goes on with a change although
// nobody listens any more; then its end is waited for.
func (b *Bot) cutOperation(o store.Operation) {
	p, v := Place(o.Place), pve.Verb(o.Verb)
	out := b.out[p.Chat]
	if out == nil {
		return
	}
	if o.Live != "" {
		state := fmt.Sprintf("⚠️ %s %s: cut by my restart; the result is below", v, b.VM.Name)
		if err := out.settle(b.work, p, o.Live, Text{Body: state}); err != nil && !gone(err) {
			b.Log.Error("a cut operation looks as if it ran", "place", p.String(), "err", err)
		}
	}
	report, err := b.ending(o)
	b.setOver(o.ID, true)
	b.unsee()
	t := b.cutText(o, report, err)
	if b.cut.Err() != nil {
		return
	}
	o.Ended, o.Exit, o.Text = time.Now(), int(pve.Broken), firstLine(t.Body)
	if lastOf(report.Result, o).done {
		o.Exit = int(pve.Done)
	}
	b.record(b.work, p, auth.Person{}, "restart", o.Verb, "operation cut", o.ID)
	t.Body += b.trouble()
	if b.told(p, t) {
		b.Store.EndOperation(b.work, o)
		b.setOver(o.ID, false)
	}
	b.redraw()
}

// ending asks the host how a cut operation ended, and waits for that.
func (b *Bot) ending(o store.Operation) (report pve.Report, err error) {
	began := time.Now()
	for seen := began; ; {
		report, err = b.Gate.Run(b.work, pve.Status, func(pve.Step) {})
		if err == nil && report.Result.Exit == pve.Busy { // others look
			err = &says{firstLine(report.Result.Text)}
		}
		if err == nil {
			seen = time.Now()
		}
		wait := err != nil && time.Since(seen) < outOfSight || err == nil && lastOf(report.Result, o).running
		if !wait || time.Since(began) > Limit() || sleep(b.cut, stillRunning) != nil {
			return report, err
		}
	}
}

// cutText is the result of a verb that was cut; report is a status of now. Its first line claims only what the host says
// of that very operation.
func (b *Bot) cutText(o store.Operation, report pve.Report, err error) Text {
	v, f, last := pve.Verb(o.Verb), factsOf(report.Result), lastOf(report.Result, o)
	who := fmt.Sprintf("%s by %s, op %s; I was restarted meanwhile", v, b.nameOf(o), plain(o.GateOp, 20))
	t := Text{Choices: b.nextChoices(f, pve.Status)}
	switch {
	case err != nil:
		t.Body = fmt.Sprintf("⚠️ I was restarted while `%s` ran; its outcome is unknown.%s", v, inChat(lines(message(err))))
		t.Choices = verbChoices()
		return t
	case last.done && v == pve.Stop:
		t.Body = fmt.Sprintf("⏹ %s is stopped (%s).", b.VM.Name, who)
	case last.done:
		t.Body = b.cutDone(v, who)
	case last.after != "":
		t.Body = fmt.Sprintf("⚠️ %s: op %s got to \"%s\" and was interrupted. %s", v, plain(o.GateOp, 20), plain(last.after, 30), b.VM.Name+last.next(f.Status))
	case last.ended != "":
		t.Body = fmt.Sprintf("⚠️ %s: op %s ended, and I was restarted meanwhile. The host says: %s", v, plain(o.GateOp, 20), plain(last.ended, 200))
	case !v.Changes():
		t.Body = fmt.Sprintf("⚠️ I was restarted while `%s` ran, and its answer is lost. Now:", v)
	default:
		t.Body = fmt.Sprintf("⚠️ I was restarted while `%s` ran; its outcome is unknown. The host says:", v)
	}
	t.Body += inChat(lines(f.Text))
	return t
}

// cutDone is the state after a change that the host has brought to its end: "back" is only what answers.
func (b *Bot) cutDone(v pve.Verb, who string) string {
	up := b.reached(operation{verb: v}, pve.Report{Result: pve.Result{Exit: pve.Done}}, nil, func(pve.Step) {})
	if up.err != nil {
		return fmt.Sprintf("🟠 %s is not back (%s): no SSH login.\n%s", b.VM.Name, who, plain(message(up.err), 400))
	}
	return up.inside.behind(fmt.Sprintf("✅ %s is back (%s). SSH answered.", b.VM.Name, who))
}

// lastOp is what the host says of one operation; see the gate's record for its words.
type lastOp struct {
	running, done bool
	after         string // the step that it got to before it was interrupted
	mend          string // and how to go on
	ended         string // how, if not well
}

var (
	interrupted = regexp.MustCompile("^ was interrupted after `?([^`,]*)`?, [^;]*; (.*)$")
	sayAgain    = regexp.MustCompile(`^say (\w+) to (?:finish it|begin again)$`)
)

// lastOf reads the newest operation of a status, if it is o.
func lastOf(r pve.Result, o store.Operation) (l lastOp) {
	_, text, ours := strings.Cut(oneLine(r.LastOp), ", op "+o.GateOp)
	if !ours || o.GateOp == "" {
		return l
	}
	if m := interrupted.FindStringSubmatch(text); m != nil {
		l.after, l.mend = m[1], m[2]
		return l
	}
	l.running, l.done = strings.HasPrefix(text, " is running"), strings.HasPrefix(text, ", done ")
	if ended, ok := strings.CutPrefix(text, ", "); ok && !l.done {
		l.ended = ended
	}
	return l
}

// next says how the VM is, and what the host would do.
func (l lastOp) next(status string) string {
	state := " is " + cutStatus(status)
	if m := sayAgain.FindStringSubmatch(l.mend); m != nil {
		return state + ": `vm " + m[1] + "` is next."
	}
	return state + ": " + plain(unticked(l.mend), 200) + "."
}

func cutStatus(status string) string {
	switch status {
	case "stopped":
		return "off"
	case "":
		return "in an unknown state"
	default:
		return plain(status, 30)
	}
}
