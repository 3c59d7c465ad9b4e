package gate

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"bgbot/pve"
	"bgbot/pve/gate/host"
)

var lockedBy = regexp.MustCompile(`VM is locked \(([^)]*)\)`)

// qmSaidNo translates qm's failure. Every failure of qm is exit 255, so its words are what there is to go by; they are
// those of proxmox/qemu-server 9.2.
func (g *gate) qmSaidNo(what string, s host.Said) *ending {
	text := s.All()
	switch locked := lockedBy.FindStringSubmatch(text); {
	case locked != nil:
		return g.locked(locked[1])
	case strings.Contains(text, "Requesting HA"):
		return g.askedHA("start")
	case strings.Contains(text, "timeout waiting on systemd"):
		return ended(pve.Refused, "Not started: threads of the old QEMU of VM %d may still live (%s).\n"+
			"It is not provably dead; look for a storage problem on the host, then say start.", g.vmid, firstLine(s.Words()))
	case s.Hung, s.CalledOff:
		return ended(pve.Failed, "%s did not come back (%v).\nThe host's /etc/pve or its storage may hang. Ask status.", what, s.Err)
	case strings.Contains(text, "can't lock file"):
		return ended(pve.Failed, "%s failed: another task on the host holds the lock of VM %d.\nqm said: %s\nTry again when it has ended.", what, g.vmid, s.Words())
	}
	return ended(pve.Failed, "%s failed: %s", what, s.Words())
}

func (g *gate) locked(by string) *ending {
	return ended(pve.Refused, "VM %d is locked (%s); nothing was changed.\n"+
		"Wait for the %s to end. If no task is left on the host, an administrator can run: qm unlock %d", g.vmid, by, by, g.vmid)
}

func (g *gate) managedByHA() *ending {
	return ended(pve.Refused, "VM %d is managed by HA, which decides itself; nothing was changed here.\n"+
		"Use ha-manager on the host, or take the VM out of HA first.", g.vmid)
}

// askedHA is for a VM of which nobody knew that HA manages it: qm has filed a request and come back before anything
// happened, and HA will carry it out.
func (g *gate) askedHA(to string) *ending {
	return ended(pve.Refused, "HA was asked to %s VM %d and will; nothing else was done here.\n"+
		"Ask status. Then, for a VM that is to run: ha-manager set vm:%d --state started", to, g.vmid, g.vmid)
}

// notDead is the refusal that matters most: a second QEMU on the disk of a first destroys it, and Proxmox runs without
// image locks.
func (g *gate) notDead(q *qemu) *ending {
	why := "it does not go away"
	if stuck := host.Stuck(q.Pid); len(stuck) > 0 {
		why = fmt.Sprintf("%d of its threads hang in the kernel (%s): a storage problem", len(stuck), stuck[0].Where)
	}
	return ended(pve.Refused, "%s of VM %d is not provably dead; nothing was started.\n"+
		"%s. When the host's storage answers again, say start.", q, g.vmid, capital(why)).withStatus("stuck")
}

// span says a duration in the two units that matter.
func span(d time.Duration) string {
	s := int(d.Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", max(0, s))
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
}

// lasted says how long something took, which may be less than a second.
func lasted(d time.Duration) string {
	if d >= 10*time.Second {
		return span(d)
	}
	return fmt.Sprintf("%.1f s", max(0.1, d.Seconds()))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// joined is a list of threads on one line.
func joined(threads []host.Thread) string {
	var all []string
	for _, t := range threads {
		all = append(all, t.String())
	}
	return strings.Join(all, "; ")
}

// lines is a list of threads, each after a line break.
func lines(threads []host.Thread) string {
	var b strings.Builder
	for _, t := range threads {
		b.WriteString("\n" + t.String())
	}
	return b.String()
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// printable is foreign text without what could draw on a terminal or forge a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
