package gate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/evidence"
	"bgbot/pve/gate/host"
)

const statusLimit = 8 * time.Second

// status tells how the VM is and what the last change came to. It takes no lock and changes nothing.
func (g *gate) status(ctx context.Context, last record) error {
	subject := g.subject()
	said := make(chan host.Said, 1)
	go func() { said <- g.qm(ctx, statusLimit, "status", "--verbose") }() // bounded by its own limit
	c := evidence.Glance(ctx, subject)
	s := <-said
	c.Note("qm status", s.Out, s.Failure())
	verdict := g.judge(c)
	q := g.identify()
	if q != nil {
		defer q.close()
		g.seen.Uptime = int64(q.Age().Seconds())
	}
	if locked := configLock.FindStringSubmatch(s.Out); locked != nil {
		g.seen.Lock = locked[1]
	}
	g.seen.Forensics = g.newestCapture()
	g.seen.HostKeys = g.hostKeys(ctx, verdict)
	end := g.describe(s, q)
	end.text += "\n" + g.seen.Verdict
	if words := last.words(g.at); words != "" {
		end.text += "\nLast: " + words
	} else {
		end.text += "\nNo change was made through this gate yet."
	}
	return end
}

// describe puts what qm says and what the process shows into words; where the two disagree it says so.
func (g *gate) describe(s host.Said, q *qemu) *ending {
	status := vmStatus(s.Out)
	process := "no QEMU was found"
	if q != nil {
		process = fmt.Sprintf("%s, up %s", q, span(q.Age()))
	}
	switch {
	case s.Hung:
		return ended(pve.Done, "VM %d: qm does not answer (%s).\n%v. The host's /etc/pve or storage may hang.", g.vmid, process, s.Err).withStatus("unknown")
	case !s.OK():
		return ended(pve.Failed, "VM %d: qm status failed (%s).\nqm said: %s", g.vmid, process, s.Words()).withStatus("unknown")
	case status == "stopped" && q != nil:
		return ended(pve.Done, "VM %d is not dead: qm says stopped, but threads of QEMU %d are left. Start nothing.%s",
			g.vmid, q.Pid, lines(host.Stuck(q.Pid))).withStatus("stuck")
	case status == "stopped":
		return ended(pve.Done, "VM %d is stopped.", g.vmid).withStatus(status)
	}
	return ended(pve.Done, "VM %d is %s (%s).", g.vmid, status, process).withStatus(status)
}

// rehearse says what a change would do.
func (g *gate) rehearse(ctx context.Context) error {
	old := g.identify()
	what := "no QEMU of it was found"
	if old != nil {
		defer old.close()
		what = fmt.Sprintf("%s, up %s", old, span(old.Age()))
	}
	if err := g.check(ctx, old); err != nil {
		return err
	}
	does := map[pve.Verb]string{
		pve.Start: "run qm start unless it runs already, and wait for a new QEMU",
		pve.Reset: "run qm reset",
		pve.Stop:  "run qm stop, then TERM and KILL if need be, and prove that QEMU is dead",
		pve.Cycle: "run qm stop, then TERM and KILL if need be, prove that QEMU is dead, run qm start and wait for a new QEMU",
	}
	return ended(pve.Done, "Dry run of %s: nothing was changed. VM %d: %s.\nIt would capture forensics, then %s.", g.verb, g.vmid, what, does[g.verb])
}

var statusLine = regexp.MustCompile(`(?m)^(qmpstatus|status): (\S+)`)

// vmStatus reads both forms of qm status: the verbose one has the finer word as qmpstatus.
func vmStatus(text string) string {
	found := "unknown"
	for _, line := range statusLine.FindAllStringSubmatch(text, -1) {
		if found = line[2]; line[1] == "qmpstatus" {
			break
		}
	}
	return found
}

// askHA asks the HA manager of the host, whose command lies beside qm. A host without it has no HA.
func (g *gate) askHA(ctx context.Context) host.Said {
	path := filepath.Join(filepath.Dir(g.qmPath), "ha-manager")
	if _, err := host.Within(host.ProcLimit, func() (os.FileInfo, error) { return os.Stat(path) }); err != nil {
		return host.Said{}
	}
	return host.Command(ctx, haLimit, path, "config")
}

func (g *gate) haKnows(config string) bool {
	return slices.ContainsFunc(strings.Split(config, "\n"), func(line string) bool {
		return strings.ReplaceAll(strings.TrimSpace(line), " ", "") == fmt.Sprintf("vm:%d", g.vmid)
	})
}

func (g *gate) pidFileGone() bool {
	return !slices.ContainsFunc(g.pidFiles(), func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
}
