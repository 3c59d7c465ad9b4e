package gate

import (
	"context"
	"errors"
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

const statusLimit = 6 * time.Second

// status tells how the VM is and what the last change came to. It takes no lock and changes nothing.
func (g *gate) status(ctx context.Context, last record) error {
	q, doubt := g.identify(ctx)
	if q != nil {
		defer q.close()
	}
	said := make(chan host.Said, 1)
	go func() { said <- g.lookWithQM(ctx, statusLimit, "status", "--verbose") }() // bounded by its own limit
	c := evidence.Glance(ctx, g.subject(q))
	g.seen.HostKeys = g.hostKeys(ctx, c) // while qm is still at it
	s := <-said
	c.Note("qm status", s.Out, s.Failure())
	g.judge(wordsOf(c).verdict)
	if q != nil && q.dead(0) {
		q = nil
	}
	if q != nil {
		g.seen.Uptime = max(1, int64(q.Age().Seconds())) // 0 is no process
	}
	if locked := configLock.FindStringSubmatch(s.Out); locked != nil {
		g.seen.Lock = locked[1]
	}
	g.seen.Forensics = g.newestCapture()
	end := g.describe(s, q)
	if q == nil && len(doubt) > 0 {
		end.text += "\nStart nothing: there is " + strings.Join(doubt, ", and ") + ", and nobody can say of which VM."
	}
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
	case s.Hung, s.CalledOff:
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
	old, _ := g.identify(ctx)
	what := "no QEMU of it was found"
	if old != nil {
		defer old.close()
		what = fmt.Sprintf("%s, up %s", old, span(old.Age()))
	}
	runs := old != nil && !old.leftover()
	if g.verb != pve.Start || !runs {
		if err := g.check(ctx, old); err != nil {
			return err
		}
	}
	does := map[pve.Verb]string{
		pve.Start: "run qm start and wait for a new QEMU",
		pve.Reset: "run qm reset",
		pve.Stop:  "run qm stop, then TERM and KILL if need be, and prove that QEMU is dead",
		pve.Cycle: "run qm stop, then TERM and KILL if need be, prove that QEMU is dead, run qm start and wait for a new QEMU",
	}[g.verb]
	switch {
	case g.verb == pve.Start && runs:
		does = "start nothing, as it runs already"
	case g.verb == pve.Reset && !runs:
		does = "fail, as nothing runs that could be reset"
	case g.verb == pve.Stop && old == nil:
		does = "stop nothing, as nothing runs"
	case g.verb == pve.Cycle && old == nil:
		does = "stop nothing, as nothing runs, run qm start and wait for a new QEMU"
	}
	return ended(pve.Done, "Dry run of %s: nothing was changed. VM %d: %s.\nIt would capture forensics, then %s.", g.verb, g.vmid, what, does)
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

// managed asks whether HA looks after the VM: its manager, whose command lies beside qm, or, if that does not answer, the
// file that it goes by. A host without the command has no HA, and one without the file manages nothing: both lie in
// /etc/pve or need it, and so does the VM's configuration, without which nothing is changed.
func (g *gate) managed(ctx context.Context) (bool, error) {
	path := filepath.Join(filepath.Dir(g.qmPath), "ha-manager")
	_, err := host.Within(host.ProcLimit, func() (os.FileInfo, error) { return os.Stat(path) })
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	said := host.Command(ctx, haLimit, path, "config")
	if said.OK() {
		return g.haKnows(said.Out), nil
	}
	text, err := host.Within(host.ProcLimit, func() ([]byte, error) { return os.ReadFile(g.haResources()) })
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ha-manager said: %s; its list: %w", firstLine(said.Words()), err)
	}
	return g.haKnows(string(text)), nil
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
