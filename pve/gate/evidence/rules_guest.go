package evidence

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"bgbot/pve"
)

// The rules about a guest whose QEMU runs and answers: its disks, its screen, its agent.

var (
	panicLine   = regexp.MustCompile(`Kernel panic - not syncing: (.*?)\s*(?:\]---)?$`)
	blockedLine = regexp.MustCompile(`task (\S+?):\d+ blocked for more than (\d+) seconds`)
	oomLine     = regexp.MustCompile(`Killed process (\d+) \(([^)]*)\)`)
	bootLine    = regexp.MustCompile(`(?i)No bootable device|not a bootable disk|emergency mode|Dropping to a shell|\(initramfs\)|grub rescue>|root password for maintenance|enter passphrase|unlock disk`)
)

// panicked: only the picture shows it. Words that were printed earlier do not count: a guest that answers or writes lives.
func (c *Capture) panicked() (Verdict, bool) {
	found := c.onScreen(panicLine)
	if found == nil || !c.running() || c.answers() || c.moving() {
		return Verdict{}, false
	}
	if strings.HasPrefix(found[1], "VFS: Unable to mount root") {
		return Verdict{Text: "Guest kernel panic at boot on screen: it finds no root disk, so a `reset` would only repeat it"}, true
	}
	return Verdict{Text: fmt.Sprintf("Guest kernel panic on screen: %s; `reset` is enough", short(found[1], 60)), Advice: pve.Reset}, true
}

// fsFrozen: a backup froze the guest's file systems and never thawed them.
func (c *Capture) fsFrozen() (Verdict, bool) {
	v := Verdict{
		Text:   fmt.Sprintf("The guest's file systems are frozen, as for a backup; on the host: qm guest cmd %d fsfreeze-thaw", c.VMID),
		Advice: pve.Reset,
	}
	if c.Glance {
		v.Advice = pve.Forensics // it sees whether a backup is at work
	}
	return v, c.running() && c.Guest != nil && c.Guest.Frozen
}

// hostStorage: the VM's disks stand still and so does a disk of the host.
func (c *Capture) hostStorage() (Verdict, bool) {
	quiet, ok := c.still()
	held, _ := c.held()
	stalled := c.Host.stalled()
	if !ok || len(stalled) == 0 || (held == 0 && !c.deaf()) {
		return Verdict{}, false
	}
	return Verdict{Text: fmt.Sprintf("%s, and the host's disk %s stands still too: host storage, which no `cycle` mends", noIOFor(quiet), short(stalled[0], 25))}, true
}

// ioStall: requests wait, and none was done while we watched.
func (c *Capture) ioStall() (Verdict, bool) {
	quiet, ok := c.still()
	held, _ := c.held()
	why := count(held, "request") + " waiting"
	if blocked := c.onScreen(blockedLine); held == 0 && blocked != nil && !c.answers() {
		held, why = 1, "the guest's "+short(blocked[1], 16)+" blocked"
	}
	if !ok || held == 0 || quiet < slow {
		return Verdict{}, false
	}
	text := fmt.Sprintf("%s, %s: I/O stall", noIOFor(quiet), why)
	switch name := c.throttled(); {
	case name != "" && c.Machine.faulty():
		text += fmt.Sprintf("; %s throttled (hangs before QEMU 10.2.1); `cycle`", short(name, 12)) // a known fault
	case name != "":
		text += fmt.Sprintf("; %s is throttled; `cycle`", short(name, 12))
	default:
		text += "; `cycle` (a `reset` keeps the wedged QEMU)"
	}
	return Verdict{Text: text, Advice: pve.Cycle}, true
}

const slow = 5 * time.Second // a healthy disk answers sooner; a thorough look lasts so long

// ioSlow: a stall has to begin somewhere, and so does a slow write.
func (c *Capture) ioSlow() (Verdict, bool) {
	quiet, ok := c.still()
	held, _ := c.held()
	return Verdict{
		Text:   fmt.Sprintf("%s with %s waiting: slow, or the beginning of a stall; look again with `forensics`", noIOFor(quiet), count(held, "request")),
		Advice: pve.Forensics,
	}, ok && held > 0
}

// diskStall: one disk of several stands still; it may be a slow one.
func (c *Capture) diskStall() (Verdict, bool) {
	if !c.running() || !c.moving() || c.Guest == nil || c.Guest.Window < lately {
		return Verdict{}, false
	}
	stalled := c.Guest.stalled()
	if len(stalled) == 0 {
		return Verdict{}, false
	}
	return Verdict{Text: fmt.Sprintf("The guest's disk %s did nothing for %s with %s waiting, others move: slow or stalled; look inside",
		short(stalled[0].Name, 12), span(c.Guest.Window), count(stalled[0].Waiting, "request"))}, true
}

// resetInVain: the guest has not even read its disk since, in the minute that the gate waits for it. A QEMU whose block
// layer is wedged does at the reset what it held, and nothing after that (measured with QEMU 7.2, a throttled disk). It
// leaves no request waiting that could be seen. A guest that never used a disk proves nothing.
func (c *Capture) resetInVain() (Verdict, bool) {
	_, ok := c.still()
	if !ok || c.Reset < time.Minute || c.answers() || c.deaf() || c.Host.starved() != "" {
		return Verdict{}, false
	}
	quiet := idle(c.Machine.First) // read soon after the age of the reset
	return Verdict{
		Text:   fmt.Sprintf("No block I/O since the reset %s ago: the guest does not boot; `cycle` (a `reset` keeps this QEMU)", span(c.Reset)),
		Advice: pve.Cycle,
	}, quiet != never && quiet >= c.Reset-2*time.Second
}

