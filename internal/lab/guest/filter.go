package guest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filters are the programs that read text and write text.
func filters() map[string]func(*call) int {
	return map[string]func(*call) int{
		"cat": (*call).cat, "less": (*call).cat, "column": (*call).cat, "strings": (*call).cat,
		"tac":  func(c *call) int { return c.lines("", reversed) },
		"head": func(c *call) int { return c.part(func(l []string, n int) []string { return l[:min(n, len(l))] }) },
		"tail": func(c *call) int { return c.part(func(l []string, n int) []string { return l[max(0, len(l)-n):] }) },
		"grep": (*call).grep, "egrep": (*call).grep, "fgrep": (*call).grep, "zgrep": (*call).grep,
		"awk": (*call).awk, "gawk": (*call).awk, "mawk": (*call).awk,
		"sort": (*call).sort, "uniq": (*call).uniq, "wc": (*call).wc, "cut": (*call).cut,
		"tee":   (*call).tee,
		"sleep": (*call).sleep,
		"seq":   (*call).seq,
	}
}

// sources reads the named files, or standard input. Its code is 1 when one of them could not be read.
func (c *call) sources(files []string) (lines []string, code int) {
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, f := range files {
		var text string
		var err error
		if f == "-" {
			text = c.input()
		} else {
			text, err = c.readFile(absolute(c.dir, f), c.name)
		}
		if err != nil {
			if c.life.Err() == nil {
				c.fail(1, "%s: %s: %s", c.name, f, sentence(err))
			}
			code = 1
			continue
		}
		if text = strings.TrimSuffix(text, "\n"); text != "" {
			lines = append(lines, strings.Split(text, "\n")...)
		}
	}
	return lines, code
}

// lines is a program that turns lines into lines; withValue names its options that take a value.
func (c *call) lines(withValue string, f func([]string) []string) int {
	in, code := c.sources(c.operands(withValue))
	for _, l := range f(in) {
		c.printf("%s\n", l)
	}
	return code
}

// part is head and tail: each of several files has a heading.
func (c *call) part(f func(l []string, n int) []string) int {
	files, code := c.operands("nc"), 0
	if len(files) == 0 {
		files = []string{"-"}
	}
	for i, file := range files {
		in, bad := c.sources([]string{file})
		code = max(code, bad)
		if len(files) > 1 && bad == 0 {
			c.printf("%s==> %s <==\n", strings.Repeat("\n", min(i, 1)), file)
		}
		for _, l := range f(in, c.count(10)) {
			c.printf("%s\n", l)
		}
	}
	return code
}

var awkPrint = regexp.MustCompile(`^\s*(?:NR *> *(\d+) *)?\{ *print +(\$\d+(?:[ ,]*(?:\$\d+|" +"))*) *;? *\}\s*$`)

// awk knows the one program that people type: print some fields, perhaps not of the first lines.
func (c *call) awk() int {
	args := c.operands("Fv")
	if len(args) == 0 || !awkPrint.MatchString(args[0]) {
		return c.fail(2, "awk: only '{print $1, $2}' works here")
	}
	m := awkPrint.FindStringSubmatch(args[0])
	skip, _ := strconv.Atoi(m[1])
	in, code := c.sources(args[1:])
	for _, l := range in[min(skip, len(in)):] {
		fields := strings.Fields(l)
		if sep := c.value("-F"); sep != "" {
			fields = strings.Split(l, sep)
		}
		var out []string
		for _, f := range regexp.MustCompile(`\d+`).FindAllString(m[2], -1) {
			n, _ := strconv.Atoi(f)
			switch {
			case n == 0:
				out = append(out, l)
			case n <= len(fields):
				out = append(out, fields[n-1])
			default:
				out = append(out, "")
			}
		}
		c.printf("%s\n", strings.Join(out, " "))
	}
	return code
}

// cat shows the text as it is.
func (c *call) cat() int { return c.lines("stn", func(l []string) []string { return l }) }

// count is the number in -n 5, -n5 or -5.
func (c *call) count(otherwise int) int {
	for _, a := range c.args {
		if n, err := strconv.Atoi(strings.TrimPrefix(a, "-")); err == nil && strings.HasPrefix(a, "-") {
			return max(0, n)
		}
	}
	if n, err := strconv.Atoi(strings.TrimLeft(c.value("-n", "--lines"), "+-")); err == nil {
		return n
	}
	return otherwise
}

func reversed(l []string) []string {
	slices.Reverse(l)
	return l
}

