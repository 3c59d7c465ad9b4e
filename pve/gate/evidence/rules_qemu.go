package evidence

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"bgbot/pve"
)

// The rules about QEMU itself: is it there, does it answer, what does it say.

// stuckProcess: a thread that hangs in the kernel can neither work nor die. A long write is no such thing, so I/O must not
// move; of a killed QEMU every thread that is left counts.
func (c *Capture) stuckProcess() (Verdict, bool) {
	p := c.Process
	if p == nil {
		return Verdict{}, false
	}
	stuck := p.stuck()
	switch {
	case p.left() && p.live() > 0:
		where := ""
		for _, t := range p.newest() {
			if t.stuck() {
				where = " in D (" + short(t.Where, 25) + ")"
			}
		}
		return Verdict{Text: fmt.Sprintf("QEMU was killed, but %s live%s on%s: host storage; start nothing",
			count(int64(p.live()), "thread"), map[bool]string{true: "s"}[p.live() == 1], where)}, true
	case len(stuck) > 0 && p.Window >= lately && !c.moving():
		since := p.Window
		if quiet, ok := c.still(); ok && quiet != never {
			since = max(since, quiet)
		}
		return Verdict{Text: fmt.Sprintf("QEMU hangs in the kernel: %s in D for %s (%s): host storage; start nothing",
			count(int64(len(stuck)), "thread"), span(since), short(stuck[0].Where, 25))}, true
	}
	return Verdict{}, false
}

// lost: qm sees a VM and nobody sees its process.
func (c *Capture) lost() (Verdict, bool) {
	status := c.qmStatus()
	return Verdict{Text: fmt.Sprintf("qm says %s, but no QEMU of VM %d was found: look at the host; start nothing", status, c.VMID)},
		c.QEMU.Pid == 0 && status != "" && status != "stopped"
}

var oomKill = regexp.MustCompile(`\[ *(\d+)\.\d+\] .*oom-kill:.*/(\d+)\.scope,task=([^,]*),pid=(\d+)`)

// hostOOM: the host's kernel killed QEMU for its memory, after the last start.
func (c *Capture) hostOOM() (Verdict, bool) {
	if c.QEMU.Pid != 0 {
		return Verdict{}, false
	}
	for _, line := range oomKill.FindAllStringSubmatch(c.text(kernelProbe), -1) {
		seconds, err := strconv.Atoi(line[1])
		ago := c.Host.Up - time.Duration(min(seconds, 1e9))*time.Second
		if err != nil || line[2] != fmt.Sprint(c.VMID) || (len(c.Tasks) > 0 && c.Tasks[0].Began.After(c.At.Add(-ago))) {
			continue
		}
		return Verdict{Text: fmt.Sprintf("Stopped: the host ran out of memory and killed QEMU (pid %s) %s ago; `start`", line[4], span(ago)), Advice: pve.Start}, true
	}
	return Verdict{}, false
}

// startFailed: the last thing that Proxmox did was a start that came to nothing.
func (c *Capture) startFailed() (Verdict, bool) {
	if c.QEMU.Pid != 0 || len(c.Tasks) == 0 || c.Tasks[0].Type != "qmstart" {
		return Verdict{}, false
	}
	t := c.Tasks[0]
	if t.End == "" || t.End == "OK" || strings.HasPrefix(t.End, "WARNINGS") {
		return Verdict{}, false
	}
	return Verdict{Text: fmt.Sprintf("Stopped: the last start failed %s ago: %s", span(c.At.Sub(t.Began)), t.End), Advice: pve.Start}, true
}

func (c *Capture) stopped() (Verdict, bool) {
	if c.QEMU.Pid != 0 {
		return Verdict{}, false
	}
	text := "Stopped: no QEMU of it runs; `start`"
	if len(c.Tasks) > 0 {
		t := c.Tasks[0]
		text = fmt.Sprintf("Stopped: its last task was %s by %s %s ago; `start`", t.Type, t.User, span(c.At.Sub(t.Began)))
	}
	return Verdict{Text: text, Advice: pve.Start}, true
}

// mainLoop: QEMU was asked twice, 3 s apart, and qm did not get an answer either.
func (c *Capture) mainLoop() (Verdict, bool) {
	switch p, m := c.Process, c.Machine; {
	case p != nil && (p.State == "T" || p.State == "t"):
		return Verdict{Text: "QEMU is stopped by a signal (state " + p.State + "), so nothing in it answers; `cycle`", Advice: pve.Cycle}, true
	case m == nil || m.Silent == 0 || m.Tries < 2 || c.qmTalked():
		return Verdict{}, false
	case c.Host.starved() != "":
		return Verdict{Text: fmt.Sprintf("QEMU does not answer on its control socket (%d tries, %s): hung, or starved by the host, %s", m.Tries, span(m.Silent), c.Host.starved())}, true
	default:
		return Verdict{Text: fmt.Sprintf("QEMU does not answer on its control socket (%d tries, %s): main loop hung; `cycle`", m.Tries, span(m.Silent)), Advice: pve.Cycle}, true
	}
}

// fellSilent: QEMU answered, and then did not. Its main loop may hang since then, or one command keeps the others waiting.
func (c *Capture) fellSilent() (Verdict, bool) {
	m := c.Machine
	if m == nil || m.Broke == nil {
		return Verdict{}, false
	}
	text := fmt.Sprintf("QEMU answered `%s`, then fell silent at `%s`", m.Broke.Answered, m.Broke.At)
	if m.Broke.Answered == "greeting" {
		text = "QEMU greets, but takes no command: an earlier one has not ended"
	}
	switch {
	case !m.Broke.Deaf || c.qmTalked():
		return Verdict{Text: text + "; look again with `forensics`", Advice: pve.Forensics}, true
	case c.Host.starved() != "":
		return Verdict{Text: text + ": hung, or starved by the host, " + c.Host.starved()}, true
	default:
		return Verdict{Text: text + " and greets nobody now; `cycle`", Advice: pve.Cycle}, true
	}
}

