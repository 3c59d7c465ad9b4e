package guest

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// change runs f on the disk after a write to it was possible, and keeps the result.
func (c *call) change(what string, f func(*Disk) int) int {
	if c.touchDisk(what) != nil {
		return 1
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	code := f(c.m.disk)
	if err := c.m.commit(); err != nil {
		return c.fail(1, "%s: Input/output error", c.name)
	}
	return code
}

func (c *call) rm() int {
	recursive, force := c.flag("-r", "-R"), c.flag("-f")
	args := c.operands("")
	if len(args) == 0 && !force {
		return c.fail(1, "rm: missing operand")
	}
	return c.change("rm "+strings.Join(args, " "), func(d *Disk) int {
		code := 0
		for _, a := range args {
			p := absolute(c.dir, a)
			switch {
			case d.Files[p] == nil && !d.isDir(p):
				if !force {
					code = c.fail(1, "rm: cannot remove '%s': No such file or directory", a)
				}
			case d.isDir(p) && !recursive:
				code = c.fail(1, "rm: cannot remove '%s': Is a directory", a)
			case !c.mayWrite(p):
				code = c.fail(1, "rm: cannot remove '%s': Permission denied", a)
			case p == "/" || slices.ContainsFunc(d.Mounts, func(m Mount) bool { return m.Point == p }):
				code = c.fail(1, "rm: it is dangerous to operate on '%s'", a)
			default:
				for name := range d.Files {
					if within(name, p) {
						delete(d.Files, name)
					}
				}
			}
		}
		return code
	})
}

func (c *call) truncate() int {
	n, err := bytesOf(c.value("-s", "--size"))
	if err != nil {
		return c.fail(1, "truncate: you must specify either '--size' or '--reference'")
	}
	args := c.operands("sr")
	return c.change("truncate "+strings.Join(args, " "), func(d *Disk) int {
		for _, a := range args {
			p := absolute(c.dir, a)
			f := d.Files[p]
			switch {
			case !c.mayWrite(p):
				return c.fail(1, "truncate: cannot open '%s' for writing: Permission denied", a)
			case d.isDir(p) || f == nil && !parentExists(d, p):
				return c.fail(1, "truncate: cannot open '%s' for writing: No such file or directory", a)
			case f == nil:
				f = &File{Owner: c.session.name()}
				d.Files[p] = f
			}
			f.Size, f.ModTime = n, time.Now() // a longer one is sparse and takes no room, but is never asked for
			f.Text = f.Text[:min(int64(len(f.Text)), n)]
		}
		return 0
	})
}

// bytesOf reads a size: 0, 500M, 1G.
func bytesOf(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTkmgtiB")
	n, err := strconv.ParseInt(digits, 10, 40)
	if err != nil {
		return 0, err
	}
	for range max(0, strings.Index(" KMGT", strings.ToUpper(s[len(digits):min(len(s), len(digits)+1)]))) {
		if s != digits {
			n *= 1024
		}
	}
	return max(0, n), nil
}

func (c *call) touch() int {
	code := 0
	for _, a := range c.operands("dtr") {
		if err := c.writeFile(absolute(c.dir, a), "", true, "touch "+a); err != nil && c.life.Err() == nil {
			code = c.fail(1, "touch: cannot touch '%s': %s", a, sentence(err))
		}
	}
	return code
}

func (c *call) mkdir() int {
	return c.change("mkdir", func(d *Disk) int {
		for _, a := range c.operands("m") {
			p := absolute(c.dir, a)
			switch {
			case !c.mayWrite(p):
				return c.fail(1, "mkdir: cannot create directory '%s': Permission denied", a)
			case d.free(p) == 0:
				return c.fail(1, "mkdir: cannot create directory '%s': No space left on device", a)
			case !d.isDir(p):
				d.Files[p] = &File{Dir: true, Owner: c.session.name(), ModTime: time.Now()}
			}
		}
		return 0
	})
}

func (c *call) sync() int {
	if c.touchDisk("sync") != nil {
		return 1
	}
	return 0
}

// dd knows how to write a file of zeros, the usual probe.
func (c *call) dd() int {
	to := ""
	for _, a := range c.args {
		if f, ok := strings.CutPrefix(a, "of="); ok {
			to = f
		}
	}
	if to == "" {
		return c.fail(1, "dd: only of=FILE works here")
	}
	if err := c.writeFile(absolute(c.dir, to), strings.Repeat("\x00", 4096), false, "dd of="+to); err != nil {
		return c.fail(1, "dd: error writing '%s': %s", to, sentence(err))
	}
	return c.fail(0, "1+0 records in\n1+0 records out\n4096 bytes (4.1 kB, 4.0 KiB) copied, 0.004 s, 1.0 MB/s")
}

// findFiles knows -name, -type, -size +N and -delete, and ignores the rest.
func (c *call) findFiles() int {
	var roots []string
	rest := c.args
	for len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		roots, rest = append(roots, rest[0]), rest[1:]
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	option := func(name string) string {
		if i := slices.Index(rest, name); i >= 0 && i+1 < len(rest) {
			return rest[i+1]
		}
		return ""
	}
	least, _ := bytesOf(strings.TrimPrefix(option("-size"), "+"))
	pattern, kind, remove := option("-name"), option("-type"), slices.Contains(rest, "-delete")
	var hits []string
	for _, r := range roots {
		root := absolute(c.dir, r)
		if !cached(root) && c.touchDisk("find "+r) != nil {
			return 1
		}
		c.m.mu.Lock()
		for p, f := range c.m.disk.Files {
			named, _ := path.Match(pattern, path.Base(p))
			if within(p, root) && (pattern == "" || named) && f.Size >= least && (kind == "" || f.Dir == (kind == "d")) {
				hits = append(hits, p)
			}
		}
		c.m.mu.Unlock()
	}
	slices.Sort(hits)
	if remove {
		c.args = append([]string{"-r"}, hits...)
		return c.rm()
	}
	for _, p := range hits {
		c.printf("%s\n", p)
	}
	return 0
}
