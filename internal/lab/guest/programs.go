package guest

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"mvdan.cc/sh/v3/syntax"
)

// call is one run of a simulated program.
type call struct {
	*session
	ctx  context.Context
	name string
	args []string
	dir  string
	in   io.Reader
	out  io.Writer
	err  io.Writer
}

// find returns the program of that name, given as a bare word or as a path in one of the program folders.
func find(name string) func(*call) int {
	if dir, base := path.Split(name); dir != "" {
		if !slices.Contains([]string{"/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/local/bin/"}, dir) {
			return nil
		}
		name = base
	}
	for _, table := range []map[string]func(*call) int{wrappers(), filters(), storage(), system(), services()} {
		if p := table[name]; p != nil {
			return p
		}
	}
	return nil
}

// wrappers run other commands.
func wrappers() map[string]func(*call) int {
	same := func(withValue string) func(*call) int {
		return func(c *call) int { return c.wrapped(c.ctx, c.operands(withValue), c.session) }
	}
	return map[string]func(*call) int{
		"sudo": func(c *call) int {
			root := *c.session
			root.root = true
			return c.wrapped(c.ctx, c.operands("ugpC"), &root)
		},
		"bash": (*call).shell, "sh": (*call).shell, "dash": (*call).shell,
		"timeout": (*call).timeout,
		"nice":    same("n"), "ionice": same("cnp"), "nohup": same(""), "stdbuf": same("ioe"), "setsid": same(""), "time": same(""),
		"env": func(c *call) int {
			args := c.operands("uC")
			for len(args) > 0 && strings.Contains(args[0], "=") {
				args = args[1:]
			}
			return c.wrapped(c.ctx, args, c.session)
		},
		"which":       (*call).which,
		"unavailable": func(c *call) int { return c.fail(1, "bash: %s: not available in this shell", c.args[0]) },
	}
}

// operands drops the options in front. Letters in withValue take the next argument as their value.
func (c *call) operands(withValue string) []string {
	args := c.args
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		a := args[0]
		args = args[1:]
		if a == "--" {
			break
		}
		if len(a) == 2 && strings.Contains(withValue, a[1:]) && len(args) > 0 {
			args = args[1:]
		}
	}
	return args
}

// wrapped runs args as a command line of its own, so that built-in commands work behind sudo and timeout too.
func (c *call) wrapped(ctx context.Context, args []string, s *session) int {
	if len(args) == 0 {
		return c.fail(1, "%s: missing operand", c.name)
	}
	var words []string
	for _, a := range args {
		q, err := syntax.Quote(a, syntax.LangBash)
		if err != nil {
			return c.fail(126, "%s: %v", c.name, err)
		}
		words = append(words, q)
	}
	inner := *s
	inner.depth++
	return inner.script(ctx, c.dir, strings.Join(words, " "), c.in, c.out, c.err)
}

// timeout ends what can be ended. A task in state D is not: its signal waits as well.
func (c *call) timeout() int {
	args := c.operands("ks")
	if len(args) < 2 {
		return c.fail(125, "timeout: missing operand")
	}
	limit, err := seconds(args[0])
	if err != nil {
		return c.fail(125, "timeout: invalid time interval '%s'", args[0])
	}
	ctx, cancel := context.WithTimeout(c.ctx, limit)
	defer cancel()
	code := c.wrapped(ctx, args[1:], c.session)
	if ctx.Err() != nil && c.ctx.Err() == nil {
		return 124
	}
	return code
}

func seconds(s string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 && n < 1e6 {
		return time.Duration(n * float64(time.Second)), nil
	}
	if rest, ok := strings.CutSuffix(s, "d"); ok {
		d, err := seconds(rest)
		return 24 * d, err
	}
	d, err := time.ParseDuration(s)
	if err == nil && (d < 0 || d > 1e6*time.Second) {
		err = fmt.Errorf("out of range")
	}
	return d, err
}

func (c *call) shell() int {
	args := c.args
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		flag := args[0]
		args = args[1:]
		if strings.HasSuffix(flag, "c") && !strings.HasPrefix(flag, "--") {
			if len(args) == 0 {
				return c.fail(2, "bash: -c: option requires an argument")
			}
			return c.nested(args[0])
		}
	}
	if len(args) > 0 && args[0] != "-" {
		script, err := c.readFile(absolute(c.dir, args[0]), "bash")
		if err != nil {
			return c.fail(127, "bash: %s: %s", args[0], sentence(err))
		}
		return c.nested(script)
	}
	text := c.input()
	c.in = strings.NewReader("")
	return c.nested(text)
}

func (c *call) nested(text string) int {
	inner := *c.session
	inner.depth++
	return inner.script(c.ctx, c.dir, text, c.in, c.out, c.err)
}

func (c *call) which() int {
	code := 0
	for _, name := range c.args {
		if strings.HasPrefix(name, "-") {
			continue
		}
		if find(name) == nil || name == "unavailable" {
			code = 1
			continue
		}
		c.printf("/usr/bin/%s\n", path.Base(name))
	}
	return code
}

func (c *call) printf(format string, args ...any) { fmt.Fprintf(c.out, format, args...) }

// fail prints a line to stderr and returns code.
func (c *call) fail(code int, format string, args ...any) int {
	fmt.Fprintf(c.err, format+"\n", args...)
	return code
}

// flag tells whether one of the options is among the arguments: "-h" also within "-Th", "--since" also as "--since=…".
func (c *call) flag(options ...string) bool {
	_, ok := c.find(options)
	return ok
}

func (c *call) find(options []string) (string, bool) {
	for i, a := range c.args {
		for _, o := range options {
			long := strings.HasPrefix(o, "--")
			switch {
			case a == o:
				if i+1 < len(c.args) {
					return c.args[i+1], true
				}
				return "", true
			case long && strings.HasPrefix(a, o+"="):
				return a[len(o)+1:], true
			case !long && len(o) == 2 && strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.Contains(a[1:], o[1:]):
				if rest := a[strings.Index(a, o[1:])+1:]; rest != "" {
					return rest, true
				}
				if i+1 < len(c.args) {
					return c.args[i+1], true
				}
				return "", true
			}
		}
	}
	return "", false
}

// value is the argument of one of the options.
func (c *call) value(options ...string) string {
	v, _ := c.find(options)
	return v
}

// input reads standard input until it ends or the program is signalled. It is bounded: nothing here needs more.
func (c *call) input() string {
	if f, ok := c.in.(interface{ SetReadDeadline(time.Time) error }); ok {
		release := context.AfterFunc(c.ctx, func() { _ = f.SetReadDeadline(time.Now()) })
		defer release()
	}
	data, _ := io.ReadAll(io.LimitReader(c.in, 8<<20))
	return string(data)
}

// wait waits like a program that a signal ends.
func (c *call) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}