// noBoot: the guest asks for a person on its screen.
func (c *Capture) noBoot() (Verdict, bool) {
	found := c.onScreen(bootLine)
	return Verdict{Text: fmt.Sprintf("The guest did not boot: its screen says %q; someone must look at its console", short(first(found), 30))},
		found != nil && c.running() && !c.answers() && !c.deaf()
}

// guestOOM: the guest's kernel killed a process, as its screen shows; it may have been some time ago.
func (c *Capture) guestOOM() (Verdict, bool) {
	found := c.onScreen(oomLine)
	switch {
	case found == nil || !c.running():
		return Verdict{}, false
	case c.deaf():
		return Verdict{Text: fmt.Sprintf("The guest ran out of memory (killed %s, pid %s) and does not answer; `reset`", short(found[2], 20), found[1]), Advice: pve.Reset}, true
	}
	return Verdict{Text: fmt.Sprintf("The guest ran out of memory: its screen shows that %s (pid %s) was killed; look inside", short(found[2], 20), found[1])}, true
}

const long = 10 * time.Second // without any I/O, in a guest that does not answer either

// guestHung: nothing comes out of a guest whose CPUs never rest. One whose CPUs rest may as well be idle, with an agent
// that hangs by itself.
func (c *Capture) guestHung() (Verdict, bool) {
	quiet, ok := c.still()
	n, of := c.spinning()
	return Verdict{
		Text:   fmt.Sprintf("The guest spins: %d of %d CPUs all busy, its agent is silent, no I/O for %s; `reset`", n, of, span(quiet)),
		Advice: pve.Reset,
	}, ok && c.deaf() && quiet >= long && n > 0
}

// ioStallSuspected: nobody can tell whether requests wait, and nothing else works either.
func (c *Capture) ioStallSuspected() (Verdict, bool) {
	quiet, ok := c.still()
	_, known := c.held()
	return Verdict{Text: fmt.Sprintf("%s and the guest's agent is silent: probably an I/O stall; `cycle`", noIOFor(quiet)), Advice: pve.Cycle},
		ok && !known && c.deaf() && quiet >= long
}

// hostPressure: the host has no time for this VM. A high load alone says little of a VM that wants little. Before pve-qemu
// 10.2.1-2 an idle iothread counted as pressure on I/O, so that has to have a busy disk beside it.
func (c *Capture) hostPressure() (Verdict, bool) {
	disk, share := c.Host.busiest()
	stolen := c.stolen()
	switch h := c.Host; {
	case !c.running():
		return Verdict{}, false
	case h.MemoryFull >= scarce:
		return Verdict{Text: "QEMU is well, but the host has no time for it: " + h.starved()}, true
	case stolen >= 0.5:
		return Verdict{Text: fmt.Sprintf("QEMU is well, but its CPUs waited for the host's for %.0f %% of the time: load %.0f on %d CPUs", 100*stolen, h.Load, h.CPUs)}, true
	}
	return Verdict{Text: fmt.Sprintf("QEMU is well, but the host's disk %s is %.0f %% busy: all waited for I/O %.0f %% of the time", short(disk, 25), 100*share, c.Host.IOFull)},
		c.Host.IOFull >= 50 && share >= 0.9
}

// guestQuiet: the agent alone is silent, for all that can be seen. The screen may show more than a glance sees.
func (c *Capture) guestQuiet() (Verdict, bool) {
	v := Verdict{Text: fmt.Sprintf("QEMU is well (%s, I/O moving), but the guest's agent does not answer; try SSH", c.cpu())}
	if quiet, ok := c.still(); ok {
		none := ""
		if _, known := c.held(); known {
			none = ", but none waits"
		}
		v.Text = fmt.Sprintf("The guest's agent is silent and no I/O for %s%s (%s): idle or hung; try SSH", span(quiet), none, c.cpu())
	}
	if c.Glance {
		v.Advice = pve.Forensics
	}
	return v, c.running() && c.deaf()
}

// booting: QEMU was started or the guest reset inside it, whichever was later.
func (c *Capture) booting() (Verdict, bool) {
	if !c.running() || c.Process == nil || c.Guest == nil || !c.Guest.Mute {
		return Verdict{}, false
	}
	what, ago := "Started", c.Process.Age
	if c.Reset > 0 && c.Reset < ago {
		what, ago = "Reset", c.Reset
	}
	return Verdict{Text: fmt.Sprintf("%s %s ago: %s, and no agent runs yet; give it a moment", what, span(ago), c.cpu())}, ago < 2*time.Minute
}

// noIO: idle and stalled look the same from here.
func (c *Capture) noIO() (Verdict, bool) {
	quiet, ok := c.still()
	_, known := c.held()
	return Verdict{Text: fmt.Sprintf("%s, and nothing tells whether any waits: idle or stalled; try SSH", noIOFor(quiet))}, ok && !known
}

func (c *Capture) idle() (Verdict, bool) {
	quiet, ok := c.still()
	return Verdict{Text: fmt.Sprintf("Idle from outside: %s, no I/O for %s and none waiting, %s; look inside the guest", c.cpu(), span(quiet), c.agent())}, ok
}

func (c *Capture) healthy() (Verdict, bool) {
	return Verdict{Text: fmt.Sprintf("Healthy from outside: %s, I/O moving, %s; look inside the guest", c.cpu(), c.agent())}, c.running() && c.moving()
}

// agent is how the guest's agent does, in words.
func (c *Capture) agent() string {
	switch {
	case c.answers():
		return "agent answers"
	case c.Guest == nil || c.Guest.Absent:
		return "no agent configured"
	case !c.deaf():
		return "no agent runs in it"
	}
	return "agent silent"
}

func first(found []string) string {
	if len(found) == 0 {
		return ""
	}
	return found[0]
}
