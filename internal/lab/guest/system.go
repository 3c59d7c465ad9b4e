package guest

import (
	"fmt"
	"strings"
	"time"
)

// system are the programs that tell how the machine is. All of them work from memory.
func system() map[string]func(*call) int {
	says := func(f func(*call) string) func(*call) int {
		return func(c *call) int { c.printf("%s\n", f(c)); return 0 }
	}
	return map[string]func(*call) int{
		"uptime": (*call).uptime, "free": (*call).free, "ps": (*call).ps, "top": (*call).top, "dmesg": (*call).dmesg,
		"vmstat": (*call).vmstat, "iostat": (*call).iostat, "w": (*call).uptime, "uname": (*call).uname,
		"hostname": says(func(c *call) string { return c.m.cfg.Name }),
		"whoami":   says(func(c *call) string { return c.session.name() }),
		"id": says(func(c *call) string {
			name, _, uid := c.user()
			return fmt.Sprintf("uid=%s(%s) gid=%s(%s) groups=%s(%s)", uid, name, uid, name, uid, name)
		}),
		"nproc": says(func(*call) string { return "4" }),
		"date": says(func(c *call) string {
			if strings.Join(c.args, " ") == "+%s" {
				return fmt.Sprint(time.Now().Unix())
			}
			return time.Now().UTC().Format("Mon Jan _2 15:04:05 UTC 2006")
		}),
	}
}

// age is how long the machine has been up, as uptime prints it.
func (m *Machine) age() string {
	d := m.uptime()
	days, clock := int(d.Hours())/24, fmt.Sprintf("%d:%02d", int(d.Hours())%24, int(d.Minutes())%60)
	switch {
	case days > 0:
		return fmt.Sprintf("%d days, %s", days, clock)
	case d >= time.Hour:
		return clock
	default:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
}

func (c *call) uptime() int {
	a, b, d := c.m.load()
	c.printf(" %s up %s,  1 user,  load average: %.2f, %.2f, %.2f\n", time.Now().UTC().Format("15:04:05"), c.m.age(), a, b, d)
	return 0
}

func (c *call) uname() int {
	switch {
	case c.flag("-a"):
		c.printf("Linux %s 6.1.0-28-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22) x86_64 GNU/Linux\n", c.m.cfg.Name)
	case c.flag("-r"):
		c.printf("6.1.0-28-amd64\n")
	case c.flag("-n"):
		c.printf("%s\n", c.m.cfg.Name)
	default:
		c.printf("Linux\n")
	}
	return 0
}

func (c *call) free() int {
	if c.flag("-h") {
		c.printf("               total        used        free      shared  buff/cache   available\n" +
			"Mem:            15Gi       4.1Gi       5.8Gi        22Mi       5.6Gi        11Gi\n" +
			"Swap:             0B          0B          0B\n")
		return 0
	}
	div := 1
	if c.flag("-m") {
		div = 1024
	}
	c.printf("               total        used        free      shared  buff/cache   available\n")
	c.printf("Mem:     %11d %11d %11d %11d %11d %11d\nSwap:              0           0           0\n",
		16384000/div, 4361288/div, 6102448/div, 22528/div, 5920264/div, 11880312/div)
	return 0
}

func (c *call) top() int {
	a, b, d := c.m.load()
	wait := "0.1"
	if !c.m.cfg.Drive.Stalled().IsZero() {
		wait = "96.8"
	}
	c.printf("top - %s up %s,  1 user,  load average: %.2f, %.2f, %.2f\n", time.Now().UTC().Format("15:04:05"), c.m.age(), a, b, d)
	c.printf("Tasks: 214 total,   1 running, %d in D\n%%Cpu(s):  0.7 us,  0.5 sy,  0.0 ni,  %s wa\n\n", len(c.m.tasks()), wait)
	c.args = []string{"aux"}
	return c.ps()
}

func (c *call) dmesg() int {
	if !c.root {
		return c.fail(1, "dmesg: read kernel buffer failed: Operation not permitted")
	}
	c.m.mu.Lock()
	booted := c.m.booted
	c.m.mu.Unlock()
	bad := c.flag("-l", "--level")
	for _, k := range c.m.dmesg() {
		switch {
		case bad && !k.err:
		case c.flag("-T", "--ctime"):
			c.printf("[%s] %s\n", k.at.UTC().Format("Mon Jan _2 15:04:05 2006"), k.text)
		default:
			c.printf("[%12.6f] %s\n", k.at.Sub(booted).Seconds(), k.text)
		}
	}
	return 0
}

func (c *call) vmstat() int {
	n, wait := len(c.m.tasks()), 0
	if n > 0 {
		wait = 97
	}
	c.printf("procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----\n" +
		" r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st\n")
	c.printf("%2d %2d      0 6102448 210044 5710220    0    0     0 %5d  210  388  1  1 %2d %2d  0\n", 1, n, 40-min(n*40, 40), 98-wait, wait)
	return 0
}

func (c *call) iostat() int {
	writes, util, queue := "12.00", "0.40", "0.01"
	if n := len(c.m.tasks()); n > 0 {
		writes, util, queue = "0.00", "100.00", fmt.Sprintf("%d.00", n+28)
	}
	c.printf("Device            r/s     w/s     wkB/s  aqu-sz  %%util\nsda              0.00 %7s      0.00 %7s %6s\n", writes, queue, util)
	return 0
}
