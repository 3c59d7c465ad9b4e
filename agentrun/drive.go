package agentrun

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// lateLimit is how long a turn with a result waits for the CLI to take up a message that came late.
const lateLimit = 10 * time.Second

// drive is a turn that has a process. All of it belongs to one goroutine.
type drive struct {
	t      *Turn
	r      *Runner
	p      *process
	reader *reader

	questions map[string]*asking // open ones, by request id
	answers   chan given
	deaf      chan struct{} // closed when nobody takes answers any more

	mine    bool // the CLI has begun with the prompt
	running bool // the CLI is at work on something of ours
	result  *Result
	late    *time.Timer // armed while a result waits for messages said late
	start   *time.Timer // armed until the CLI says init
	silence silence
}

// silence is the watch for a turn of which nothing is heard.
type silence struct {
	timer *time.Timer
	first time.Duration
	next  time.Duration
	since time.Time
}

func (s *silence) broken() {
	s.since, s.next = time.Now(), s.first
	s.timer.Reset(s.first)
}

func (s *silence) again() {
	s.next *= 2
	s.timer.Reset(s.next)
}

func newDrive(t *Turn, p *process) *drive {
	d := &drive{
		t: t, r: t.r, p: p, reader: newReader(p.resumed || p.used),
		questions: map[string]*asking{}, answers: make(chan given), deaf: make(chan struct{}),
		late: time.NewTimer(lateLimit), start: time.NewTimer(t.r.startLimit),
	}
	d.late.Stop()
	first := t.r.cfg.StallNotice
	d.silence = silence{timer: time.NewTimer(first), first: first, next: first, since: time.Now()}
	return d
}

// run writes the prompt and follows the turn to its end. Without an error the turn ended by itself and d.result is set.
func (d *drive) run() error {
	defer close(d.deaf)
	defer d.late.Stop()
	defer d.start.Stop()
	defer d.silence.timer.Stop()
	limit := time.AfterFunc(d.r.cfg.TurnTimeout, func() {
		d.t.cancel(&Ended{Reason: fmt.Sprintf("The turn took longer than %s (agent.turn_timeout) and was stopped.", d.r.cfg.TurnTimeout)})
	})
	defer limit.Stop()
	if err := d.t.begin(d.p); err != nil {
		return err
	}
	for {
		select {
		case m, ok := <-d.p.lines:
			if !ok {
				return d.p.died("in the middle of the turn")
			}
			d.silence.broken()
			if over, err := d.hear(m); over || err != nil {
				return err
			}
		case g := <-d.answers:
			d.decided(g)
			d.silence.broken()
		case <-d.silence.timer.C:
			d.notice()
		case <-d.start.C:
			return &Ended{Reason: fmt.Sprintf("The claude CLI did not begin with the message within %s and was ended.", d.r.startLimit)}
		case <-d.late.C:
			d.t.close()
			d.t.events.add(Notice{Text: "The agent did not take up the last message; send it again."})
			return nil
		case <-d.t.ctx.Done():
			return because(d.t.ctx)
		}
	}
}

// hear takes in what the CLI says. over means that the turn has ended by itself.
func (d *drive) hear(m any) (over bool, err error) {
	switch m := m.(type) {
	case *lifecycleLine:
		return d.lifecycle(m)
	case *askLine:
		d.question(m)
		return false, nil
	case *withdrawLine:
		d.withdraw(m.ID)
		return false, nil
	case *initLine:
		if err := d.r.cfg.verify(m, d.p.session); err != nil {
			return false, err
		}
		if d.mine {
			d.start.Stop()
		}
	}
	if !d.mine {
		return false, nil // a turn that nobody asked for, such as one after a command that ended late
	}
	for _, e := range d.reader.read(m, time.Now()) {
		d.t.events.add(e)
	}
	if res, ok := m.(*resultLine); ok {
		d.start.Stop()
		d.conclude(res)
		return d.settled(), nil
	}
	return false, nil
}

