package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// maxScript bounds a command line; the longest that a person or an agent writes is far below.
const maxScript = 64 << 10

// session is one login: who runs the commands, and where their files and disks are.
type session struct {
	m     *Machine
	root  bool
	depth int // shells within shells

	life context.Context // of the login: what hangs on the disk ends with it alone, not with a signal
}

// Run executes a command line as a login of user breakglass and returns its exit code. It returns when the command has
// ended or, for one that hangs on the disk, when ctx is done.
func (m *Machine) Run(ctx context.Context, line string, in io.Reader, out, errout io.Writer) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{m: m, life: ctx}
	return s.script(ctx, "/home/breakglass", line, in, out, errout)
}

// script interprets text. Every name in it is resolved by us: programs by exec, files by the handlers of files.go. What
// the interpreter would do by itself to the real machine is kept from it in three ways: refuse looks at the text,
// divert at the built-in commands, and TMPDIR points to where no fifo can be made.
func (s *session) script(ctx context.Context, dir, text string, in io.Reader, out, errout io.Writer) (code int) {
	defer func() {
		if recover() != nil { // the interpreter's own fault must not take the VM down
			code = 2
		}
	}()
	if s.depth > 8 || len(text) > maxScript {
		fmt.Fprintln(errout, "bash: the command line is too long or too deeply nested")
		return 126
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "bash")
	if err == nil {
		err = refuse(file)
	}
	if err != nil {
		fmt.Fprintf(errout, "bash: -c: %v\n", err)
		return 2
	}
	runner, err := interp.New(
		interp.Env(expand.ListEnviron(s.environment()...)),
		interp.StdIO(in, out, errout),
		interp.CallHandler(divert),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return s.exec }), // never the next one
		interp.OpenHandler(s.open),
		interp.ReadDirHandler2(s.readDir),
		interp.StatHandler(s.stat),
		interp.AccessHandler(s.access),
		interp.Dir("/"),
	)
	if err != nil {
		fmt.Fprintln(errout, "bash:", err)
		return 126
	}
	runner.Reset()
	runner.Dir = dir // not through interp.Dir, which looks for it on the real disk
	return exitCode(runner.Run(ctx, file), errout)
}

func exitCode(err error, errout io.Writer) int {
	if err == nil {
		return 0
	}
	if status, ok := errors.AsType[interp.ExitStatus](err); ok {
		return int(status)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return 137
	}
	fmt.Fprintf(errout, "bash: %v\n", err)
	return 1
}

func (s *session) user() (name, home string, uid string) {
	if s.root {
		return "root", "/root", "0"
	}
	return "breakglass", "/home/breakglass", "1001"
}

func (s *session) environment() []string {
	name, home, uid := s.user()
	return []string{
		"HOME=" + home, "USER=" + name, "LOGNAME=" + name, "UID=" + uid, "EUID=" + uid, "GID=" + uid,
		"SHELL=/bin/bash", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + s.m.cfg.Name,
		"TMPDIR=/dev/null", // process substitution makes its fifo here: it cannot
	}
}

var namedHome = regexp.MustCompile(`^~[^/]`)

// errBackground refuses what would run on after its login: nobody would wait for it.
var errBackground = errors.New("background jobs are not available here")

// refuse finds what the interpreter would do on the real machine: fifos for process substitution, and the password file
// for ~name.
func refuse(node syntax.Node) (err error) {
	syntax.Walk(node, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.ProcSubst:
			err = errors.New("process substitution is not available here")
		case *syntax.CoprocClause:
			err = errBackground
		case *syntax.Stmt:
			if n.Background || n.Coprocess || n.Disown {
				err = errBackground
			}
		case *syntax.Word:
			if lit, ok := first(n).(*syntax.Lit); ok && namedHome.MatchString(lit.Value) {
				err = fmt.Errorf("%s: no such home directory", lit.Value)
			}
		}
		return err == nil
	})
	return err
}

func first(w *syntax.Word) syntax.WordPart {
	if len(w.Parts) == 0 {
		return nil
	}
	return w.Parts[0]
}

// divert replaces the built-in commands that parse text again, and so get round refuse, or that look at the real disk.
func divert(ctx context.Context, args []string) ([]string, error) {
	for len(args) > 1 && (args[0] == "builtin" || args[0] == "command" && !strings.HasPrefix(args[1], "-")) {
		args = args[1:]
	}
	switch args[0] {
	case "eval":
		return []string{"bash", "-c", strings.Join(args[1:], " ")}, nil
	case "exec":
		if len(args) > 1 {
			return divert(ctx, args[1:])
		}
		return []string{"true"}, nil
	case "command", "type", "hash":
		names := slices.DeleteFunc(slices.Clone(args[1:]), func(a string) bool { return strings.HasPrefix(a, "-") })
		return append([]string{"which"}, names...), nil
	case "pwd":
		return []string{"pwd"}, nil // with -P it resolves links of the real disk
	case "source", ".", "trap", "alias", "unalias", "builtin", "help", "times", "shopt":
		return append([]string{"unavailable"}, args...), nil
	}
	return args, nil
}

// exec is every command that is not built in. None of them leaves this process.
func (s *session) exec(ctx context.Context, args []string) error {
	h := interp.HandlerCtx(ctx)
	c := &call{session: s, ctx: ctx, args: args[1:], name: args[0], dir: h.Dir, in: h.Stdin, out: h.Stdout, err: h.Stderr}
	if c.in == nil {
		c.in = strings.NewReader("")
	}
	program := find(args[0])
	if program == nil {
		fmt.Fprintf(h.Stderr, "bash: %s: command not found\n", args[0])
		return interp.ExitStatus(127)
	}
	code := program(c)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if code == 0 {
		return nil
	}
	return interp.ExitStatus(uint8(code))
}
