package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/pve"
)

// answer is what a verb came to.
type answer struct {
	t      testing.TB
	steps  []pve.Step // without files
	files  []pve.File
	result pve.Result
	exit   pve.Exit
	words  string // on stderr
}

// client asks as the bot does.
func (d *drill) client(t testing.TB, v pve.Verb) answer {
	t.Helper()
	return d.ask(t, d.Gate(), v)
}

func (d *drill) ask(t testing.TB, h pve.Host, v pve.Verb) answer {
	t.Helper()
	c := pve.NewClient(h, d.VMID(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	defer func() { _ = c.Close() }()
	r, err := c.Run(t.Context(), v, nil)
	if err != nil {
		t.Fatalf("%s: %v", v, err)
	}
	return answer{t: t, steps: r.Steps, files: r.Files, result: r.Result, exit: r.Result.Exit}
}

// sshCommand is ssh(1) to the host with the bot's key, and nothing of the machine's own set-up.
func (d *drill) sshCommand(t testing.TB, options []string, command ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), pve.Cycle.Limit())
	t.Cleanup(cancel)
	key, _ := d.KeyFiles()
	host, port, _ := net.SplitHostPort(d.host.address)
	args := append([]string{
		"-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile=" + d.known, "-o", "GlobalKnownHostsFile=/dev/null", "-p", port, "-l", d.host.user,
	}, options...)
	cmd := exec.CommandContext(ctx, "ssh", append(append(args, host), command...)...)
	cmd.Env = []string{"PATH=" + hostPath, "HOME=" + d.state.path("keys")}
	cmd.WaitDelay = time.Second
	return cmd
}

// call is one ssh(1) under way.
type call struct {
	answer
	cmd   *exec.Cmd
	lines *bufio.Scanner
	said  bytes.Buffer
}

// call begins to ask over ssh(1).
func (d *drill) call(t testing.TB, command string) *call {
	t.Helper()
	return d.follow(t, d.sshCommand(t, nil, command))
}

func (d *drill) follow(t testing.TB, cmd *exec.Cmd) *call {
	t.Helper()
	c := &call{answer: answer{t: t}, cmd: cmd}
	c.cmd.Stderr = &c.said
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	c.lines.Buffer(nil, 2<<20) // a line may carry a file
	return c
}

// next is the next step; it is false when there is none any more.
func (c *call) next() (pve.Step, bool) {
	c.t.Helper()
	for c.lines.Scan() {
		var line struct {
			pve.Step
			Result *pve.Result `json:"result"`
		}
		if err := json.Unmarshal(c.lines.Bytes(), &line); err != nil {
			c.t.Errorf("not a line of JSON: %.200q", c.lines.Text())
			continue
		}
		switch {
		case line.Result != nil:
			c.result = *line.Result
		case line.Name != "":
			c.files = append(c.files, pve.File{Name: line.Name, Type: line.Type, Data: line.Data})
		default:
			c.steps = append(c.steps, line.Step)
			return line.Step, true
		}
	}
	return pve.Step{}, false
}

// sees waits for a step, such as "stop start", and fails the test if it does not come.
func (c *call) sees(want string) {
	c.t.Helper()
	for {
		s, more := c.next()
		if !more {
			c.t.Fatalf("no step %q in %s; stderr %q", want, c.trail(), c.said.String())
		}
		if s.Step+" "+string(s.State) == want {
			return
		}
	}
}

// op is that of the change.
func (c *call) op() string { return c.steps[0].Op }

// kill is a phone that lost its signal.
func (c *call) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	_ = c.cmd.Wait()
}

// ends follows the call to its end.
func (c *call) ends() answer {
	c.t.Helper()
	for {
		if _, more := c.next(); !more {
			break
		}
	}
	err := c.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		c.exit = pve.Exit(exit.ExitCode())
	} else if err != nil {
		c.t.Fatal(err)
	}
	c.words = c.said.String()
	if c.result.Verb != "" && c.result.Exit != c.exit {
		c.t.Errorf("the result says %d and the exit status %d", c.result.Exit, c.exit)
	}
	return c.answer
}

// ssh asks over ssh(1) and waits for the end.
func (d *drill) ssh(t testing.TB, v pve.Verb) answer {
	t.Helper()
	return d.call(t, string(v)).ends()
}

// want compares the exit code, and the first line of the text with a pattern.
func (a answer) want(exit pve.Exit, first string) answer {
	a.t.Helper()
	line, _, _ := strings.Cut(a.result.Text, "\n")
	if a.exit != exit || !regexp.MustCompile("^"+first+"$").MatchString(line) {
		a.t.Fatalf("exit %d with %q, want %d with %s\nverdict %q\n%s%s", a.exit, a.result.Text, exit, first, a.result.Verdict, a.trail(), a.words)
	}
	return a
}

// text fails the test unless the whole text holds a pattern.
func (a answer) text(pattern string) answer {
	a.t.Helper()
	matches(a.t, "the text", a.result.Text, pattern)
	return a
}

// verdict fails the test unless the verdict matches the whole of a pattern and advises the verb.
func (a answer) verdict(pattern string, advice pve.Verb) answer {
	a.t.Helper()
	matches(a.t, "the verdict", a.result.Verdict, "^"+pattern+"$")
	if a.result.Advice != advice {
		a.t.Errorf("%q advises %q, want %q", a.result.Verdict, a.result.Advice, advice)
	}
	return a
}

// status fails the test unless that is the state of the VM.
func (a answer) status(want string) answer {
	a.t.Helper()
	if a.result.Status != want {
		a.t.Errorf("status %q, want %q: %s", a.result.Status, want, a.result.Text)
	}
	return a
}

func matches(t testing.TB, what, got, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("%s is\n%s\nwant %s", what, got, pattern)
	}
}

// trail is the order of the steps.
func (a answer) trail() string {
	var all []string
	for _, s := range a.steps {
		all = append(all, s.Step+" "+string(s.State))
	}
	return strings.Join(all, ", ")
}

// wantTrail compares the steps from the one after the verdict on.
func (a answer) wantTrail(want string) answer {
	a.t.Helper()
	if before := "op ok, accepted ok, lock ok, forensics start, forensics ok, verdict ok, identify ok, "; a.trail() != before+want {
		a.t.Errorf("steps\n%s\nwant\n%s%s", a.trail(), before, want)
	}
	return a
}

// step is the text of a step that ended well.
func (a answer) step(name string) string {
	i := slices.IndexFunc(a.steps, func(s pve.Step) bool { return s.Step == name && s.State == pve.StepOK })
	if i < 0 {
		return ""
	}
	return a.steps[i].Text
}

// file is an attachment, by how its name begins.
func (a answer) file(kind string) pve.File {
	a.t.Helper()
	i := slices.IndexFunc(a.files, func(f pve.File) bool { return strings.HasPrefix(f.Name, kind+"-"+a.result.Op) })
	if i < 0 {
		a.t.Fatalf("no %s attached", kind)
	}
	return a.files[i]
}
