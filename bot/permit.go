package bot

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"mvdan.cc/sh/v3/syntax"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// mostCommand is the longest command, in bytes, that the agent may run: what cannot be recorded whole is not run, and the
// parser recurses (200,000 opening parentheses overflow the stack, which no program survives).
const mostCommand = 8000

// permit answers the agent's question whether it may run a command. Every command is recorded before it runs. Here a
// power verb is recognised by its words, so that a person is asked before anything starts; a verb hidden from that (a
// variable, a script) is met again by the relay, which asks by itself. The words are a courtesy, the relay is the boundary.
func (b *Bot) permit(ctx context.Context, t *turn, q agentrun.Question) agentrun.Answer {
	deny := func(outcome, text string) agentrun.Answer {
		b.record(b.work, t.place, t.who, "command", t.id, outcome, q.Tool+": "+q.Command)
		return agentrun.Answer{Message: text}
	}
	if len(q.Command) > mostCommand {
		return deny("denied", "Denied: that command is too long to be recorded whole. Split it, or write the parts into files first.")
	}
	if q.Tool != "Bash" {
		return deny("denied", "Denied: only Bash, and Read, Grep and Glob inside the working folder and the runbooks, are open to you.")
	}
	var changes []pve.Verb
	for _, v := range powerVerbs(q.Command) {
		if v.Changes() {
			changes = append(changes, v)
		}
	}
	switch {
	case len(changes) == 0 || b.Power == Auto:
		b.record(b.work, t.place, t.who, "command", t.id, "allowed", q.Command)
		return agentrun.Answer{Allow: true}
	case b.Power == ReadOnly:
		return deny("denied", readOnlyText(changes[0]))
	case b.Power != Ask:
		return deny("denied", "Denied: agent.power is not set.")
	case len(changes) > 1:
		return deny("denied", "Denied: put one power verb in one command, so that a person can confirm just that one.")
	}
	v := changes[0]
	by, no := b.ask(ctx, t, v)
	if no != "" {
		return deny("not confirmed", no)
	}
	t.mu.Lock()
	t.passes[v] = pass{call: q.ID, by: by, given: time.Now()}
	t.mu.Unlock()
	b.record(b.work, t.place, t.who, "command", t.id, "confirmed", q.Command)
	return agentrun.Answer{Allow: true}
}

func readOnlyText(v pve.Verb) string {
	return fmt.Sprintf("Denied by policy: agent.power is readonly, and `%s` changes the VM. Say why it is needed; a person can type `vm %s` in the thread.", v, v)
}

// pass is a person's consent to one verb in one tool call of the agent.
type pass struct {
	call  string // the tool call that asked
	by    auth.Person
	given time.Time
}

// passLife is how soon after the consent the verb must reach the relay. A command that waits first asks again.
const passLife = 20 * time.Second

// ask asks the people of the turn's thread for a power verb of the agent. It returns who confirmed, or what to tell the
// agent. Silence is no consent, and the agent is told that it was silence.
func (b *Bot) ask(ctx context.Context, t *turn, v pve.Verb) (by auth.Person, no string) {
	personal := b.asked(t.place, v)
	t.mu.Lock()
	speakers, already := slices.Clone(t.speakers), personal || t.asking[v]
	if !already {
		t.asking[v] = true
	}
	t.mu.Unlock()
	if already {
		return by, fmt.Sprintf("A person is being asked about `%s` in this thread already; wait for that answer.", v)
	}
	defer func() {
		t.mu.Lock()
		delete(t.asking, v)
		t.mu.Unlock()
	}()
	p := b.offer(ctx, request{place: t.place, verb: v, requesters: speakers, name: t.name, session: t.session})
	reply := <-p.reply
	switch reply.how {
	case confirmed:
		return reply.by, ""
	case cancelled:
		return by, fmt.Sprintf("A person declined `%s`. Do not try it again unless asked; go on without it or say what else could help.", v)
	case expired:
		return by, fmt.Sprintf("Timed out: nobody answered within %s, so `%s` did not run. That is not a refusal: say what you would do and why, and end.", b.Confirm.TTL, v)
	case replaced:
		return by, fmt.Sprintf("`%s` did not run for you: a person has asked for it themselves meanwhile. Do not ask for it again; wait, and look with `ssh pve status` what came of theirs.", v)
	case outdated:
		return by, fmt.Sprintf("`%s` did not run: somebody else has changed the VM's power state meanwhile. Look anew before you decide.", v)
	case withdrawn:
	}
	return by, fmt.Sprintf("`%s` did not run: the turn is ending.", v)
}

// asked says that a person's own card for the verb is open here; the agent's never takes its place.
func (b *Bot) asked(p Place, v pve.Verb) bool {
	return slices.ContainsFunc(b.Store.OpenConfirmations(b.work, time.Now()), func(c store.Confirmation) bool {
		return c.Place == store.Place(p) && c.Verb == string(v) && c.Origin == "person"
	})
}

