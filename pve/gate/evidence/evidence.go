// Package evidence is one bounded look at a VM from its Proxmox host, and the verdict on it: what QEMU says, what its
// process and the guest's agent show, how the host is, what the screen shows. It only looks. It takes no lock, keeps no
// file, finds no QEMU (it is told which) and ends nothing. Whatever hangs is left behind and named; a look is over in
// time whatever the host does, and the verdict is drawn from what was recorded alone.
package evidence

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/host"
)

// Subject is the VM to look at, and where its host keeps what belongs to it.
type Subject struct {
	VMID  int
	QEMU  host.Process  // zero: none was found, so neither its sockets nor its process are asked
	Run   string        // folder of 102.qmp and 102.qga; on a host /run/qemu-server
	Scope string        // cgroup folder of the VM; it need not exist
	QM    string        // path of qm, with pvesm beside it
	Tasks string        // folder of the task logs; on a host /var/log/pve/tasks
	Reset time.Duration // how long ago the guest was reset inside this QEMU; 0: no reset of it is known
	Mark  string        // path that marks of the host's commands begin with, see [host.Once]; empty: none
}

func (s Subject) socket(kind string) string {
	return filepath.Join(s.Run, fmt.Sprintf("%d.%s", s.VMID, kind))
}

// Capture is what one look found. It marshals to JSON, and one that was recorded gives the same verdict and report again.
type Capture struct {
	VMID   int           `json:"vmid"`
	Op     string        `json:"op,omitempty"`
	Verb   pve.Verb      `json:"verb,omitempty"`
	At     time.Time     `json:"at"`
	Took   time.Duration `json:"took"`
	Glance bool          `json:"glance,omitempty"` // only what a status needs was asked
	QEMU   host.Process  `json:"qemu,omitzero"`    // as it was given
	Reset  time.Duration `json:"reset,omitempty"`  // as it was given
	Probes []Probe       `json:"probes"`           // in the order of the report

	Process *Process `json:"process,omitempty"` // nil: there is no QEMU, or its process could not be read
	Machine *Machine `json:"machine,omitempty"` // nil: QEMU was not asked
	Guest   *Guest   `json:"guest,omitempty"`   // nil: its agent was not asked
	Screen  *Screen  `json:"screen,omitempty"`  // nil: no picture
	Host    Host     `json:"host"`
	Tasks   []Task   `json:"tasks,omitempty"` // of the VM, the newest first
}

// Probe is one question and what came back.
type Probe struct {
	Name    string        `json:"name"`
	Took    time.Duration `json:"took,omitempty"`
	Text    string        `json:"text,omitempty"`    // what a foreign program said, cleaned, without secrets and capped
	Missing string        `json:"missing,omitempty"` // why there is no answer, or not all of it
}

const (
	takeLimit   = 8500 * time.Millisecond // the rest of the 9 s is for what is handed over late, and for a busy host
	glanceLimit = 2150 * time.Millisecond
)

// pace is how long a look lasts where it has to watch.
type pace struct {
	glance bool
	tries  int           // conversations with QEMU until its silence counts
	least  time.Duration // to watch counters that stand still although nothing waits
	most   time.Duration // to watch counters that stand still
	cpu    time.Duration // to measure the use of CPU
	stuck  time.Duration // to watch a thread that hangs in the kernel
}

var (
	thorough = pace{tries: 2, least: time.Second, most: 3 * time.Second, cpu: time.Second, stuck: 2200 * time.Millisecond}
	brief    = pace{glance: true, tries: 1, most: 1500 * time.Millisecond, cpu: 60 * time.Millisecond, stuck: 2050 * time.Millisecond}
)

// look is one capture under way.
type look struct {
	Subject
	pace
	calm chan struct{} // closed when the guest says that nothing of it waits for a disk
	mute chan struct{} // closed when QEMU says that no agent can answer
	shot chan shot     // of the screen; one
}

// Take asks everything. It returns within 9 s, whatever hangs, with what there was.
func Take(ctx context.Context, s Subject, op string, verb pve.Verb) *Capture {
	c := capture(ctx, s, thorough, takeLimit)
	c.Op, c.Verb = op, verb
	return c
}

// Glance asks QEMU, the agent and /proc alone: no command of the host, no picture. A healthy VM takes less than 100 ms,
// and nothing takes more than 2.5 s.
func Glance(ctx context.Context, s Subject) *Capture { return capture(ctx, s, brief, glanceLimit) }

func capture(ctx context.Context, s Subject, p pace, limit time.Duration) *Capture {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	l := &look{Subject: s, pace: p, calm: make(chan struct{}), mute: make(chan struct{}), shot: make(chan shot, 1)}
	c := &Capture{VMID: s.VMID, QEMU: s.QEMU, Reset: s.Reset, At: time.Now().UTC(), Glance: p.glance}
	c.gather(ctx, l.probes())
	c.Took = time.Since(c.At)
	return c
}

// Note adds what the caller asked the host itself, before the verdict is drawn: beside a glance "qm status", what
// qm status --verbose printed, which tells a lock and a QEMU that was not found. An error says why it is missing.
func (c *Capture) Note(name, text string, err error) {
	c.Probes = append(c.Probes, answered(name, text, err, 0))
}

// Missing names the probes that did not answer, or not wholly, and says how many were asked.
func (c *Capture) Missing() (names []string, asked int) {
	for _, p := range c.Probes {
		if p.Missing != "" {
			names = append(names, p.Name)
		}
	}
	return names, len(c.Probes)
}

// PNG is the picture of the screen; nil if there is none.
func (c *Capture) PNG() []byte {
	if c.Screen == nil {
		return nil
	}
	return c.Screen.PNG
}

// text is the answer of a probe; empty if it was not asked or did not answer.
func (c *Capture) text(name string) string {
	for _, p := range c.Probes {
		if p.Name == name {
			return p.Text
		}
	}
	return ""
}