func (c *call) grep() int {
	args := c.operands("eABCm")
	pattern := c.value("-e", "--regexp")
	if pattern == "" {
		if len(args) == 0 {
			return c.fail(2, "usage: grep [OPTION]... PATTERNS [FILE]...")
		}
		pattern, args = args[0], args[1:]
	}
	switch {
	case c.flag("-F") || c.name == "fgrep":
		pattern = regexp.QuoteMeta(pattern)
	case !c.flag("-E", "-P") && c.name != "egrep": // basic: the escaped bar is the alternative
		pattern = strings.NewReplacer(`\|`, "|", "|", `\|`, `\(`, "(", "(", `\(`, `\)`, ")", ")", `\)`).Replace(pattern)
	}
	if c.flag("-i") {
		pattern = "(?i)" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return c.fail(2, "grep: Invalid regular expression")
	}
	in, code := c.sources(args)
	var hits []string
	for i, l := range in {
		switch {
		case re.MatchString(l) == c.flag("-v"):
		case c.flag("-n"):
			hits = append(hits, fmt.Sprintf("%d:%s", i+1, l))
		default:
			hits = append(hits, l)
		}
	}
	switch {
	case c.flag("-q"):
	case c.flag("-c"):
		c.printf("%d\n", len(hits))
	default:
		for _, l := range hits {
			c.printf("%s\n", l)
		}
	}
	if code != 0 {
		return 2
	}
	if len(hits) == 0 {
		return 1
	}
	return 0
}

func (c *call) sort() int {
	return c.lines("kt", func(l []string) []string {
		human, numeric := c.flag("-h"), c.flag("-n", "-h")
		slices.SortStableFunc(l, func(a, b string) int {
			if !numeric {
				return strings.Compare(a, b)
			}
			d := number(a, human) - number(b, human)
			switch {
			case d < 0:
				return -1
			case d > 0:
				return 1
			}
			return 0
		})
		if c.flag("-r") {
			slices.Reverse(l)
		}
		if c.flag("-u") {
			l = slices.Compact(l)
		}
		return l
	})
}

var leading = regexp.MustCompile(`^\s*(-?[0-9.]+)([KMGT]?)`)

func number(s string, human bool) float64 {
	m := leading.FindStringSubmatch(s)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	if human && m[2] != "" {
		for range max(0, strings.Index(" KMGT", m[2])) {
			n *= 1024
		}
	}
	return n
}

func (c *call) uniq() int {
	return c.lines("fsw", func(l []string) []string {
		if !c.flag("-c") {
			return slices.Compact(l)
		}
		var out []string
		for i := 0; i < len(l); {
			j := i
			for j < len(l) && l[j] == l[i] {
				j++
			}
			out = append(out, fmt.Sprintf("%7d %s", j-i, l[i]))
			i = j
		}
		return out
	})
}

func (c *call) wc() int {
	in, code := c.sources(c.operands(""))
	words, size := 0, 0
	for _, l := range in {
		words += len(strings.Fields(l))
		size += len(l) + 1
	}
	switch {
	case c.flag("-l"):
		c.printf("%d\n", len(in))
	case c.flag("-w"):
		c.printf("%d\n", words)
	case c.flag("-c"):
		c.printf("%d\n", size)
	default:
		c.printf("%7d %7d %7d\n", len(in), words, size)
	}
	return code
}

func (c *call) cut() int {
	delimiter := c.value("-d")
	if delimiter == "" {
		delimiter = "\t"
	}
	field, err := strconv.Atoi(c.value("-f"))
	if err != nil || field < 1 {
		return c.fail(1, "cut: only a single field, as in -f2, works here")
	}
	return c.lines("dfc", func(l []string) []string {
		for i, s := range l {
			if parts := strings.Split(s, delimiter); len(parts) >= field {
				l[i] = parts[field-1]
			}
		}
		return l
	})
}

func (c *call) tee() int {
	text, code := c.input(), 0
	c.printf("%s", text)
	for _, f := range c.operands("") {
		if err := c.writeFile(absolute(c.dir, f), text, c.flag("-a"), "tee"); err != nil {
			code = c.fail(1, "tee: %s: %s", f, sentence(err))
		}
	}
	return code
}

func (c *call) sleep() int {
	for _, a := range c.args {
		d, err := seconds(a)
		if err != nil {
			return c.fail(1, "sleep: invalid time interval '%s'", a)
		}
		c.wait(d)
	}
	return 0
}

func (c *call) seq() int {
	to, err := strconv.Atoi(strings.Join(c.args, ""))
	if err != nil || len(c.args) != 1 || to > 10000 {
		return c.fail(1, "seq: only a single number up to 10000 works here")
	}
	for i := range to {
		c.printf("%d\n", i+1)
	}
	return 0
}

// ago prints how long d is, as systemctl does.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dmin ago", int(d.Minutes()))
	default:
		return fmt.Sprintf("%dh %dmin ago", int(d.Hours()), int(d.Minutes())%60)
	}
}