// qmTalked says that qm got an answer of QEMU during the look; without one it leaves this key out.
func (c *Capture) qmTalked() bool {
	return strings.Contains("\n"+c.text(statusProbe), "\nrunning-qemu: ")
}

// mainLoopSuspected: asked once; somebody else may just have had the socket.
func (c *Capture) mainLoopSuspected() (Verdict, bool) {
	m := c.Machine
	if m == nil || m.Silent == 0 || m.Tries > 1 || c.qmTalked() {
		return Verdict{}, false
	}
	text := fmt.Sprintf("QEMU gave no answer on its control socket for %s: busy or hung; `forensics` looks longer", span(m.Silent))
	if m.Silent < time.Second {
		text = "QEMU has not served earlier callers of its control socket: busy or hung; `forensics` looks longer"
	}
	return Verdict{Text: text, Advice: pve.Forensics}, true
}

func (c *Capture) socketTaken() (Verdict, bool) {
	return Verdict{Text: "QEMU answers qm, but another client holds its control socket; look again"},
		c.Machine != nil && c.Machine.Silent > 0 && c.qmTalked()
}

func (c *Capture) socketGone() (Verdict, bool) {
	switch m, p := c.Machine, c.Process; {
	case m == nil || !m.Absent:
		return Verdict{}, false
	case p == nil:
		return Verdict{Text: fmt.Sprintf("QEMU %d ended during the look; look again", c.QEMU.Pid)}, true
	case p.Age < 10*time.Second:
		return Verdict{Text: fmt.Sprintf("QEMU %d is %s old and not ready yet; look again", p.Pid, span(p.Age))}, true
	default:
		return Verdict{Text: fmt.Sprintf("QEMU %d runs, but nobody listens on its control socket; `cycle`", p.Pid), Advice: pve.Cycle}, true
	}
}

// noSpace: Proxmox has QEMU pause a guest when the host has no room for what it writes.
func (c *Capture) noSpace() (Verdict, bool) {
	if c.Machine != nil && c.Machine.Status == "io-error" {
		for _, d := range c.Machine.Devices {
			if d.Status == "nospace" {
				return Verdict{Text: fmt.Sprintf("The host's storage is full: %s paused on a write; free space, then `qm resume %d` on the host", d.Name, c.VMID)}, true
			}
		}
	}
	return Verdict{}, false
}

func (c *Capture) ioError() (Verdict, bool) {
	if c.Machine == nil || c.Machine.Status != "io-error" {
		return Verdict{}, false
	}
	which := "a disk"
	for _, d := range c.Machine.Devices {
		if d.Status != "" && d.Status != "ok" {
			which = d.Name
		}
	}
	return Verdict{Text: fmt.Sprintf("The host failed a read or write of %s and QEMU paused: mend the storage, then `qm resume %d`", which, c.VMID)}, true
}

// notRunning: a QEMU that answers and does not run the guest. A reset does not set it going again (it makes it prelaunch,
// measured with QEMU 7.2), so it is no advice here.
func (c *Capture) notRunning() (Verdict, bool) {
	if c.Machine == nil || c.Machine.Silent > 0 || c.Machine.Broke != nil || c.Machine.Status == "" || c.Machine.Status == "running" {
		return Verdict{}, false
	}
	state := c.Machine.Status
	if len(c.Tasks) > 0 && c.Tasks[0].End == "" && c.At.Sub(c.Tasks[0].Began) < time.Hour {
		return Verdict{Text: fmt.Sprintf("QEMU is %s while the task %s of %s is at work; wait for it", state, c.Tasks[0].Type, c.Tasks[0].User)}, true
	}
	switch state {
	case "paused":
		return Verdict{Text: fmt.Sprintf("Paused by someone or by a task; `qm resume %d` on the host continues it, a `cycle` loses memory", c.VMID)}, true
	case "prelaunch":
		return Verdict{Text: "QEMU waits before its first instruction (prelaunch): nobody finished a start or reset; `cycle`", Advice: pve.Cycle}, true
	case "internal-error":
		return Verdict{Text: "QEMU stopped the guest on an internal error (of KVM, mostly): only a fresh QEMU helps; `cycle`", Advice: pve.Cycle}, true
	case "guest-panicked":
		return Verdict{Text: "The guest panicked and QEMU holds it; a `reset` would not set it going again; `cycle`", Advice: pve.Cycle}, true
	case "watchdog":
		return Verdict{Text: "The guest's watchdog fired and QEMU stopped it; `cycle`", Advice: pve.Cycle}, true
	case "shutdown":
		return Verdict{Text: "The guest powered off, but its QEMU is still there; `cycle` boots it again", Advice: pve.Cycle}, true
	case "suspended":
		return Verdict{Text: fmt.Sprintf("The guest sleeps (suspended to memory); `qm resume %d` on the host wakes it", c.VMID)}, true
	case "postmigrate":
		return Verdict{Text: "The VM was migrated away: it runs on another node, and this QEMU is its shell"}, true
	case "inmigrate", "finish-migrate", "save-vm", "restore-vm", "colo":
		return Verdict{Text: fmt.Sprintf("QEMU is at a task of its own (%s): a migration or a snapshot; wait for it", state)}, true
	}
	return Verdict{Text: fmt.Sprintf("QEMU does not run the guest: its state is %s", state)}, true
}
