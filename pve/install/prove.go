package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"bgbot/pve"
)

// proveGate asks the gate for its status: with the bot's key, as the bot will, if the key may be used from here, else as
// root on the host.
func (w Work) proveGate(ctx context.Context) (bool, pve.Result) {
	const what = "status through the gate"
	how, ask := "with the new key", w.askWithKey
	if !w.letsIn(w.Host) {
		how, ask = "as root, for --from does not let the key in from here", w.askAsRoot
	}
	r, err := ask(ctx)
	if err == nil && r.Exit != pve.Done {
		err = fmt.Errorf("%s (%s)", firstLine(r.Text), r.Exit)
	}
	if err != nil {
		w.line(what, failed, how+": "+sentence(err))
		return false, r
	}
	w.line(what, isOK, how+": "+firstLine(r.Text))
	return true, r
}

// letsIn says whether the new keys may be used from here, which need not be where the bot will run.
func (w Work) letsIn(m *Machine) bool { return m.Through == nil && w.From.Contains(m.Client) }

func (w Work) askWithKey(ctx context.Context) (pve.Result, error) {
	client := pve.NewClient(w.over(w.Host, w.GateKey, "root"), w.VMID, slog.New(slog.DiscardHandler))
	defer func() { _ = client.Close() }() // the answer is in
	report, err := client.Run(ctx, pve.Status, func(pve.Step) {})
	return report.Result, err
}

// over is the machine as the bot reaches it. Below another root there is only one user.
func (w Work) over(m *Machine, k Key, user string) pve.Host {
	if w.Root != "" {
		user = m.User
	}
	return pve.Host{Name: m.Name, Address: m.Address.String(), User: user, Signer: k.Signer, HostKey: m.HostKey}
}

// askAsRoot runs what the key would run. It proves the gate, not the key.
func (w Work) askAsRoot(ctx context.Context) (pve.Result, error) {
	s, err := w.Host.script(ctx, "ask", nil, w.gate(gateKeyName)...)
	if err != nil {
		return pve.Result{}, err
	}
	var last struct{ Result *pve.Result }
	for line := range strings.Lines(string(s.out)) {
		_ = json.Unmarshal([]byte(line), &last) // a line of another kind leaves it as it is
	}
	if last.Result == nil {
		return pve.Result{}, fmt.Errorf("the gate gave no answer (exit %d): %s", s.exit, lastLine(s.err))
	}
	return *last.Result, nil
}

// proveLogin does on the VM what the agent will: sudo without a password, and the login with its key if that may be used
// from here.
func (w Work) proveLogin(ctx context.Context) bool {
	good := true
	if w.User != "root" {
		what := "sudo of " + w.User
		s, err := w.VM.script(ctx, "sudo", nil, w.User)
		if err == nil && s.exit != 0 {
			err = errors.New(lastLine(s.err))
		}
		if good = err == nil; good {
			w.line(what, isOK, "works without a password")
		} else {
			w.line(what, failed, sentence(err))
		}
	}
	const what = "login with the new key"
	if !w.letsIn(w.VM) {
		w.line(what, skipped, "--from does not let the key in from here; `bgbot doctor` tries it where the bot runs")
		return good
	}
	if err := pve.Reach(ctx, w.over(w.VM, w.VMKey, w.User)); err != nil {
		w.line(what, failed, sentence(err))
		return false
	}
	w.line(what, isOK, "works")
	return good
}

// sentence is an error as a person reads it.
func sentence(err error) string {
	if said, ok := errors.AsType[interface {
		error
		UserMessage() string
	}](err); ok {
		return said.UserMessage()
	}
	return err.Error()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(printable(s), "\n")
	return line
}
