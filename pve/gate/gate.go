// Package gate is what runs on the Proxmox host when the bot's key logs in: one verb, on one VM, then it ends. It is the
// real boundary: it trusts nothing from the other side but the single word, proves what it claims, and finishes a change
// that it began whatever becomes of the connection. It knows no chat, no policy of persons and no network.
package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/host"
)

// tail is kept free of a verb's budget for the last words.
const tail = 10 * time.Second

// gate is one run.
type gate struct {
	settings
	verb pve.Verb
	op   string
	at   time.Time
	tell *teller
	log  *journal
	rec  record
	seen pve.Result // what was found out on the way, for the result

	qmHangs  bool   // it did not answer when it was asked for the configuration
	mark     string // the file that commands of a look are marked with, without its end
	heldBy   string // the lock of Proxmox that the evidence shows; empty if it shows none
	hasAgent bool   // the VM's configuration says so
}

// Main runs the gate and returns its exit code, a [pve.Exit]. argv is os.Args, the program's name first; environ is
// os.Environ(). It never blocks on stdout, stderr or a stuck disk, and returns within the verb's budget.
func Main(argv, environ []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if broken := recover(); broken != nil {
			_, _ = fmt.Fprintf(stderr, "pve-gate: %v\n%s", broken, debug.Stack())
			code = int(pve.Broken)
		}
	}()
	s, said, err := parse(argv, environ)
	switch {
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "pve-gate:", err)
		return int(pve.Broken)
	case said != "":
		_, _ = fmt.Fprintln(stdout, said)
		return int(pve.Done)
	}
	g := &gate{settings: s, at: time.Now().UTC(), log: &journal{path: s.journalFile(), most: maxJournal}}
	last := loadRecord(s)
	for g.op = mint(); g.op == last.Op; {
		g.op = mint()
	}
	g.tell = newTeller(s.format, g.op, stdout, stderr)
	result := g.run(last)
	g.tell.result(result)
	left := tail / 2
	if !g.verb.Changes() { // a change that is done has little to say, and its caller asks status if it does not hear it
		left = max(left, g.verb.Budget()-time.Since(g.at)-time.Second)
	}
	g.tell.close(left)
	return int(result.Exit)
}

// run does the verb and words its result.
func (g *gate) run(last record) pve.Result {
	g.verb = "none"
	ignored := ""
	verb, err := g.admit()
	if err == nil {
		g.verb = verb
		err = g.do(last)
		ignored = g.impostors()
	}
	end, ok := errors.AsType[*ending](err)
	if !ok {
		end = &ending{exit: pve.Broken, text: fmt.Sprintf("The gate itself failed: %v.", err)}
	}
	r := g.seen
	r.Verb, r.VMID, r.Op, r.Exit, r.Status = g.verb, g.vmid, g.op, end.exit, end.status
	r.Text = strings.TrimSpace(end.text + "\n" + ignored)
	r.LastOp, r.At = last.words(g.at), time.Now().UTC() // the same words as in a status, to the second
	return r
}

// admit decides whether this key may have this verb. The verb is the whole of what the client asked, byte for byte.
func (g *gate) admit() (pve.Verb, error) {
	verb, err := pve.ParseVerb(g.asked)
	switch {
	case err != nil && g.asked == "":
		err = ended(pve.Rejected, "No verb was given; use one of: %s. Nothing was run.", pve.Words())
	case err != nil:
		err = ended(pve.Rejected, "Rejected: %v. Nothing was run.", err)
	case !slices.Contains(g.allow, verb):
		err = ended(pve.Rejected, "Rejected: this key may not %s, only %s. Nothing was run.", verb, list(g.allow))
	}
	if err != nil {
		g.notice("rejected verb=%q", host.Cut(g.asked, 40))
		g.noteRejection()
		return "", err
	}
	return verb, nil
}

// noteRejection keeps what was asked apart from the changes: whoever knocks often must not push these out.
func (g *gate) noteRejection() {
	rejections := &journal{path: g.rejectionsFile(), most: maxRejections}
	asked := record{Op: g.op, Verb: host.Cut(g.asked, 40), Key: g.key, From: g.from, Began: g.at, Ended: g.at, Exit: pve.Rejected}
	if err := rejections.append(asked); err != nil {
		g.tell.step("journal", pve.StepFail, "the rejection is not kept on disk: "+err.Error())
	}
}