// lifecycle follows our messages through the CLI. One that it has seen before, in an earlier process too, is completed
// without having been started, or, in the same process, not mentioned at all (measured with CLI 2.1.330).
func (d *drive) lifecycle(m *lifecycleLine) (over bool, err error) {
	if m.ID == d.t.uuid {
		switch {
		case m.State == "started":
			d.mine, d.running = true, true
		case m.State == "completed" && !d.mine:
			return false, ErrRepeated
		}
		return false, nil
	}
	id, ours := d.t.taken(m)
	if ours && m.State == "started" {
		d.running = true
		d.late.Stop()
		d.t.events.add(Folded{Message: id})
	}
	return d.settled(), nil
}

// settled says whether all that was said is answered, and if so closes the turn for more.
func (d *drive) settled() bool {
	if d.result == nil || d.running {
		return false
	}
	if d.t.closeIfQuiet() {
		return true
	}
	d.late.Reset(lateLimit)
	return false
}

// conclude adds a result of the CLI to that of the turn: one that answers late messages too has several.
func (d *drive) conclude(res *resultLine) {
	d.running = false
	out := d.result
	if out == nil {
		out = &Result{}
		d.result = out
	}
	out.Steps += res.Steps
	for _, usage := range res.Usage {
		out.Cost += usage.USD
	}
	out.Took = time.Since(d.t.began)
	if res.IsError || res.Subtype != "success" {
		d.p.spent = d.p.spent || res.Subtype == "error_max_budget_usd"
		out.Failed, out.Text = true, ""
		out.Reason, out.Model = d.r.cfg.explain(res, d.reader.kind, d.p.model)
		return
	}
	if out.Failed {
		out.Failed, out.Reason, out.Model = false, "", false
	}
	out.Text = strings.TrimSpace(out.Text + "\n\n" + clean(res.Result))
}

// notice says that nothing was heard. A person who thinks about a question is not a stall.
func (d *drive) notice() {
	if len(d.questions) > 0 {
		d.silence.broken()
		return
	}
	defer d.silence.again()
	silent := spoken(time.Since(d.silence.since))
	busy := d.reader.busy()
	if len(busy) == 0 {
		d.t.events.add(Notice{Text: "Nothing heard from the model for " + silent + "." + verbsWork, Model: true})
		return
	}
	var names []string
	for _, tool := range busy {
		line, _, more := strings.Cut(tool.Input, "\n")
		if runes := []rune(line); len(runes) > 80 {
			line, more = string(runes[:80]), true
		}
		if more {
			line += " …"
		}
		names = append(names, "`"+strings.ReplaceAll(line, "`", "'")+"`")
	}
	d.t.events.add(Notice{Text: fmt.Sprintf("Nothing heard for %s; running: %s.", silent, strings.Join(names, ", "))})
}

// spoken is a duration for a person.
func spoken(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// verify refuses a CLI that is not what was asked for: settings with a mistake in them are silently ignored (measured
// with CLI 2.1.330), and so the only proof is what it says about itself.
func (c *Config) verify(m *initLine, session string) error {
	have := slices.Sorted(slices.Values(m.Tools))
	want := slices.Sorted(slices.Values(tools()))
	wrong := ""
	switch {
	case m.Version != c.Version:
		wrong = fmt.Sprintf("its version is %s and not %s: install the pinned one or set agent.command to it", m.Version, c.Version)
	case !slices.Equal(have, want):
		wrong = fmt.Sprintf("its tools are %q and not %q", have, want)
	case m.PermissionMode != "default":
		wrong = fmt.Sprintf("its permission mode is %q and not \"default\"", m.PermissionMode)
	case len(m.MCPServers) > 0:
		wrong = "MCP servers are connected and none was asked for"
	case m.SessionID != session:
		wrong = fmt.Sprintf("its session is %s and not %s", m.SessionID, session)
	default:
		return nil
	}
	return &Ended{Reason: "The claude CLI is not run, because " + strings.TrimSuffix(wrong, ".") + "."}
}

// strays ends what commands of the turn left running, now that it has ended by itself.
func (d *drive) strays() {
	found := newTally()
	found.prove(d.p.kin)
	d.p.swept.merge(found)
	d.t.stopped = found.stopped(d.p, 0)
	switch n := found.ended(); n {
	case 0:
	case 1:
		d.t.events.add(Notice{Text: "A process that the agent had left running was ended."})
	default:
		d.t.events.add(Notice{Text: fmt.Sprintf("%d processes that the agent had left running were ended.", n)})
	}
}
