package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/host"
)

// boot starts the VM and verifies it. Whoever calls it has proved that no old one is left.
func (g *gate) boot(ctx context.Context, old *qemu) error {
	g.awaitCleanup(ctx)
	g.step("start", pve.StepStart, "qm start %d", g.vmid)
	s := g.qm(ctx, qmStartLimit, "start")
	if strings.Contains(s.All(), "can't lock file") && timeLeft(ctx) > cleanupLimit+pidFileLimit+host.ProcLimit+qmStartLimit {
		// Proxmox's clean-up after a death holds the lock for up to 30 s when it meets a start. Without the time for a whole
		// qm start there is no second one: it would be ended half-way.
		g.step("start", pve.StepFail, "another task holds the lock; once more")
		g.awaitCleanup(ctx)
		g.step("start", pve.StepStart, "qm start %d, second try", g.vmid)
		s = g.qm(ctx, qmStartLimit, "start")
	}
	unknown := s.Hung || s.CalledOff
	switch {
	case strings.Contains(s.All(), "Requesting HA"), !s.OK() && !unknown && !strings.Contains(s.All(), "already running"):
		g.step("start", pve.StepFail, "%s", firstLine(s.Words()))
		end := g.qmSaidNo("qm start", s)
		if g.verb == pve.Cycle {
			end.text = fmt.Sprintf("VM %d was stopped, but does not start: it is off now.\n%s", g.vmid, strings.ReplaceAll(end.text, "nothing was changed", "nothing was started"))
		}
		return end.withStatus("stopped")
	case !s.OK():
		g.step("start", pve.StepFail, "%s", firstLine(s.Words()))
	default:
		g.step("start", pve.StepOK, "qm start came back")
	}
	return g.started(ctx, old, s)
}

// started says whether a VM whose start came back is up: a process that is not the old one, then all that it has to do.
func (g *gate) started(ctx context.Context, old *qemu, s host.Said) error {
	fresh, why := g.freshQEMU(ctx, old)
	if fresh == nil {
		if s.Hung || s.CalledOff {
			return g.qmSaidNo("qm start", s)
		}
		return ended(pve.Unverified, "VM %d was started, but %s within %s. Ask status.", g.vmid, why, newLimit)
	}
	defer fresh.close()
	what := fmt.Sprintf("VM %d was started", g.vmid)
	if g.verb == pve.Cycle && old != nil {
		what = fmt.Sprintf("VM %d was cycled", g.vmid)
	}
	missing := g.up(ctx, g.writesLayer())
	took := lasted(time.Since(g.at))
	if len(missing) > 0 {
		return g.notUp(fresh, what, missing)
	}
	if old != nil {
		return ended(pve.Done, "%s in %s: %s is gone, %s runs.", what, took, old, fresh).withStatus("running")
	}
	return ended(pve.Done, "%s in %s: %s runs.", what, took, fresh).withStatus("running")
}

// freshQEMU waits for a process that is not the old one.
func (g *gate) freshQEMU(ctx context.Context, old *qemu) (fresh *qemu, why string) {
	missing := g.verify(ctx, layer{name: "process", wants: "a new QEMU", limit: newLimit, look: func(context.Context) (string, error) {
		fresh = g.fromPidFile()
		if fresh != nil && old != nil && fresh.Process == old.Process {
			fresh.close()
			fresh = nil
		}
		if fresh == nil {
			return "", errNoQEMU
		}
		return fresh.String(), nil
	}})
	if fresh == nil {
		return nil, missing[0].why
	}
	return fresh, ""
}

// up looks whether a VM that was just started or reset does its work, and says what is missing. A silent agent counts
// only where nothing else can tell of the guest: it is often enabled and not installed. It leaves the time for a capture.
func (g *gate) up(ctx context.Context, writes layer) (missing []lack) {
	ctx, cancel := context.WithTimeout(ctx, min(g.wait, timeLeft(ctx)-captureLimit))
	defer cancel()
	missing = g.verify(ctx, g.qmpLayer(), writes, g.sshLayer())
	limit := agentLimit
	if g.ssh == "" && len(missing) == 0 {
		limit = g.wait
	}
	silent := g.verify(ctx, g.agentLayer(limit))
	if g.ssh == "" || len(missing) > 0 {
		missing = append(missing, silent...)
	}
	return missing
}

// notUp tells what is missing, and captures once more: the new guest's own evidence, and what is on its screen.
func (g *gate) notUp(q *qemu, what string, missing []lack) error {
	var words []string
	for _, m := range missing {
		if !slices.Contains(words, m.why) {
			words = append(words, m.why)
		}
	}
	end := ended(pve.Unverified, "%s, but is not up after %s: %s.", what, lasted(time.Since(g.at)), strings.Join(words, "; "))
	if q.dead(0) {
		return ended(pve.Unverified, "%s, but %s ended again. Use start.", what, q).withStatus("stopped")
	}
	g.capture("after")
	return end.withStatus("running")
}

// awaitCleanup lets Proxmox's own clean-up end, which would otherwise race with the start.
func (g *gate) awaitCleanup(ctx context.Context) {
	until(ctx, pidFileLimit, func(context.Context) bool { return g.pidFileGone() })
	until(ctx, cleanupLimit, func(ctx context.Context) bool { return !g.cleaning(ctx) })
}

// timeLeft is the time until the deadline of ctx.
func timeLeft(ctx context.Context) time.Duration {
	end, _ := ctx.Deadline()
	return time.Until(end)
}
