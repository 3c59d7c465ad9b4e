package pve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// pace is how much time the parts of a run have.
type pace struct {
	budget   func(Verb) time.Duration
	link     time.Duration // to get to the host, before the gate begins
	grace    time.Duration // between the gate's result and its exit status, out of what is left of the others
	patience time.Duration // for the link to come back before `status` is asked
	retry    time.Duration // between two tries to ask it
}

func usual() pace {
	return pace{Verb.Budget, 15 * time.Second, 5 * time.Second, 20 * time.Second, time.Second}
}

// once is the longest that asking one time takes.
func (p pace) once(v Verb) time.Duration { return p.budget(v) + p.link }

// limit is the longest of all: a change of which the outcome is unknown is followed by a `status`, and a verb that
// changes nothing is asked once more if the link breaks.
func (p pace) limit(v Verb) time.Duration {
	if v.Changes() {
		return p.once(v) + p.patience + p.once(Status)
	}
	return 2 * p.once(v)
}

// Limit is the longest that [Client.Run] takes for the verb: getting to the host, the gate's Budget, its result, and
// asking again or asking `status` when the link breaks. Whoever waits for a Run, or for the relay, needs to wait as long.
// It is 0 for what is no verb.
func (v Verb) Limit() time.Duration {
	if v.Budget() == 0 {
		return 0
	}
	return usual().limit(v)
}

// Run asks the gate for one verb and follows it to its end. step is called for each step as it comes in, with its file,
// on the caller's goroutine; it may be nil. The gate's verdict, also a bad one, is Report.Result with a nil error.
// An error is a [*NotAVerb], an [*Unreachable] (nothing was run), a [*NoGate] or an [*Unknown]; the report then holds
// what is known, with Exit [Broken].
//
// Run ends by the verb's [Verb.Limit], the time that step takes left out. When ctx ends earlier, Run returns at once; a
// change that was sent goes on at the host. A change is never sent twice, and never waits behind verbs that change nothing.
func (c *Client) Run(ctx context.Context, v Verb, step func(Step)) (Report, error) {
	began := time.Now()
	report := Report{Result: Result{Verb: v, VMID: c.vmid, Exit: Broken, At: began}}
	if _, err := ParseVerb(string(v)); err != nil {
		return report, err
	}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return report, c.host.unreachable(Closed, err)
	}
	defer leave()
	limit := c.pace.limit(v)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no result within %s", limit))
	defer cancel()
	if step == nil {
		step = func(Step) {}
	}
	report, err = c.once(ctx, v, step)
	if !v.Changes() && ctx.Err() == nil && wasLost(err) {
		c.log.InfoContext(ctx, "link was lost while reading, asking again", "verb", v, "err", err)
		report, err = c.once(ctx, v, step)
	}
	if unknown, ok := errors.AsType[*Unknown](err); ok {
		c.log.WarnContext(ctx, "outcome is unknown, asking status", "verb", v, "op", unknown.Op, "step", unknown.Step, "err", unknown.Err)
		unknown.Now, unknown.Asked = c.statusAfter(ctx)
		if unknown.Now != nil {
			report.Result.Status, report.Result.LastOp = unknown.Now.Status, unknown.Now.LastOp
		}
		report.Result.Text = unknown.UserMessage()
	}
	report.Took = time.Since(began)
	return report, err
}

// once runs the verb one time. For a change an error after the command was sent is an [*Unknown].
func (c *Client) once(ctx context.Context, v Verb, step func(Step)) (Report, error) {
	limit := c.pace.once(v)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no result within %s", limit))
	defer cancel()
	r := &reading{report: Report{Result: Result{Verb: v, VMID: c.vmid, Exit: Broken, At: time.Now()}}}
	s, err := c.start(ctx, v)
	if err != nil {
		return r.report, err
	}
	err = c.follow(ctx, s, r, step)
	if err != nil && c.closing.Err() != nil { // which the end of the connection may outrun
		err = errors.Join(errClosed, err)
	}
	op, at := r.last()
	if !r.done {
		r.report.Result.Op = op
	}
	gateless, _ := errors.AsType[*NoGate](err)
	switch {
	case err == nil, gateless != nil && (!v.Changes() || op == ""):
		return r.report, err
	case v.Changes():
		return r.report, &Unknown{Host: c.host.at(), Verb: v, Op: op, Step: at, Err: err}
	}
	if ctx.Err() != nil {
		return r.report, c.host.unreachable(Stuck, err)
	}
	return r.report, c.host.unreachable(Lost, err)
}

// follow reads the session until its end, and fills the report.
func (c *Client) follow(ctx context.Context, s *session, r *reading, step func(Step)) error {
	defer c.leave(s)
	var grace <-chan time.Time
	for {
		select {
		case line, more := <-s.lines:
			if !more {
				return c.conclude(s, r, <-s.ended)
			}
			if st := r.take(line); st != nil {
				step(*st)
			}
			if r.done && grace == nil {
				grace = time.After(c.pace.grace)
			}
		case <-grace:
			// A gate with a thread stuck in the host's disk cannot exit, and has yet said all it had to say.
			r.note("The gate gave its result but did not end.")
			return nil
		case <-ctx.Done():
			if r.done {
				return nil
			}
			return context.Cause(ctx)
		}
	}
}

// conclude settles the report by how the command ended: the exit status wins over the result line.
func (c *Client) conclude(s *session, r *reading, end error) error {
	if s.cutLines {
		r.note("Lines of more than %d bytes were left out.", maxLine)
	}
	if s.cutOutput {
		r.note("Everything after the first %d bytes was left out.", maxOutput)
	}
	exit, died := 0, ""
	if end != nil {
		e, ok := errors.AsType[*ssh.ExitError](end)
		switch {
		case ok:
			exit, died = e.ExitStatus(), e.Signal()
		case r.done:
			r.note("The link dropped after the gate gave its result.")
			return nil
		default:
			return end
		}
	}
	words := strings.TrimSpace(r.plain.String() + clean(string(s.stderr.kept)))
	if died != "" || exit == 126 || exit == 127 || exit == 255 {
		r.report.Result.Exit = Broken
		err := &NoGate{Host: c.host.at(), Status: exit, Signal: died, Words: words}
		if !r.done {
			r.report.Result.Text = err.UserMessage()
		}
		return err
	}
	if r.done && r.report.Result.Exit != Exit(exit) {
		r.note("The gate's result said %d, its exit status %d; the status counts.", int(r.report.Result.Exit), exit)
	}
	r.report.Result.Exit = Exit(exit)
	if r.report.Result.Text == "" {
		r.report.Result.Text = words
	}
	if r.report.Result.Text == "" {
		r.report.Result.Text = Exit(exit).Sentence()
	}
	return nil
}

// statusAfter asks status once the link is back, after a change whose outcome is unknown.
func (c *Client) statusAfter(ctx context.Context) (*Result, error) {
	for begin := time.Now(); ; {
		report, err := c.once(ctx, Status, func(Step) {})
		if err == nil && report.Result.Exit != Busy {
			return &report.Result, nil
		}
		if err == nil { // others look, which says nothing about the VM
			err = errors.New(report.Result.Text)
		}
		if ctx.Err() != nil || time.Since(begin)+c.pace.retry > c.pace.patience {
			return nil, err
		}
		wait(ctx, c.pace.retry)
	}
}

// wasLost says whether err is a link that broke, rather than a host that cannot be reached.
func wasLost(err error) bool {
	e, ok := errors.AsType[*Unreachable](err)
	return ok && e.Why == Lost
}
