package guest

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// storage are the programs about files and disks.
func storage() map[string]func(*call) int {
	return map[string]func(*call) int{
		"df": (*call).df, "du": (*call).du, "ls": (*call).ls, "stat": (*call).statFiles, "find": (*call).findFiles,
		"rm": (*call).rm, "truncate": (*call).truncate, "touch": (*call).touch, "mkdir": (*call).mkdir,
		"sync": (*call).sync, "dd": (*call).dd,
		"lsof": func(*call) int { return 1 }, "fuser": func(*call) int { return 1 }, // nobody holds a file here
		"lsblk":   (*call).lsblk,
		"mount":   func(c *call) int { c.printf("%s", c.m.mounts()); return 0 },
		"findmnt": func(c *call) int { c.printf("%s", c.m.mounts()); return 0 },
	}
}

// size prints bytes as -h does, or in units.
func size(n int64, human bool, unit int64) string {
	if !human {
		return strconv.FormatInt((n+unit-1)/unit, 10)
	}
	f, suffix := float64(n), ""
	for _, s := range []string{"K", "M", "G", "T"} {
		if f < 1024 {
			break
		}
		f, suffix = f/1024, s
	}
	if tenths := math.Ceil(f * 10); tenths < 100 && suffix != "" { // the real ones round up too
		return fmt.Sprintf("%.1f%s", tenths/10, suffix)
	}
	return fmt.Sprintf("%.0f%s", math.Ceil(f), suffix)
}

func (c *call) df() int {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	human, inodes := c.flag("-h", "--human-readable"), c.flag("-i")
	mounts := c.m.disk.Mounts
	if args := c.operands("tx"); len(args) > 0 {
		mounts = nil
		for _, a := range args {
			p := absolute(c.dir, a)
			if !c.m.disk.isDir(p) && c.m.disk.Files[p] == nil {
				return c.fail(1, "df: %s: No such file or directory", a)
			}
			mounts = append(mounts, *c.m.disk.mount(p))
		}
	}
	head := map[bool]string{true: "Size  Used Avail", false: "1K-blocks      Used Available"}[human]
	if inodes {
		head = "Inodes IUsed   IFree"
	}
	kind := c.flag("-T")
	c.printf("%-15s %s%s Use%% Mounted on\n", "Filesystem", map[bool]string{true: "Type     "}[kind], head)
	for _, m := range mounts {
		used := c.m.disk.used(c.m.disk.mount(m.Point))
		typ := ""
		if kind {
			typ = fmt.Sprintf("%-8s ", m.Type)
		}
		switch {
		case inodes:
			c.printf("%-15s %s%7d %5d %7d   4%% %s\n", m.Device, typ, 3276800, 131072, 3145728, m.Point)
		case human:
			c.printf("%-15s %s%4s %5s %5s %3d%% %s\n", m.Device, typ, size(m.Size, true, 1), size(used, true, 1), size(m.Size-used, true, 1), percent(used, m.Size), m.Point)
		default:
			c.printf("%-15s %s%9d %9d %9d %3d%% %s\n", m.Device, typ, m.Size/kib, used/kib, (m.Size-used)/kib, percent(used, m.Size), m.Point)
		}
	}
	return 0
}

func percent(used, all int64) int64 {
	if all == 0 {
		return 0
	}
	return (used*100 + all - 1) / all
}

// du walks directories, so it needs the disk.
func (c *call) du() int {
	depth := 1 << 20
	if c.flag("-s") {
		depth = 0
	} else if n, err := strconv.Atoi(c.value("-d", "--max-depth")); err == nil {
		depth = n
	}
	args := c.operands("dtB")
	if len(args) == 0 {
		args = []string{"."}
	}
	code := 0
	for _, a := range args {
		root := absolute(c.dir, a)
		if !cached(root) && c.touchDisk("du "+a) != nil {
			return 1
		}
		if !c.du1(root, depth) {
			code = c.fail(1, "du: cannot access '%s': No such file or directory", a)
		}
	}
	return code
}

