package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"bgbot/pve"

	"golang.org/x/crypto/ssh"
)

// state is how a thing on a machine stands, or what was done to it.
type state string

// What a check finds, what Apply does, and what Remove does.
const (
	isOK      state = "ok"
	isMissing state = "missing"
	isOther   state = "differs"
	failed    state = "failed"

	made      state = "made"
	changed   state = "changed"
	unchanged state = "unchanged"

	removed state = "removed"
	absent  state = "absent"
	kept    state = "kept"
	skipped state = "skipped" // and the text says why
)

// Work is a plan and the machines that it is for. VM is nil if nobody said how to log in there; that half is then left
// out, and Out says so. Every method tells Out a line for each thing. None of them is for two goroutines at once.
type Work struct {
	Plan
	Host, VM *Machine
	Out      io.Writer
}

func (w Work) line(what string, is state, text string) {
	sign := "✓"
	switch is {
	case isMissing, isOther, failed:
		sign = "✗"
	case skipped, kept:
		sign = "-"
	}
	w.say("%s %-9s  %s", sign, is, strings.TrimRight(fmt.Sprintf("%-38s  %s", what, text), " "))
}

func (w Work) say(format string, args ...any) { _, _ = fmt.Fprintf(w.Out, format+"\n", args...) }

func (w Work) heading(m *Machine) { w.say("\n%s, %s", m.Name, m.Address) }

func (w Work) withoutVM(what string) {
	w.say("\n%s: %s; say --vm USER@%s for that", w.Plan.VM, what, w.Guest.Addr())
}

// Apply puts everything in place that is not, then tries it out. It stops at the first thing that fails, since what
// follows could rely on it, and can be run again at any time. good is false when all is in place but does not work. It
// returns the VM's host key if that is known now. Its errors are [*Problem]s.
func (w Work) Apply(ctx context.Context) (good bool, vmKey ssh.PublicKey, err error) {
	if err := w.ready(); err != nil {
		return false, nil, err
	}
	if err := w.put(ctx, w.Host, w.host); err != nil {
		return false, nil, err
	}
	good, status := w.proveGate(ctx)
	if w.VM == nil {
		w.withoutVM("nothing was done there")
		key := guestKey(status)
		return good, key, Distinct(w.Host.HostKey, key)
	}
	if err := w.put(ctx, w.VM, w.vm); err != nil {
		return false, nil, err
	}
	return w.proveLogin(ctx) && good, w.VM.HostKey, nil
}

// ready says what is missing before anything is touched.
func (w Work) ready() error {
	for _, k := range w.Pairs() {
		if k.Signer == nil {
			return problem("The key %s does not exist yet; --apply makes it.", k.File)
		}
	}
	switch {
	case !w.Host.has("qm"):
		return problem("%s has no qm, so it is no Proxmox host. Is --host right?", w.Host.at())
	case w.Program.data == nil:
		return problem("There is no pve-gate to install. Name it with --binary.")
	}
	return nil
}

func (w Work) put(ctx context.Context, m *Machine, items []item) error {
	w.heading(m)
	for _, it := range items {
		is, text, err := put1(ctx, m, it)
		if err != nil {
			w.line(it.what(), failed, "")
			return err
		}
		w.line(it.what(), is, text)
	}
	return nil
}

func put1(ctx context.Context, m *Machine, it item) (state, string, error) {
	is, text, err := it.check(ctx, m)
	if err != nil || is == isOK {
		return unchanged, text, err
	}
	done := map[state]state{isMissing: made, isOther: changed}[is]
	text, err = it.make(ctx, m)
	return done, text, err
}

// Check compares everything and tries it out. It changes nothing, and goes on after a failure as long as the machine
// answers.
func (w Work) Check(ctx context.Context) (good bool, err error) {
	if err := w.ready(); err != nil {
		return false, err
	}
	if good, err = w.compare(ctx, w.Host, w.host); err != nil {
		return false, err
	}
	works, _ := w.proveGate(ctx)
	good = good && works
	if w.VM == nil {
		w.withoutVM("not looked at")
		return good, nil
	}
	fits, err := w.compare(ctx, w.VM, w.vm)
	if err != nil {
		return false, err
	}
	return w.proveLogin(ctx) && good && fits, nil
}

func (w Work) compare(ctx context.Context, m *Machine, items []item) (good bool, err error) {
	w.heading(m)
	good = true
	for _, it := range items {
		is, text, err := it.check(ctx, m)
		if lost(err) {
			return false, err
		}
		if err != nil {
			is, text = isOther, err.Error()
		}
		good = good && is == isOK
		w.line(it.what(), is, text)
	}
	return good, nil
}

// lost says that the machine is gone, and not that something on it is wrong.
func lost(err error) bool {
	p, ok := errors.AsType[*Problem](err)
	return err != nil && (!ok || p.Err != nil)
}

// Remove takes away what Apply made, the last thing first. What VMs share stays as long as another one has its block. The
// journal and the evidence stay, and so does what somebody else made.
func (w Work) Remove(ctx context.Context) error {
	if err := w.drop(ctx, w.Host, w.host); err != nil {
		return err
	}
	if w.VM == nil {
		w.withoutVM("nothing was removed there")
		return nil
	}
	return w.drop(ctx, w.VM, w.vm)
}

func (w Work) drop(ctx context.Context, m *Machine, items []item) error {
	w.heading(m)
	var others []string
	for _, it := range slices.Backward(items) {
		if len(others) > 0 {
			w.line(it.what(), kept, "also for "+strings.Join(others, ", "))
			continue
		}
		is, text, err := it.remove(ctx, m)
		if k, shared := it.(keys); shared && err == nil {
			others, err = k.others(ctx, m)
		}
		if err != nil {
			w.line(it.what(), failed, "")
			return err
		}
		w.line(it.what(), is, text)
	}
	return nil
}

// guestKey is the VM's host key, if the gate could ask the guest for it: that way is proven from end to end.
func guestKey(status pve.Result) (best ssh.PublicKey) {
	for _, line := range status.HostKeys {
		key, err := pve.ParseHostKey(line)
		if err == nil && (best == nil || key.Type() == ssh.KeyAlgoED25519) {
			best = key
		}
	}
	return best
}
