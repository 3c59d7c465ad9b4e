// Package lab is the practice incident: a small Proxmox host and a wedged VM on this machine, made of real processes and
// real SSH on loopback. The gate is the real one; our own binary, started under other names, plays qm ([Applet]). It owns
// the scenarios, the scripted model that plays the agent, the automatic operator and the score. It does not own the bot
// under practice.
//
// The VM is one of two. A [Simulated] one is up at once and needs nothing: our own binary plays QEMU too, package guest
// the programs in the guest, and the host's sshd is ours. A [QEMU] one is a real QEMU without KVM, with the Linux in it
// that package image makes of Debian's packages, on a host with the system's sshd.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"bgbot/internal/anthropictest"
	"bgbot/pve"
)

const (
	vmid   = 102
	vmName = "devvm"
	vmUser = "breakglass"

	// For the whole of Start, on a busy machine with the race detector.
	startSimulated = 30 * time.Second
	startReal      = 5 * time.Minute
)

// What [Options.VM] may be.
const (
	Simulated = "simulated" // our own binary plays QEMU and the guest
	QEMU      = "qemu"      // a real QEMU, without KVM, and a real Linux in it
)

// Options say which incident to practise, and how.
type Options struct {
	Scenario   string
	VM         string    // Simulated, which is also the empty one, or QEMU
	Cache      string    // what FindGuest returned, for QEMU; empty looks for it
	Dir        string    // where the state lies; empty makes a private temporary one that Close removes
	Executable string    // the binary that calls Applet; empty is the running one
	BreakModel bool      // the model's URL refuses connections
	Fast       bool      // the model does not type at a human pace, the guest boots quicker
	Transcript io.Writer // Play copies both directions to it; may be nil

	// Stage, which may be nil, is told what Start begins to do, in a word for who waits.
	Stage func(word string)
	Log   *slog.Logger
}

// Lab is one running practice incident. Its methods may be called from many goroutines at once.
type Lab struct {
	opts     Options
	scenario Scenario
	state    *state
	keys     keys
	owner    *os.File // its lock tells the other processes that the lab is alive
	port     *reservation
	host     struct{ address, user string } // of the Proxmox host's sshd
	model    *model
	closing  []func() error // in reverse order
}

// Start brings the host and the VM up, injects the scenario's fault and proves that the VM is really broken. It takes
// some seconds. Its error is an [*UnknownScenario] for a name that is not in [Scenarios], and [*Unfit] for one that the
// options do not go with. The caller calls Close.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	sc, err := opts.choose()
	if err != nil {
		return nil, err
	}
	return begin(ctx, opts, sc, (*Lab).inject, (*Lab).proveBroken)
}

// begin brings the host and a healthy VM up, then makes what is to be wrong with it.
func begin(ctx context.Context, opts Options, sc Scenario, wrong ...func(*Lab, context.Context) error) (*Lab, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Stage == nil {
		opts.Stage = func(string) {}
	}
	l := &Lab{opts: opts, scenario: sc}
	type step = func(context.Context) error
	stage := func(word string) step {
		return func(context.Context) error { opts.Stage(word); return nil }
	}
	limit, steps := startSimulated, []step{l.prepare, l.writeVM, l.startModel, l.startHost, l.startVM}
	if l.real() {
		limit, steps = startReal, []step{stage("building"), l.prepare, l.prepareReal, l.startModel, stage("booting"), l.startMachine, l.waitGuest, stage("breaking")}
	}
	for _, fault := range wrong {
		steps = append(steps, func(ctx context.Context) error { return fault(l, ctx) })
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the lab was not up within %s", limit))
	defer cancel()
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, &Unprepared{Scenario: sc.Name, Err: err, Left: l.Close()}
		}
	}
	return l, nil
}

// Unprepared is the error of [Start] for a lab that did not come up, or did not break.
type Unprepared struct {
	Scenario string
	Err      error
	Left     error // what could not be cleaned up; nil if nothing is left
}

func (e *Unprepared) Error() string {
	return fmt.Sprintf("lab %s: %v", e.Scenario, errors.Join(e.Err, e.Left))
}

func (e *Unprepared) Unwrap() []error { return []error{e.Err, e.Left} }

// UserMessage is the error as a person reads it.
func (e *Unprepared) UserMessage() string {
	why := e.Err.Error()
	if said, ok := errors.AsType[interface {
		error
		UserMessage() string
	}](e.Err); ok {
		why = said.UserMessage()
	}
	if e.Left != nil {
		why += "\nSomething of it is left: " + e.Left.Error()
	}
	return fmt.Sprintf("The practice VM could not be prepared (%s): %s", e.Scenario, why)
}

// Close ends every process that the lab started, waits for each, and removes the temporary state. A second call does
// nothing.
func (l *Lab) Close() error {
	var errs []error
	for _, end := range slices.Backward(l.closing) {
		errs = append(errs, end())
	}
	l.closing = nil
	return errors.Join(errs...)
}

func (l *Lab) real() bool { return l.opts.VM == QEMU }

func (l *Lab) onClose(f func() error) { l.closing = append(l.closing, f) }

// Scenario is the incident that is being practised.
func (l *Lab) Scenario() Scenario { return l.scenario }

// VMID is the VM's number on the host.
func (l *Lab) VMID() int { return vmid }

// VMName is the VM's name.
func (l *Lab) VMName() string { return vmName }

// ModelURL is the base URL of the scripted model.
func (l *Lab) ModelURL() string { return l.model.url }

// Model is the script that plays the agent, for those who serve it themselves.
func (l *Lab) Model() anthropictest.Model { return l.model.answer }

// Gate is the Proxmox host with the bot's key for it.
func (l *Lab) Gate() pve.Host {
	return pve.Host{
		Name: "the Proxmox host", Address: l.host.address, User: l.host.user,
		Signer: l.keys.gateClient, HostKey: l.keys.gateHost.PublicKey(),
	}
}

// ReadOnlyGate is the Proxmox host with a key that may look and not touch.
func (l *Lab) ReadOnlyGate() pve.Host {
	h := l.Gate()
	h.Signer = l.keys.gateReadOnly
	return h
}

// Dir is the folder of the lab's state. It is removed by Close, or when this process is killed by what the lab leaves
// behind for that: the simulated QEMU, or the host of a real one.
func (l *Lab) Dir() string { return l.state.dir }

// KeyFiles are the private keys behind the Signers of Gate and VM, for a bgbot that reads its own configuration.
func (l *Lab) KeyFiles() (gate, vm string) {
	return l.state.path("keys", "gate_client"), l.state.path("keys", "vm_client")
}

// VM is the guest with the agent's key for it.
func (l *Lab) VM() pve.Host {
	return pve.Host{
		Name: vmName, Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(l.state.GuestPort)), User: vmUser,
		Signer: l.keys.vmClient, HostKey: l.keys.vmHost.PublicKey(),
	}
}