func (c *call) du1(root string, depth int) bool {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	d := c.m.disk
	if !d.isDir(root) && d.Files[root] == nil {
		return false
	}
	total := map[string]int64{root: 0}
	for p, f := range d.Files {
		if f.Dir || !within(p, root) {
			continue
		}
		total[root] += f.Size
		for dir := p; dir != root && dir != "/"; dir = path.Dir(dir) {
			level := strings.Count(strings.TrimPrefix(dir, strings.TrimSuffix(root, "/")), "/")
			if level <= depth && (dir != p || c.flag("-a")) {
				total[dir] += f.Size
			}
		}
	}
	// What lies on a disk without a name here: packages, containers, the homes.
	for _, m := range d.Mounts {
		if !within(m.Point, root) {
			continue
		}
		total[root] += m.Base
		if m.Point != root {
			total[m.Point] += m.Base
		}
		if m.Point == "/var" {
			total["/var/lib"] += m.Base
		}
	}
	names := make([]string, 0, len(total))
	for p := range total {
		if p == root || strings.Count(strings.TrimPrefix(p, strings.TrimSuffix(root, "/")), "/") <= depth {
			names = append(names, p)
		}
	}
	slices.Sort(names)
	slices.Reverse(names)
	unit := kib
	if c.flag("-m") {
		unit = mib
	}
	for _, p := range names {
		c.printf("%s\t%s\n", size(total[p], c.flag("-h"), unit), p)
	}
	return true
}

func (c *call) ls() int {
	args := c.operands("")
	if len(args) == 0 {
		args = []string{"."}
	}
	long, human, code := c.flag("-l"), c.flag("-h"), 0
	for _, a := range args {
		p := absolute(c.dir, a)
		c.m.mu.Lock()
		d := c.m.disk
		names := []string{a}
		dir := d.isDir(p) && !c.flag("-d")
		if dir {
			names = d.names(p)
		} else if d.Files[p] == nil && !d.isDir(p) {
			c.m.mu.Unlock()
			code = c.fail(2, "ls: cannot access '%s': No such file or directory", a)
			continue
		}
		if c.flag("-S") {
			slices.SortFunc(names, func(x, y string) int { return int(d.under(path.Join(p, y))/kib - d.under(path.Join(p, x))/kib) })
		}
		for _, name := range names {
			full := p
			if dir {
				full = path.Join(p, name)
			}
			if !long {
				c.printf("%s\n", name)
				continue
			}
			mode, owner, n, at := "drwxr-xr-x", "root", 4*kib, c.m.booted
			if f := d.Files[full]; f != nil {
				owner, at = f.Owner, f.ModTime
				if !f.Dir {
					mode, n = "-rw-r--r--", f.Size
				}
			}
			c.printf("%s 1 %-10s %-10s %11s %s %s\n", mode, owner, owner, size(n, human, 1), at.UTC().Format("Jan _2 15:04"), name)
		}
		c.m.mu.Unlock()
	}
	return code
}

func (c *call) statFiles() int {
	code := 0
	for _, a := range c.operands("cf") {
		i, err := c.stat(c.ctx, absolute(c.dir, a), true)
		if err != nil {
			code = c.fail(1, "stat: cannot statx '%s': No such file or directory", a)
			continue
		}
		c.printf("  File: %s\n  Size: %d\nModify: %s\n", a, i.Size(), i.ModTime().UTC().Format(time.DateTime))
	}
	return code
}

func (c *call) lsblk() int {
	c.printf("NAME   MAJ:MIN RM  SIZE RO TYPE MOUNTPOINTS\nsda      8:0    0  300G  0 disk\n")
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for i, m := range c.m.disk.Mounts {
		if strings.HasPrefix(m.Device, "/dev/sda") {
			c.printf("├─%s   8:%d    0 %5s  0 part %s\n", path.Base(m.Device), i+1, size(m.Size, true, 1), m.Point)
		}
	}
	return 0
}
