package gate

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/host"

	"golang.org/x/sys/unix"
)

// The deadlines of a change. A test adds them up: all that comes before and during a qm start fits into the verb's budget,
// so that no start is ended half-way. The waiting for what the guest does takes what is left. `qm stop` of a wedged VM
// takes 16 s, or 71 s since qemu-server a0960ff1 (2026-06), which waits 60 s for QMP before it signals.
const (
	// The look's own 9 s, with one for QEMU's command line before it, and one for the words and one for the disk after it.
	captureLimit = 9*time.Second + host.ProcLimit + wordsLimit + diskLimit
	configLimit  = 10 * time.Second
	haLimit      = 5 * time.Second
	qmStopLimit  = 90 * time.Second
	settleLimit  = 2 * time.Second // for the kernel to take the process away after qm stop
	quitLimit    = 5 * time.Second
	termLimit    = 5 * time.Second
	killLimit    = 10 * time.Second
	doubtLimit   = 5 * time.Second // for a dying QEMU of which nobody can say whose it is
	scopeLimit   = 5 * time.Second // for swtpm and virtiofsd, which end when their QEMU has
	cleanupLimit = 15 * time.Second
	pidFileLimit = 2 * time.Second
	qmStartLimit = 120 * time.Second
	qmResetLimit = 30 * time.Second
	newLimit     = 10 * time.Second
	lookEvery    = 100 * time.Millisecond
)

// change does a verb that alters the VM, with the lock held: evidence first, then the checks, then the act. Its error is
// always how it ended.
func (g *gate) change() error {
	g.capture("") // its time is its own: whatever it takes, none of the change's is lost
	ctx, cancel := context.WithTimeout(context.Background(), g.verb.Budget()-tail-captureLimit)
	defer cancel()
	old, doubt := g.identify(ctx)
	switch {
	case old != nil:
		defer old.close()
		if err := g.remember(old); err != nil {
			g.step("identify", pve.StepFail, "%v", err)
		}
		g.step("identify", pve.StepOK, "%s, up %s", old, span(old.Age()))
	case len(doubt) > 0:
		g.step("identify", pve.StepFail, "no QEMU of VM %d was found, but there is %s", g.vmid, strings.Join(doubt, ", and "))
	default:
		g.step("identify", pve.StepOK, "no QEMU of VM %d was found", g.vmid)
	}
	if g.verb == pve.Start && old != nil && !old.leftover() {
		return g.startNothing(ctx, old)
	}
	if err := g.check(ctx, old); err != nil {
		return err
	}
	switch g.verb {
	case pve.Start:
		return g.start(ctx, old)
	case pve.Reset:
		return g.reset(ctx, old)
	case pve.Stop:
		if err := g.stop(ctx, old); err != nil {
			return err
		}
		if old == nil {
			return ended(pve.Done, "VM %d is already stopped.", g.vmid).withStatus("stopped")
		}
		return ended(pve.Done, "VM %d is stopped: %s is gone.", g.vmid, old).withStatus("stopped")
	default:
		if err := g.stop(ctx, old); err != nil {
			return err
		}
		return g.boot(ctx, old)
	}
}

var configLock = regexp.MustCompile(`(?m)^lock: (\S+)`)

// check refuses what must not be touched: a VM under another task's lock, and one that HA looks after.
func (g *gate) check(ctx context.Context, old *qemu) error {
	if ctx.Err() != nil {
		return g.outOfTime()
	}
	g.step("check", pve.StepStart, "lock and HA")
	type answer struct {
		managed bool
		err     error
	}
	ha := make(chan answer, 1)
	go func() {
		managed, err := g.managed(ctx)
		ha <- answer{managed, err}
	}()
	config := g.qm(ctx, configLimit, "config")
	byHA := <-ha
	if byHA.managed {
		g.step("check", pve.StepFail, "managed by HA")
		return g.managedByHA()
	}
	by := ""
	if locked := configLock.FindStringSubmatch(config.Out); config.OK() && locked != nil {
		by = locked[1]
	} else if !config.OK() {
		by = g.heldBy // the evidence has asked as well, a moment ago
	}
	switch {
	case by != "":
		g.seen.Lock = by
		g.step("check", pve.StepFail, "locked (%s)", by)
		return g.locked(by)
	case config.CalledOff:
		return g.outOfTime()
	case config.OK() && byHA.err != nil && g.verb != pve.Reset: // HA leaves a reset alone (qemu-server, API2/Qemu.pm)
		g.step("check", pve.StepFail, "HA could not be asked: %s", firstLine(byHA.err.Error()))
		return ended(pve.Refused, "VM %d may be managed by HA, which cannot be asked; nothing was changed.\n%v.\n"+
			"Mend ha-manager on the host, or use qm there.", g.vmid, byHA.err)
	case config.OK():
		g.step("check", pve.StepOK, "no lock, not managed by HA")
	case config.Hung && g.verb == pve.Stop && old != nil:
		// A stop needs no qm to come true: the process can be ended without it, and where qm hangs HA does as well, since
		// both ask /etc/pve. Anything that starts a VM needs qm, so a cycle on such a host would only leave the VM off.
		g.qmHangs = true
		g.step("check", pve.StepFail, "qm does not answer, so nothing is known of a lock or of HA; going on, as a stop needs no qm")
	default:
		g.step("check", pve.StepFail, "%s", firstLine(config.Words()))
		end := g.qmSaidNo("qm config", config)
		end.text += "\nNothing was changed."
		return end
	}
	g.hasAgent = agentEnabled(config.Out)
	return nil
}