// do does an admitted verb. Its error is always the [*ending], a good one too.
func (g *gate) do(last record) error {
	ctx, cancel := context.WithTimeout(context.Background(), g.verb.Budget()-tail)
	defer cancel()
	who := "a key without a name"
	if g.key != "" {
		who = "key " + g.key
	}
	g.notice("accepted verb=%s", g.verb)
	g.tell.step("accepted", pve.StepOK, fmt.Sprintf("%s of VM %d, asked by %s", g.verb, g.vmid, who))
	if !g.verb.Changes() || g.dryRun {
		turn, err := g.takeTurn()
		if err != nil {
			return err
		}
		defer turn.release()
	}
	switch {
	case g.verb == pve.Status:
		return g.status(ctx, last)
	case g.verb == pve.Forensics:
		return g.evidence()
	case g.dryRun:
		return g.rehearse(ctx)
	}
	held, err := g.lock()
	if err != nil {
		return err
	}
	defer held.release()
	g.rec = record{Op: g.op, Verb: string(g.verb), Key: g.key, From: g.from, Began: g.at}
	g.rec.Gate = host.Self()
	g.step("lock", pve.StepOK, "no other change is running")
	err = g.change()
	g.finish(err)
	return err
}

// step reports one step of a change, once it is recorded.
func (g *gate) step(name string, state pve.State, format string, args ...any) {
	text := format
	if len(args) > 0 {
		text = fmt.Sprintf(format, args...)
	}
	if g.rec.Op == "" { // a verb that changes nothing
		g.tell.step(name, state, text)
		return
	}
	g.rec.note(name, state, time.Now().UTC())
	g.saveRecord() // first: what somebody was told, the next status knows
	g.tell.step(name, state, text)
	g.journal()
}

// finish records how the change ended.
func (g *gate) finish(err error) {
	g.rec.Ended = time.Now().UTC()
	g.rec.Exit = pve.Broken
	if end, ok := errors.AsType[*ending](err); ok {
		g.rec.Exit, g.rec.Text = end.exit, firstLine(end.text)
	}
	g.record()
	g.notice("ended verb=%s exit=%d: %s", g.verb, g.rec.Exit, g.rec.Text)
}

// record keeps the state of the change: in memory of the host first, then on its disk, which may be stuck.
func (g *gate) record() {
	g.saveRecord()
	g.journal()
}

func (g *gate) saveRecord() {
	if err := saveRecord(g.settings, g.rec); err != nil {
		g.tell.step("journal", pve.StepFail, err.Error())
	}
}

func (g *gate) journal() {
	if err := g.log.append(g.rec); err != nil {
		g.tell.step("journal", pve.StepFail, "the journal is not kept on disk: "+err.Error())
	}
}

// ending is how a verb ends: its exit code and its words, the first line being the state.
type ending struct {
	exit   pve.Exit
	text   string
	status string
}

func (e *ending) Error() string { return e.text }

func ended(exit pve.Exit, format string, args ...any) *ending {
	return &ending{exit: exit, text: fmt.Sprintf(format, args...)}
}

func (e *ending) withStatus(status string) *ending {
	e.status = status
	return e
}

func list(verbs []pve.Verb) string {
	var words []string
	for _, v := range verbs {
		words = append(words, string(v))
	}
	return strings.Join(words, ", ")
}

// lookWithQM is qm for a look, which may be repeated as long as the host is wedged.
func (g *gate) lookWithQM(ctx context.Context, limit time.Duration, verb string, args ...string) host.Said {
	return host.Once(ctx, limit, g.mark+".qm-"+verb, g.qmPath, append([]string{verb, fmt.Sprint(g.vmid)}, args...)...)
}

func (g *gate) qm(ctx context.Context, limit time.Duration, verb string, args ...string) host.Said {
	return host.Command(ctx, limit, g.qmPath, append([]string{verb, fmt.Sprint(g.vmid)}, args...)...)
}
