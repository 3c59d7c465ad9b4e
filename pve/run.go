package pve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Run asks the gate for one verb and follows it to its end. step is called for each step as it comes in, with its file,
// on the caller's goroutine; it may be nil. The gate's verdict, also a bad one, is Report.Result with a nil error.
// An error is a [*NotAVerb], an [*Unreachable] (nothing was run), a [*NoGate] or an [*Unknown]; the report then holds
// what is known, with Exit [Broken].
//
// Run ends by the verb's Budget and some seconds for the connection. When ctx ends earlier, Run returns at once; a change
// that was sent goes on at the host. A change is never sent twice.
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
	limit := v.Budget() + linkBudget
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no result within %s", limit))
	defer cancel()
	r := &reading{report: Report{Result: Result{Verb: v, VMID: c.vmid, Exit: Broken, At: time.Now()}}}
	s, err := c.start(ctx, v)
	if err != nil {
		return r.report, err
	}
	err = c.follow(ctx, s, r, step)
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
	defer close(s.left)
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
				grace = time.After(resultGrace)
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
		if err == nil {
			return &report.Result, nil
		}
		if ctx.Err() != nil || time.Since(begin) > statusPatience {
			return nil, err
		}
		wait(ctx, statusRetryWait)
	}
}

// wasLost says whether err is a link that broke, rather than a host that cannot be reached.
func wasLost(err error) bool {
	e, ok := errors.AsType[*Unreachable](err)
	return ok && e.Why == Lost
}
