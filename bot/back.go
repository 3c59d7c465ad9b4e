package bot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bgbot/pve"
)

// How long after a change the VM is waited for and looked into. A guest with a file system check takes its time, but the
// agent's ssh, which waits for all of it, is ended by its own limits.
const (
	reachWait = 90 * time.Second
	bootWait  = 20 * time.Second     // for a system that is still starting
	lookWait  = 8 * time.Second      // for one look
	backWait  = reachWait + lookWait // for all of it
)

// reach is what is known of the VM's SSH after a change.
type reach struct {
	asked  bool
	err    error
	at     time.Time // when SSH answered
	inside inside
}

// reached looks, after a change that should leave the VM up, whether SSH answers, and then whether all is well inside:
// the gate's word alone is not "back".
func (b *Bot) reached(o operation, r pve.Report, err error, step func(pve.Step)) reach {
	up := o.verb == pve.Cycle || o.verb == pve.Start || o.verb == pve.Reset
	if !up || err != nil || r.Result.Exit != pve.Done && r.Result.Exit != pve.Unverified {
		return reach{}
	}
	ctx, cancel := context.WithTimeout(b.cut, backWait) // shutdown waits for the verb, not for a guest that boots
	defer cancel()
	if err := b.login(ctx, step); err != nil {
		return reach{asked: true, err: err}
	}
	answered := reach{asked: true, at: time.Now()}
	if b.Look != nil {
		answered.inside = b.lookInside(ctx, step)
	}
	return answered
}

// errLeaving is why nobody looked whether the VM is back.
var errLeaving error = &says{"I am shutting down"}

// login waits until a login to the VM works; an error is why it does not.
func (b *Bot) login(ctx context.Context, step func(pve.Step)) error {
	const name = "SSH login"
	step(pve.Step{Step: name, State: pve.StepStart})
	ctx, cancel := context.WithTimeout(ctx, reachWait)
	defer cancel()
	for {
		last := b.Reach(ctx)
		if last == nil {
			step(pve.Step{Step: name, State: pve.StepOK, Text: b.VM.Name + " answered"})
			return nil
		}
		lost, ok := errors.AsType[*pve.Unreachable](last)
		changed := ok && lost.Why == pve.HostKeyChanged // waiting does not change it back
		// A refused connection costs the guest nothing; a login each second is no sin for PerSourcePenalties (OpenSSH 9.8).
		switch {
		case !changed && sleep(ctx, time.Second) == nil:
			continue
		case !changed && b.cut.Err() != nil:
			step(pve.Step{Step: name, State: pve.StepSkip, Text: message(errLeaving)})
			return errLeaving
		}
		step(pve.Step{Step: name, State: pve.StepFail, Text: message(last)})
		return last
	}
}

// inside is what systemd in the VM says. The zero value says nothing: there is no systemd, or nobody looked.
type inside struct {
	state  string // running, degraded, starting, …
	failed []string
	err    error // why nothing was seen
}

// lookInside asks systemd what is not well. A system that is still starting is asked again for a while.
func (b *Bot) lookInside(ctx context.Context, step func(pve.Step)) inside {
	const name = "services"
	step(pve.Step{Step: name, State: pve.StepStart})
	var in inside
	for until := time.Now().Add(bootWait); ; {
		one, cancel := context.WithTimeout(ctx, lookWait)
		out, err := b.Look(one)
		cancel()
		in = readInside(out)
		if err != nil {
			in = inside{err: err}
		}
		if !in.starting() || time.Now().After(until) || sleep(ctx, 2*time.Second) != nil {
			break
		}
	}
	text, state := in.said(), pve.StepOK
	switch {
	case b.cut.Err() != nil:
		in, text, state = inside{}, message(errLeaving), pve.StepSkip
	case in.err != nil:
		text, state = message(in.err), pve.StepFail
	case text == "":
		text, state = "no systemd there", pve.StepSkip
	case in.state != "running" || len(in.failed) > 0:
		state = pve.StepFail
	}
	step(pve.Step{Step: name, State: state, Text: text})
	return in
}

// readInside reads what `systemctl is-system-running; systemctl --failed --no-legend --plain` printed. Of anything else
// it knows nothing, nor of the words for a machine without systemd.
func readInside(out string) (in inside) {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case in.state != "":
			if f := strings.Fields(strings.TrimLeft(line, "●*× ")); len(f) >= 4 && f[2] == "failed" {
				in.failed = append(in.failed, strings.TrimSuffix(f[0], ".service"))
			}
		case slices.Contains([]string{"initializing", "starting", "running", "degraded", "maintenance", "stopping"}, line):
			in.state = line
		}
	}
	return in
}

func (in inside) starting() bool { return in.state == "starting" || in.state == "initializing" }

// said is it in a few words, without a full stop; empty if there is nothing to say.
func (in inside) said() string {
	var words []string
	switch {
	case in.starting():
		words = append(words, "the system is still starting")
	case in.state == "maintenance" || in.state == "stopping":
		words = append(words, "systemd is in "+in.state)
	case in.state == "degraded" && len(in.failed) == 0:
		words = append(words, "systemd is degraded")
	case in.state == "running" && len(in.failed) == 0:
		words = append(words, "no failed units")
	}
	if n := len(in.failed); n > 0 {
		const most = 5
		var names []string
		for _, u := range in.failed[:min(n, most)] {
			names = append(names, plain(u, 60))
		}
		units := plural(n, "failed unit", "failed units") + ": " + strings.Join(names, ", ")
		if n > most {
			units += fmt.Sprintf(" and %d more", n-most)
		}
		words = append(words, units)
	}
	return strings.Join(words, "; ")
}
