package pve

import (
	"fmt"
	"time"
)

// Exit is the gate's exit code: the verdict on one verb, the same on the wire, in chat and from `bgbot vm`.
type Exit int

// The exit codes of the gate's contract.
const (
	Done       Exit = 0 // done and verified
	Rejected   Exit = 2 // not a verb, or not allowed for this key
	Busy       Exit = 3 // another change is running
	Refused    Exit = 4 // locked, HA-managed, or the old QEMU is not provably dead; nothing was started
	Failed     Exit = 5 // qm said no
	Unverified Exit = 6 // done, but not verified up in time
	Broken     Exit = 7 // the gate itself failed
)

// String is the code in one word.
func (e Exit) String() string {
	switch e {
	case Done:
		return "done"
	case Rejected:
		return "rejected"
	case Busy:
		return "busy"
	case Refused:
		return "refused"
	case Failed:
		return "failed"
	case Unverified:
		return "unverified"
	case Broken:
		return "broken"
	}
	return fmt.Sprintf("exit %d", int(e))
}

// Sentence says what the code means, for a report that has no better words of its own.
func (e Exit) Sentence() string {
	switch e {
	case Done:
		return "Done and verified."
	case Rejected:
		return "Rejected: not a verb, or not allowed for this key. Nothing was run."
	case Busy:
		return "Busy: another change of this VM is running. Ask status, then try again."
	case Refused:
		return "Refused: the VM is locked, managed by HA, or its old QEMU is not provably dead. Nothing was started."
	case Failed:
		return "Failed: qm on the Proxmox host said no."
	case Unverified:
		return "Done, but not verified in time. Ask status."
	case Broken:
		return "The gate itself failed. Ask status before you change anything."
	}
	return fmt.Sprintf("The gate ended with code %d, which is not in its contract. Ask status before you change anything.", int(e))
}

// State is how one step of an operation stands.
type State string

// The states of a step.
const (
	StepStart State = "start"
	StepOK    State = "ok"
	StepFail  State = "fail"
	StepSkip  State = "skip"
)

// Step is one JSON line of the gate: something that began or ended on the host. A step may carry a file.
// Unknown fields are ignored, so that an older bot understands a newer gate.
type Step struct {
	At    time.Time `json:"at"`
	Op    string    `json:"op"`
	Step  string    `json:"step"`
	State State     `json:"state"`
	Text  string    `json:"text,omitempty"`

	Name string `json:"name,omitempty"` // of an attached file, such as forensics.txt
	Type string `json:"type,omitempty"` // its media type
	Data []byte `json:"data,omitempty"` // base64 on the wire
}

// Result is the last line of the gate.
type Result struct {
	Verb    Verb      `json:"verb"`
	VMID    int       `json:"vmid"`
	Op      string    `json:"op"`
	Exit    Exit      `json:"exit"`
	Text    string    `json:"text"`              // for people, one or a few lines
	Status  string    `json:"status"`            // running, stopped, …
	Verdict string    `json:"verdict,omitempty"` // what the evidence says, in one line, when there is any
	Advice  Verb      `json:"advice,omitempty"`  // the verb that the verdict advises; none if no verb would help
	LastOp  string    `json:"last_op,omitempty"` // the operation before this one, in words
	At      time.Time `json:"at"`

	Uptime    int64     `json:"uptime,omitempty"`      // of the QEMU process, in seconds; 0 if there is none
	Lock      string    `json:"lock,omitempty"`        // the lock in the VM's configuration, such as backup
	Forensics time.Time `json:"forensics_at,omitzero"` // of the newest capture that is kept on the host
	HostKeys  []string  `json:"host_keys,omitempty"`   // the guest's SSH host keys, read through its agent: "TYPE BASE64"
}

// File is an attachment of a report.
type File struct {
	Name string
	Type string
	Data []byte
}

// Report is what one run of a verb came to.
type Report struct {
	Result Result
	Steps  []Step // without the lines that brought a file
	Files  []File
	Notes  []string // what was left out or did not fit together, in sentences
	Took   time.Duration
}
