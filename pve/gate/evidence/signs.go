package evidence

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What the rules are made of: signs, each a fact of the capture that is true only if it was seen.

var (
	lockLine   = regexp.MustCompile(`(?m)^lock: (\S+)`)
	statusLine = regexp.MustCompile(`(?m)^(qmpstatus|status): (\S+)`)
)

// Lock is Proxmox's, such as backup; empty if there is none, or if nobody could say.
func (c *Capture) Lock() string {
	for _, name := range []string{configProbe, statusProbe} {
		if found := lockLine.FindStringSubmatch(c.text(name)); found != nil {
			return found[1]
		}
	}
	return ""
}

// qmStatus is what qm calls the VM; empty if it was not asked or did not answer.
func (c *Capture) qmStatus() (status string) {
	for _, line := range statusLine.FindAllStringSubmatch(c.text(statusProbe), -1) {
		if status = line[2]; line[1] == "qmpstatus" {
			break
		}
	}
	return status
}

// running says that QEMU told us so.
func (c *Capture) running() bool {
	return c.Machine != nil && c.Machine.Silent == 0 && c.Machine.Broke == nil && c.Machine.Status == "running"
}

// moving says that I/O was done during the look, or just before a short one.
func (c *Capture) moving() bool {
	m := c.Machine
	return m != nil && (m.moved() || (idle(m.First) < lately && m.Window < lately))
}

// still is how long no I/O was done, as the newest reading has it. It is false if I/O moves, or if nobody knows.
func (c *Capture) still() (time.Duration, bool) {
	m := c.Machine
	if !c.running() || c.moving() || len(m.First) == 0 || (c.Glance && m.Last == nil) {
		return 0, false
	}
	if m.Last == nil {
		return 0, false // one reading alone
	}
	return idle(m.Last), true
}

// held counts the requests that wait in QEMU or in the guest although none was done: proof of a stall. known says
// whether anybody could tell.
func (c *Capture) held() (n int64, known bool) {
	if g := c.Guest; g != nil && g.First != nil {
		known = true
		n = waiting(g.stalled())
	}
	if m := c.Machine; m != nil && len(m.Queues) > 0 {
		known = true
		n = max(n, waitingQueues(m.Queues))
	}
	return n, known
}

// deaf says that the guest's agent ran once and does not answer now. A guest that runs none is not deaf.
func (c *Capture) deaf() bool {
	return c.Guest != nil && c.Guest.Silent > 0 && c.Machine != nil && c.Machine.Port == "open"
}

// Attentive says that the guest's agent can be asked for more: it answered, and neither are its file systems frozen nor
// does a request of it hang.
func (c *Capture) Attentive() bool {
	held, _ := c.held()
	return c.answers() && !c.Guest.Frozen && held == 0
}

func (c *Capture) answers() bool { return c.Guest != nil && c.Guest.Answered }

// vcpus are the ids of the threads that are the virtual CPUs.
func (c *Capture) vcpus() (ids []int) {
	if c.Machine != nil && len(c.Machine.CPUs) > 0 {
		return c.Machine.CPUs
	}
	for _, t := range c.Process.newest() {
		if strings.HasPrefix(t.Name, "CPU ") {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// spinning counts the virtual CPUs that want to run all the time.
func (c *Capture) spinning() (n, of int) {
	if c.Process == nil {
		return 0, 0
	}
	shares := c.Process.wanted(c.vcpus())
	for _, s := range shares {
		if s >= 0.9 {
			n++
		}
	}
	return n, len(shares)
}

// stolen is the largest share of the time for which a virtual CPU could have run, and the host had no time for it.
func (c *Capture) stolen() (most float64) {
	if c.Process == nil {
		return 0
	}
	busy, wanted := c.Process.busy(c.vcpus()), c.Process.wanted(c.vcpus())
	for i := range busy {
		most = max(most, wanted[i]-busy[i])
	}
	return most
}

// cpu is the use of all virtual CPUs in words.
func (c *Capture) cpu() string {
	if c.Process == nil || c.Process.Last == nil {
		return "CPU unknown"
	}
	shares := c.Process.busy(c.vcpus())
	sum := 0.0
	for _, s := range shares {
		sum += s
	}
	return fmt.Sprintf("CPU %.0f %%", 100*sum/float64(max(1, len(shares))))
}

// columns of a text screen; a longer line goes on in the next row.
const columns = 80

// onScreen finds the last line of the screen that matches, and its groups.
func (c *Capture) onScreen(pattern *regexp.Regexp) (found []string) {
	if c.Screen == nil {
		return nil
	}
	for i, row := range c.Screen.Text {
		if utf8.RuneCountInString(row) >= columns && i+1 < len(c.Screen.Text) {
			row += c.Screen.Text[i+1]
		}
		if match := pattern.FindStringSubmatch(row); match != nil {
			found = match
		}
	}
	return found
}

// throttled names a disk with a limit.
func (c *Capture) throttled() string {
	if c.Machine != nil {
		for _, d := range c.Machine.Devices {
			if d.Throttle != "" {
				return d.Name
			}
		}
	}
	return ""
}

// faulty says that this QEMU can deadlock on a throttled disk with several iothreads: qemu-project/qemu issue 3144, mended
// in pve-qemu 10.2.1-1.
func (m *Machine) faulty() bool {
	version, _, _ := strings.Cut(m.Version, " ")
	var n [3]int
	for i, word := range strings.SplitN(version, ".", 3) {
		var err error
		if n[i], err = strconv.Atoi(word); err != nil {
			return false
		}
	}
	return n[0] > 0 && (n[0] < 10 || (n[0] == 10 && (n[1] < 2 || (n[1] == 2 && n[2] < 1))))
}

// span says a duration for a line that has little room.
func span(d time.Duration) string {
	s := int64(max(0, d) / time.Second)
	switch {
	case s < 120:
		return fmt.Sprintf("%d s", s)
	case s < 7200:
		return fmt.Sprintf("%d min", s/60)
	case s < 172800:
		return fmt.Sprintf("%d h", s/3600)
	}
	return fmt.Sprintf("%d d", s/86400)
}

// noIOFor says how long nothing was done.
func noIOFor(d time.Duration) string {
	if d == never {
		return "No block I/O since its start"
	}
	return "No block I/O for " + span(d)
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