func (g *gate) outOfTime() error {
	g.step("check", pve.StepFail, "no time is left")
	return ended(pve.Broken, "The gate had no time left to begin: the host is too slow; nothing was changed.\nAsk status, then try again.")
}

// reset is warm: the guest reboots inside the same QEMU.
func (g *gate) reset(ctx context.Context, old *qemu) error {
	if old == nil || old.leftover() {
		g.step("reset", pve.StepFail, "nothing runs")
		return ended(pve.Failed, "VM %d is not running: there is nothing to reset. Use start.", g.vmid).withStatus("stopped")
	}
	g.step("reset", pve.StepStart, "qm reset %d", g.vmid)
	s := g.qm(ctx, qmResetLimit, "reset")
	if !s.OK() {
		g.step("reset", pve.StepFail, "%s", firstLine(s.Words()))
		end := g.qmSaidNo("qm reset", s)
		if s.Hung || strings.Contains(s.All(), "qmp command") {
			end.text += "\nQEMU itself does not answer, so a reset cannot help: use cycle."
		}
		return end
	}
	if old.dead(0) {
		g.step("reset", pve.StepFail, "%s ended", old)
		return ended(pve.Unverified, "VM %d was reset, but %s ended. Use start.", g.vmid, old).withStatus("stopped")
	}
	g.noteReset(old)
	g.step("reset", pve.StepOK, "%s goes on", old)
	if missing := g.up(ctx, g.writesAfterReset()); len(missing) > 0 {
		return g.notUp(old, fmt.Sprintf("VM %d was reset", g.vmid), missing)
	}
	return ended(pve.Done, "VM %d was reset in %s: the guest booted again inside %s.", g.vmid, lasted(time.Since(g.at)), old).withStatus("running")
}

// stop ends the old QEMU and proves it, or nothing more happens.
func (g *gate) stop(ctx context.Context, old *qemu) error {
	if old == nil {
		return g.stopNothing(ctx)
	}
	if g.qmHangs { // it would hang for its whole limit once more
		g.step("stop", pve.StepSkip, "qm does not answer; QEMU is ended without it")
		return g.end(ctx, old)
	}
	g.step("stop", pve.StepStart, "qm stop %d", g.vmid)
	s := g.qm(ctx, qmStopLimit, "stop", "--timeout", "20")
	gone := old.dead(settleLimit)
	switch {
	case strings.Contains(s.All(), "Requesting HA"):
		g.step("stop", pve.StepFail, "HA took the request")
		return g.askedHA("stop")
	case !s.OK() && !s.Hung && !gone:
		g.step("stop", pve.StepFail, "%s", firstLine(s.Words()))
		return g.qmSaidNo("qm stop", s)
	case !s.OK():
		g.step("stop", pve.StepFail, "%s", firstLine(s.Words()))
	default:
		g.step("stop", pve.StepOK, "qm stop came back")
	}
	return g.end(ctx, old)
}

// end makes sure that QEMU is gone, by force if need be.
func (g *gate) end(ctx context.Context, old *qemu) error {
	if !old.dead(0) && !g.kill(ctx, old) {
		g.step("stopped", pve.StepFail, "%s is still there: %s", old, joined(host.Stuck(old.Pid)))
		return g.notDead(old)
	}
	return g.provenDead(ctx, fmt.Sprintf("no thread of %s is left", old))
}

