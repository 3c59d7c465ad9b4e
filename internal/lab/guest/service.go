package guest

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// services are systemd's programs.
func services() map[string]func(*call) int {
	return map[string]func(*call) int{
		"systemctl": (*call).systemctl, "journalctl": (*call).journalctl, "service": (*call).service,
		"reboot": (*call).reboot, "shutdown": (*call).reboot, "poweroff": (*call).reboot,
	}
}

// positional are the arguments that are no options; letters and names in withValue take the next one.
func (c *call) positional(withValue ...string) []string {
	var out []string
	for i := 0; i < len(c.args); i++ {
		if a := c.args[i]; slices.Contains(withValue, a) {
			i++
		} else if !strings.HasPrefix(a, "-") {
			out = append(out, a)
		}
	}
	return out
}

func (c *call) service() int {
	if len(c.args) < 2 {
		return c.fail(1, "Usage: service < option > | [ service_name [ command ] ]")
	}
	c.args = []string{c.args[1], c.args[0]}
	return c.systemctl()
}

func (c *call) systemctl() int {
	args := c.positional("-n", "--lines", "-t", "--type", "-p", "--property", "-o")
	if len(args) == 0 || args[0] == "list-units" {
		return c.listUnits(c.flag("--failed") || c.value("--state") == "failed")
	}
	verb, names := args[0], args[1:]
	switch verb {
	case "reboot", "poweroff":
		return c.reboot()
	case "daemon-reload", "reset-failed", "enable", "disable":
		return c.rooted("Failed to reload daemon", func() int { return 0 })
	case "is-system-running":
		return c.health()
	case "status", "is-active", "is-failed", "show", "restart", "start", "stop", "try-restart", "reload-or-restart":
	default:
		return c.fail(1, "Unknown command verb %s.", verb)
	}
	if len(names) == 0 {
		return c.fail(1, "Too few arguments.")
	}
	code := 0
	for _, n := range names {
		if !strings.Contains(n, ".") {
			n += ".service"
		}
		if x := c.unit(verb, n); x != 0 {
			code = x
		}
	}
	return code
}

func (c *call) unit(verb, name string) int {
	m := c.m
	m.mu.Lock()
	i := slices.IndexFunc(m.disk.Units, func(u Unit) bool { return u.Name == name })
	m.mu.Unlock()
	if i < 0 {
		if verb == "is-active" || verb == "is-failed" {
			c.printf("inactive\n")
			return 3
		}
		return c.fail(4, "Unit %s could not be found.", name)
	}
	switch verb {
	case "is-active", "is-failed", "show":
		m.mu.Lock()
		defer m.mu.Unlock()
		state := m.services[name].state
		c.printf("%s\n", state)
		if (state == "active") == (verb == "is-failed") {
			return 3
		}
		return 0
	case "status":
		return c.unitStatus(i, name)
	default:
		return c.rooted("Failed to "+verb+" "+name, func() int { return c.act(verb, i, name) })
	}
}

// act starts or stops a unit. systemd forks the new process, and that reads its binary and its data: it needs the disk.
func (c *call) act(verb string, i int, name string) int {
	if c.touchDisk("systemctl "+verb+" "+name) != nil {
		return 1
	}
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	u, now := m.disk.Units[i], m.services[name]
	switch {
	case verb == "stop":
		now.state, now.pid, now.since, now.words = "inactive", 0, time.Now(), "Stopped "+u.Description+"."
	case verb == "start" && now.state == "active":
	case !m.startUnit(u, time.Now()):
		return c.fail(1, "Job for %s failed because the control process exited with error code.\n"+
			"See \"systemctl status %s\" and \"journalctl -xeu %s\" for details.", name, name, name)
	}
	return 0
}

// rooted runs f for root alone, with polkit's words for anybody else.
func (c *call) rooted(what string, f func() int) int {
	if !c.root {
		return c.fail(1, "%s: Interactive authentication required.", what)
	}
	return f()
}

// unitStatus shows the end of the unit's journal too, for which it needs the disk.
func (c *call) unitStatus(i int, name string) int {
	if c.touchDisk("systemctl status "+name) != nil {
		return 1
	}
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	u, s := m.disk.Units[i], m.services[name]
	mark, state := "●", "active (running)"
	switch s.state {
	case "failed":
		mark, state = "×", "failed (Result: exit-code)"
	case "inactive":
		mark, state = "○", "inactive (dead)"
	}
	c.printf("%s %s - %s\n     Loaded: loaded (/lib/systemd/system/%s; enabled; preset: enabled)\n     Active: %s since %s; %s\n",
		mark, name, u.Description, name, state, s.since.UTC().Format("Mon 2006-01-02 15:04:05 UTC"), ago(time.Since(s.since)))
	if s.pid != 0 {
		c.printf("   Main PID: %d (%s)\n", s.pid, path.Base(strings.Fields(u.Command)[0]))
	}
	c.printf("\n")
	for _, l := range last(m.entries(name, false), 10) {
		c.printf("%s\n", l)
	}
	if s.state != "active" {
		return 3
	}
	return 0
}

