package pve

import (
	"fmt"
	"strings"
	"time"
)

// Verb is one thing that the gate on the Proxmox host does to the VM. The bot, the relay and the gate share this list,
// so no end knows a verb that another does not.
type Verb string

// The verbs. The last four change the VM.
const (
	Status    Verb = "status"
	Forensics Verb = "forensics"
	Start     Verb = "start"
	Reset     Verb = "reset"
	Stop      Verb = "stop"
	Cycle     Verb = "cycle"
)

// Verbs lists all verbs in the order in which help shows them.
func Verbs() []Verb { return []Verb{Status, Forensics, Start, Reset, Stop, Cycle} }

// ParseVerb accepts exactly one bare verb: no blanks, no other case, no look-alike letters, nothing behind it.
// Its error names what is accepted and quotes at most the first 40 bytes of s, escaped.
func ParseVerb(s string) (Verb, error) {
	for _, v := range Verbs() {
		if s == string(v) {
			return v, nil
		}
	}
	return "", &NotAVerb{Input: s}
}

// Changes says whether the verb alters the VM, and so needs a confirmation, the lock and forensics first.
func (v Verb) Changes() bool { return v == Start || v == Reset || v == Stop || v == Cycle }

// Budget is the longest that the gate takes for the verb: it ends itself by then, whatever hangs on the host. The deadlines
// of the steps fit into it, so most runs take a small part of it.
func (v Verb) Budget() time.Duration {
	switch v {
	case Status:
		return 20 * time.Second
	case Forensics:
		return 30 * time.Second
	case Reset:
		return 155 * time.Second
	case Stop:
		return 175 * time.Second
	case Start:
		return 300 * time.Second
	case Cycle: // with what the client adds it has to fit into the ten minutes that the agent's shell may take at most
		return 370 * time.Second
	default:
		return 0
	}
}

// Explain says in one sentence what the verb does, for help and for the confirmation card.
func (v Verb) Explain() string {
	switch v {
	case Status:
		return "says whether the VM runs, what is wrong with it as seen from the host, and how the last operation ended"
	case Forensics:
		return "captures evidence, the screen included, without touching the VM"
	case Start:
		return "starts the VM if it is stopped"
	case Reset:
		return "reboots the guest inside the same QEMU process, so it does not cure a wedged QEMU"
	case Stop:
		return "stops QEMU at once (unsaved guest memory is lost)"
	case Cycle:
		return "stops QEMU and starts a fresh one, with staged config (unsaved guest memory is lost)"
	default:
		return "is not a verb"
	}
}

// NotAVerb is the error of [ParseVerb].
type NotAVerb struct{ Input string }

func (e *NotAVerb) Error() string {
	in := e.Input
	if len(in) > 40 {
		in = in[:40] + "…"
	}
	return fmt.Sprintf("%q is not a verb; use one of: %s", in, Words())
}

// UserMessage is the error as a person reads it.
func (e *NotAVerb) UserMessage() string { return e.Error() }

// Words is the list of verbs as one line of text.
func Words() string {
	var words []string
	for _, v := range Verbs() {
		words = append(words, string(v))
	}
	return strings.Join(words, " ")
}
