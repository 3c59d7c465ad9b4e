package guest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// process is a line of ps.
type process struct {
	user, state, wchan, command string
	pid, ppid, rss              int
}

// processes lists the services, what waits for the disk, and the kernel's own.
func (c *call) processes() []process {
	all := []process{
		{user: "root", state: "S", wchan: "do_epoll_wait", command: "/sbin/init", pid: 1, rss: 12788},
		{user: "root", state: "S", wchan: "kthreadd", command: "[kthreadd]", pid: 2},
	}
	blocked := map[string]bool{}
	for _, t := range c.m.tasks() {
		blocked[t.name] = true
		wchan, rss := "folio_wait_bit_common", 2104
		if strings.HasPrefix(t.name, "[") {
			wchan, rss = "blk_mq_get_tag", 0
		}
		all = append(all, process{user: t.user, state: "D", wchan: wchan, command: t.name, pid: t.pid, ppid: 1, rss: rss})
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for i, u := range c.m.disk.Units {
		if s := c.m.services[u.Name]; s != nil && s.pid != 0 && !blocked[u.Command] {
			all = append(all, process{user: "root", state: "S", wchan: "do_epoll_wait", command: u.Command, pid: s.pid, ppid: 1, rss: 9000 + i*i*9100})
		}
	}
	return append(all, process{user: c.session.name(), state: "R", wchan: "-", command: "ps " + strings.Join(c.args, " "), pid: firstLogin + 391, ppid: 1, rss: 3300})
}

// column is the value of a column by its name for -o.
func (p process) column(name string) string {
	program := strings.Fields(p.command)[0]
	switch name {
	case "user", "uname", "euser":
		return p.user
	case "pid", "tid", "lwp":
		return strconv.Itoa(p.pid)
	case "ppid":
		return strconv.Itoa(p.ppid)
	case "state", "s", "stat":
		return p.state
	case "wchan":
		return p.wchan
	case "rss", "rssize":
		return strconv.Itoa(p.rss)
	case "vsz", "vsize":
		return strconv.Itoa(p.rss * 11)
	case "pmem", "%mem":
		return fmt.Sprintf("%.1f", float64(p.rss)*100/16384000)
	case "pcpu", "%cpu":
		return "0.1"
	case "comm", "ucmd":
		return strings.Trim(program[strings.LastIndex("/"+program, "/"):], "[]")
	case "tty", "tt", "tname":
		return "?"
	case "start", "stime", "time", "etime", "cputime":
		return "00:00"
	case "cmd", "args", "command":
		return p.command
	default:
		return "-"
	}
}

// columns are those of -o, or of the short forms.
func (c *call) columns() []string {
	var names []string
	for i, a := range c.args {
		if strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.HasSuffix(a, "o") && i+1 < len(c.args) {
			for n := range strings.SplitSeq(c.args[i+1], ",") {
				n, _, _ = strings.Cut(n, ":") // a width
				n, _, _ = strings.Cut(n, "=") // another heading
				names = append(names, strings.ToLower(n))
			}
		}
	}
	if len(names) == 0 {
		names = []string{"user", "pid", "%cpu", "%mem", "vsz", "rss", "tty", "stat", "start", "time", "command"}
	}
	return names
}

func (c *call) ps() int {
	names, all := c.columns(), c.processes()
	sorted := c.value("--sort")
	if key := strings.TrimLeft(sorted, "-+"); key != "" {
		slices.SortStableFunc(all, func(a, b process) int {
			d := int(number(a.column(key), false)*10 - number(b.column(key), false)*10)
			if strings.HasPrefix(sorted, "-") {
				return -d
			}
			return d
		})
	}
	var rows [][]string
	if !c.flag("--no-headers") {
		var head []string
		for _, n := range names {
			head = append(head, strings.ToUpper(n))
		}
		rows = append(rows, head)
	}
	for _, p := range all {
		var row []string
		for _, n := range names {
			row = append(row, p.column(n))
		}
		rows = append(rows, row)
	}
	for _, row := range rows {
		for i := range row[:len(row)-1] {
			row[i] = fmt.Sprintf("%-*s", widths[names[i]], row[i])
		}
		c.printf("%s\n", strings.Join(row, " "))
	}
	return 0
}

// widths are those of ps's columns; others are as wide as their text.
var widths = map[string]int{"user": 10, "pid": 7, "ppid": 7, "%cpu": 4, "pcpu": 4, "%mem": 4, "pmem": 4, "vsz": 8, "rss": 7, "tty": 5, "stat": 4, "state": 1, "start": 5, "time": 5, "wchan": 24, "comm": 16}