func (c *call) listUnits(failed bool) int {
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	c.printf("  UNIT                         LOAD   ACTIVE SUB     DESCRIPTION\n")
	for _, u := range m.disk.Units {
		s := m.services[u.Name]
		mark, sub := " ", "running"
		switch {
		case s.state == "failed":
			mark, sub = "●", "failed"
		case failed || s.state != "active" && !c.flag("-a", "--all"):
			continue
		case s.state == "inactive":
			sub = "dead"
		}
		n++
		c.printf("%s %-28s loaded %-6s %-7s %s\n", mark, u.Name, s.state, sub, u.Description)
	}
	c.printf("\n%d loaded units listed.\n", n)
	return 0
}

func (c *call) health() int {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for _, s := range c.m.services {
		if s.state == "failed" {
			c.printf("degraded\n")
			return 1
		}
	}
	c.printf("running\n")
	return 0
}

// entries needs mu.
func (m *Machine) entries(unit string, errors bool) []string {
	var out []string
	for _, j := range m.journal {
		if unit != "" && j.unit != unit || errors && !j.err {
			continue
		}
		who := strings.TrimSuffix(j.unit, ".service") + "[1]"
		if strings.Contains(j.text, "ervice: ") || strings.Contains(j.text, "tart") {
			who = "systemd[1]"
		}
		out = append(out, fmt.Sprintf("%s %s %s: %s", j.at.UTC().Format("Jan _2 15:04:05"), m.cfg.Name, who, j.text))
	}
	return out
}

func last(l []string, n int) []string { return l[max(0, len(l)-n):] }

// journalctl reads from the disk. --vacuum-… removes archived journal files, never the one in use.
func (c *call) journalctl() int {
	if c.flag("-k", "--dmesg") {
		c.args = nil
		return c.dmesg()
	}
	if c.touchDisk("journalctl") != nil {
		return 1
	}
	switch {
	case c.flag("--disk-usage"):
		c.m.mu.Lock()
		defer c.m.mu.Unlock()
		c.printf("Archived and active journals take up %s in the file system.\n", size(c.m.disk.under("/var/log/journal"), true, 1))
		return 0
	case c.flag("--vacuum-size", "--vacuum-time", "--vacuum-files"):
		return c.vacuum()
	}
	unit := c.value("-u", "--unit")
	if unit != "" && !strings.Contains(unit, ".") {
		unit += ".service"
	}
	p := c.value("-p", "--priority")
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	lines := c.m.entries(unit, p != "" && strings.Contains("0123 emerg alert crit err error", p))
	if len(lines) == 0 {
		lines = []string{"-- No entries --"}
	}
	for _, l := range last(lines, c.count(len(lines))) {
		c.printf("%s\n", l)
	}
	return 0
}

func (c *call) vacuum() int {
	keep := int64(0)
	if s := c.value("--vacuum-size"); s != "" {
		n, err := bytesOf(s)
		if err != nil {
			return c.fail(1, "Failed to parse vacuum size: %s", s)
		}
		keep = n
	}
	if !c.root {
		return c.fail(1, "Failed to vacuum /var/log/journal: %s", sentence(os.ErrPermission))
	}
	return c.change("journalctl --vacuum", func(d *Disk) int {
		var archived []string
		for p := range d.Files {
			if within(p, journalDir) && strings.Contains(p, "@") {
				archived = append(archived, p)
			}
		}
		slices.Sort(archived) // the name holds the time, so the oldest come first
		var freed int64
		for _, p := range archived {
			if d.under("/var/log/journal") <= keep {
				break
			}
			freed += d.Files[p].Size
			delete(d.Files, p)
		}
		return c.fail(0, "Vacuuming done, freed %s of archived journals from %s.", size(freed, true, 1), journalDir)
	})
}

// reboot asks the machine to start anew, which ends this login.
func (c *call) reboot() int {
	return c.rooted("Call to Reboot failed", func() int {
		if c.touchDisk("systemctl reboot") != nil { // the services have to stop first, and write
			return 1
		}
		c.m.cfg.Reboot()
		<-c.life.Done()
		return 1
	})
}
