package agentrun

import (
	"context"
	"encoding/json"
	"time"
)

// What the agent reads when a command is refused here.
const (
	denyOver      = "The turn is over; nothing more runs."
	denyStopping  = "The turn is being stopped; nothing more runs."
	denyTool      = "This tool is not available here."
	denyMalformed = "The command could not be read, so it did not run."
	denyNoGate    = "Nobody is there to allow commands, so it did not run."
	denySilently  = "It was not allowed, so it did not run."
)

// asking is an open question.
type asking struct {
	ask    *askLine
	cancel context.CancelFunc
}

// given is what the gate said to a question.
type given struct {
	to     *asking
	answer Answer
}

// question answers what the CLI asks: at once where there is nothing to decide, else when the gate has decided. All that
// is not a well-formed Bash command is denied. The CLI waits for an answer without limit, and several may be open.
func (d *drive) question(m *askLine) {
	q, why := d.read(m)
	if why != "" {
		d.deny(m, why)
		return
	}
	ctx, cancel := context.WithCancel(d.t.ctx)
	a := &asking{ask: m, cancel: cancel}
	d.questions[m.ID] = a
	d.t.asking.Go(func() {
		answer := d.t.gate(ctx, q)
		select {
		case d.answers <- given{a, answer}:
		case <-d.deaf:
		}
		cancel()
	})
}

// read turns a request into a question for the gate, or says why it is denied.
func (d *drive) read(m *askLine) (q Question, deny string) {
	var input struct {
		Command     *string `json:"command"`
		Description string  `json:"description"`
	}
	switch {
	case d.t.ctx.Err() != nil:
		return q, denyStopping
	case !d.mine:
		return q, denyOver
	case m.Request.Subtype != "can_use_tool" || m.Request.Tool != "Bash":
		return q, denyTool
	case json.Unmarshal(m.Request.Input, &input) != nil || input.Command == nil || m.Request.ToolUseID == "":
		return q, denyMalformed
	case d.questions[m.ID] != nil:
		return q, denyMalformed
	case d.t.gate == nil:
		return q, denyNoGate
	}
	return Question{
		Session: d.t.prompt.Session, ID: m.Request.ToolUseID, Tool: m.Request.Tool,
		Command: *input.Command, Purpose: clean(input.Description), Input: m.Request.Input,
	}, ""
}

// decided passes on what the gate said, unless the question was withdrawn in the meantime.
func (d *drive) decided(g given) {
	ask := g.to.ask
	if d.questions[ask.ID] != g.to {
		return
	}
	delete(d.questions, ask.ID)
	switch {
	case d.t.ctx.Err() != nil:
		d.deny(ask, denyStopping)
	case g.answer.Allow:
		d.reader.allowed(ask.Request.ToolUseID, time.Now())
		d.reply(sayAllow(ask.ID, ask.Request.Input))
	case g.answer.Message == "":
		d.deny(ask, denySilently)
	default:
		d.deny(ask, g.answer.Message)
	}
}

func (d *drive) deny(m *askLine, why string) {
	d.reader.denied(m.Request.ToolUseID)
	d.reply(sayDeny(m.ID, why))
}

// withdraw ends a question that the CLI takes back.
func (d *drive) withdraw(id string) {
	if a := d.questions[id]; a != nil {
		delete(d.questions, id)
		a.cancel()
	}
}

// reply writes to the CLI. If that fails the CLI has ended or hangs; both end the turn in their own way, and an
// unanswered question is a denied one.
func (d *drive) reply(m any) {
	if err := d.p.send(m); err != nil {
		d.r.cfg.Log.Warn("the claude CLI does not take an answer", "error", err, "session", d.t.prompt.Session)
	}
}