// Relay is what `ssh pve VERB` of a session may do: the same path, lock and record as a button.
func (b *Bot) Relay(session string) func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error) {
	return func(ctx context.Context, v pve.Verb, step func(pve.Step)) (pve.Report, error) {
		if !b.admit() {
			return refusal(v, "bgbot is restarting; nothing was done.")
		}
		defer b.wg.Done()
		t := b.turnOf(session)
		if t == nil {
			return refusal(v, "No turn is running in this thread, so its agent may not use the Proxmox host.")
		}
		by, no := b.relayed(t, v)
		if no != "" {
			b.denied(t, denial{v, no})
			return refusal(v, no)
		}
		if !v.Changes() {
			select {
			case b.looks <- struct{}{}:
				defer func() { <-b.looks }()
			case <-ctx.Done():
				return refusal(v, "Nobody waited for its turn to look; nothing was asked of the host.")
			case <-t.over.Done():
				return refusal(v, "The turn is ending; nothing was asked of the host.")
			}
		}
		o := operation{verb: v, place: t.place, asked: t.who.String(), name: "the agent for " + t.name, agent: true}
		if by != (auth.Person{}) {
			o.confirmed = by.String()
		}
		r := b.operate(o, step)
		b.tellBehind(t, r) // the agent does not wait for a chat that takes nothing just now
		said := firstLine(r.report.Result.Text)
		if !v.Changes() {
			said, _ = factsOf(r.report.Result).line(80)
		}
		t.mu.Lock()
		t.verdict, t.verdictOf = b.safe(said), v
		t.mu.Unlock()
		return r.report, r.err
	}
}

// tellBehind tells the result of an agent's verb; the turn's answer comes after it.
func (b *Bot) tellBehind(t *turn, r ran) {
	done := make(chan struct{})
	tell := func() { defer close(done); b.tell(r) }
	t.mu.Lock()
	t.telling = append(t.telling, done)
	t.mu.Unlock()
	if !b.start(tell) {
		tell()
	}
}

// relayed decides on a verb of the agent: who confirmed it, where that is needed, or what to tell the agent.
func (b *Bot) relayed(t *turn, v pve.Verb) (by auth.Person, no string) {
	if !v.Changes() {
		return by, ""
	}
	t.mu.Lock()
	given, passed := t.passes[v]
	passed = passed && time.Since(given.given) < passLife
	delete(t.passes, v)
	stopping := t.stopped != nil
	t.mu.Unlock()
	switch {
	case stopping:
		return by, "The turn is being stopped; nothing was done."
	case b.Power == Auto, b.Power == Ask && passed:
		return given.by, ""
	case b.Power == Ask:
		return b.ask(t.over, t, v)
	default:
		return by, readOnlyText(v)
	}
}

func refusal(v pve.Verb, why string) (pve.Report, error) {
	return pve.Report{Result: pve.Result{Verb: v, Exit: pve.Rejected, Text: why}}, nil
}

func (b *Bot) turnOf(session string) *turn {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.turns {
		if t.session == session {
			return t
		}
	}
	return nil
}

// dropPasses forgets what a tool call was let through for, once it has ended.
func (t *turn) dropPasses(call string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for v, p := range t.passes {
		if p.call == call {
			delete(t.passes, v)
		}
	}
}

// powerVerbs finds the verbs that a Bash command gives to `ssh pve`, also behind timeout, sudo, or inside bash -c '…'. One
// that is too long to be run is not read either.
func powerVerbs(command string) []pve.Verb {
	if len(command) > mostCommand {
		return nil
	}
	return verbsIn(command, 0)
}

func verbsIn(command string, depth int) []pve.Verb {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(command), "")
	if err != nil || depth > 3 {
		return verbsOf(strings.Fields(command))
	}
	var found []pve.Verb
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok {
			return true
		}
		var words []string
		for _, w := range call.Args {
			word := literal(w)
			if strings.ContainsAny(word, " \t\n;") {
				found = append(found, verbsIn(word, depth+1)...)
			}
			words = append(words, word)
		}
		found = append(found, verbsOf(words)...)
		return true
	})
	slices.Sort(found)
	return slices.Compact(found)
}

// verbsOf finds "ssh … pve … VERB" in the words of one command.
func verbsOf(words []string) []pve.Verb {
	ssh := slices.IndexFunc(words, func(w string) bool { return path.Base(w) == "ssh" })
	if ssh < 0 {
		return nil
	}
	host := slices.Index(words[ssh:], "pve")
	if host < 0 {
		return nil
	}
	var found []pve.Verb
	for _, w := range words[ssh+host+1:] {
		for f := range strings.FieldsSeq(w) {
			if v, err := pve.ParseVerb(f); err == nil {
				found = append(found, v)
			}
		}
	}
	return found
}

// literal is a word without its quotes; what only the shell knows (a variable, a substitution) is left out.
func literal(w *syntax.Word) string {
	var b strings.Builder
	var add func(parts []syntax.WordPart)
	add = func(parts []syntax.WordPart) {
		for _, p := range parts {
			switch p := p.(type) {
			case *syntax.Lit:
				b.WriteString(strings.ReplaceAll(p.Value, `\`, ""))
			case *syntax.SglQuoted:
				b.WriteString(p.Value)
			case *syntax.DblQuoted:
				add(p.Parts)
			}
		}
	}
	add(w.Parts)
	return b.String()
}