// provenDead is the gate before every start: no process of the VM anywhere, by its words, its pid file, what was noted
// of it, or its scope, and none of which nobody can say. `qm status` is not asked, since it calls a QEMU stopped whose threads still write.
func (g *gate) provenDead(ctx context.Context, so string) error {
	other, doubt := g.identify(ctx)
	if other == nil && len(doubt) > 0 { // the QEMU of another VM that is just ending goes by itself
		until(ctx, doubtLimit, func(ctx context.Context) bool {
			other, doubt = g.identify(ctx)
			return other != nil || len(doubt) == 0
		})
	}
	switch {
	case other != nil:
		defer other.close()
		g.step("stopped", pve.StepFail, "%s is there", other)
		return g.notDead(other)
	case len(doubt) > 0:
		g.step("stopped", pve.StepFail, "there is %s", strings.Join(doubt, ", and "))
		return ended(pve.Refused, "VM %d is not provably dead: of a QEMU nobody can say whose it is; nothing was started.\n"+
			"There is %s. When that is gone, say start.", g.vmid, strings.Join(doubt, ", and ")).withStatus("stuck")
	}
	left, saw := g.emptyScope(ctx)
	if len(left) > 0 {
		g.step("stopped", pve.StepFail, "its scope still holds %s", strings.Join(left, ", "))
		return ended(pve.Refused, "Processes of VM %d are left in its scope, so it is not provably dead; nothing was started.\n"+
			"They are: %s. When they are gone, say start.", g.vmid, strings.Join(left, ", ")).withStatus("stuck")
	}
	g.step("stopped", pve.StepOK, "%s; %s", so, saw) // short: a phone cuts it
	return nil
}

// stopNothing makes sure that there is nothing to stop: a QEMU that we do not recognise must not get a second beside it.
func (g *gate) stopNothing(ctx context.Context) error {
	s := g.qm(ctx, configLimit, "status")
	if status := vmStatus(s.Out); !s.OK() || status != "stopped" {
		g.step("stop", pve.StepFail, "no QEMU was found, and qm says: %s", firstLine(s.Words()))
		return ended(pve.Refused, "VM %d is %q for qm, but its QEMU cannot be found, so it is not provably dead; nothing was started.\n"+
			"Look at the host.", g.vmid, status).withStatus(status)
	}
	g.step("stop", pve.StepSkip, "it is stopped already")
	return g.provenDead(ctx, "nothing runs")
}

// kill is the ladder for a QEMU that qm did not end.
func (g *gate) kill(ctx context.Context, old *qemu) bool {
	for _, rung := range []struct {
		name  string
		act   func() error
		limit time.Duration
	}{
		{"quit", func() error { return g.quit(ctx) }, quitLimit},
		{"term", func() error { return old.signal(unix.SIGTERM) }, termLimit},
		{"kill", func() error { return old.signal(unix.SIGKILL) }, killLimit},
	} {
		g.step(rung.name, pve.StepStart, "%s, for %s", old, rung.limit)
		err := rung.act()
		if err == nil && old.dead(rung.limit) || old.dead(0) {
			g.step(rung.name, pve.StepOK, "%s ended", old)
			return true
		}
		if err != nil {
			g.step(rung.name, pve.StepFail, "%v", err)
			continue
		}
		g.step(rung.name, pve.StepFail, "%s is still there", old)
	}
	return false
}

// quit asks QEMU itself, which flushes its disks before it ends.
func (g *gate) quit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return g.ask(ctx, "quit", nil)
}

// start is the verb; a leftover of an old QEMU gets a last chance to be gone.
func (g *gate) start(ctx context.Context, old *qemu) error {
	if old != nil && !old.dead(settleLimit) {
		g.step("stopped", pve.StepFail, "%s is still there", old)
		return g.notDead(old)
	}
	if err := g.provenDead(ctx, "nothing of an old QEMU is left"); err != nil {
		return err
	}
	return g.boot(ctx, nil)
}

// startNothing makes sure that there is nothing to start: that qm, too, sees the QEMU that was found.
func (g *gate) startNothing(ctx context.Context, old *qemu) error {
	s := g.qm(ctx, configLimit, "status")
	switch status := vmStatus(s.Out); {
	case !s.OK():
		g.step("start", pve.StepFail, "%s runs, but qm status says: %s", old, firstLine(s.Words()))
		return ended(pve.Unverified, "%s of VM %d runs, but qm does not confirm it; nothing was started.\nqm said: %s",
			old, g.vmid, s.Words()).withStatus("unknown")
	case status == "stopped":
		g.step("start", pve.StepFail, "%s runs, but qm says stopped", old)
		return ended(pve.Refused, "VM %d is stopped for qm, but %s of it still runs; nothing was started.\n"+
			"Say cycle: it ends that one first.", g.vmid, old).withStatus("stuck")
	case status == "running":
		g.step("start", pve.StepSkip, "it runs already")
		return ended(pve.Done, "VM %d is already running: %s, up %s.", g.vmid, old, span(old.Age())).withStatus(status)
	default:
		g.step("start", pve.StepSkip, "it is %s already", status)
		return ended(pve.Done, "VM %d is started already, and qm calls it %q: %s, up %s.", g.vmid, status, old, span(old.Age())).withStatus(status)
	}
}

// until looks again and again, and says whether it saw what it looked for. A look ends with its context.
func until(ctx context.Context, limit time.Duration, seen func(context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !seen(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
