package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"bgbot/internal/anthropictest"
	"bgbot/pve"
)

// talkTo plays the CLI's tool loop with the scripted model; run is its Bash tool. It returns the final answer and the
// commands.
func talkTo(t *testing.T, model anthropictest.Model, prompt string, run func(command string) string) (answer string, commands []string) {
	t.Helper()
	type block = map[string]any
	messages := []block{{"role": "user", "content": prompt}}
	for step := range 20 {
		body, err := json.Marshal(block{"messages": messages})
		if err != nil {
			t.Fatal(err)
		}
		r := anthropictest.Request{Prompt: prompt, Step: step, Body: body}
		a := model(r)
		if again := model(r); fmt.Sprint(again) != fmt.Sprint(a) {
			t.Errorf("the same request was answered otherwise:\n%v\n%v", a, again)
		}
		if len(a.Bash) == 0 {
			return a.Text, commands
		}
		command := a.Bash[0]
		commands = append(commands, command)
		result := run(command)
		t.Logf("%s\n$ %s\n%s", a.Text, command, result)
		messages = append(messages,
			block{"role": "assistant", "content": []block{{"type": "tool_use", "id": "x", "name": "Bash", "input": block{"command": command}}}},
			block{"role": "user", "content": []block{{"type": "tool_result", "tool_use_id": "x", "content": result}}})
	}
	t.Fatal("the model does not come to an end")
	return "", nil
}

// tool really runs the commands, over real SSH.
func tool(t *testing.T, l *Lab) func(string) string {
	return func(command string) string { return bash(t, l, command) }
}

// bash is the CLI's Bash tool with the two programs that the agent's commands use.
func bash(t *testing.T, l *Lab, line string) string {
	t.Helper()
	file, err := syntax.NewParser().Parse(strings.NewReader(line), "")
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	var out bytes.Buffer
	var programs interp.ExecHandlerFunc
	programs = func(ctx context.Context, args []string) error {
		h := interp.HandlerCtx(ctx)
		switch args[0] {
		case "timeout":
			limit := time.Second // the script's seconds, shortened
			if l.real() {
				if seconds, err := strconv.Atoi(args[1]); err == nil {
					limit = time.Duration(seconds) * time.Second
				}
			}
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			if err := programs(ctx, args[2:]); ctx.Err() == nil {
				return err
			}
			return interp.ExitStatus(124)
		case "sleep":
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			return nil
		case "ssh":
			return ssh1(ctx, t, l, args[1], strings.Join(args[2:], " "), h.Stdout)
		}
		return interp.ExitStatus(127)
	}
	r, err := interp.New(interp.StdIO(nil, &out, &out), interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return programs }))
	if err != nil {
		t.Fatal(err)
	}
	err = r.Run(t.Context(), file)
	if status, ok := errors.AsType[interp.ExitStatus](err); ok {
		return fmt.Sprintf("Exit code %d\n%s", status, out.String())
	}
	return out.String()
}

func ssh1(ctx context.Context, t *testing.T, l *Lab, host, command string, out io.Writer) error {
	if host == "pve" {
		r := reportOf(t, l, pve.Verb(command))
		relay(out, r)
		return exitOf(int(r.Result.Exit))
	}
	client, err := l.VM().Dial(ctx)
	if err != nil {
		fmt.Fprintln(out, err)
		return exitOf(255)
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	s, err := client.NewSession()
	if err != nil {
		return exitOf(255)
	}
	text, err := s.CombinedOutput(command)
	_, _ = out.Write(text)
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
		return exitOf(exit.ExitStatus())
	} else if err != nil {
		return exitOf(255)
	}
	return nil
}

// relay prints a report as package relay does, the files included: the script must not take their words for the host's.
func relay(out io.Writer, r pve.Report) {
	for _, s := range r.Steps {
		fmt.Fprintf(out, "%-5s %s: %s\n", s.State, s.Step, s.Text)
	}
	fmt.Fprintln(out, r.Result.Text)
	for _, f := range r.Files {
		if strings.HasPrefix(f.Type, "text/") {
			fmt.Fprintf(out, "--- %s ---\n%.24000s\n--- end of %s ---\n", f.Name, f.Data, f.Name)
		}
	}
}

func exitOf(code int) error {
	if code == 0 {
		return nil
	}
	return interp.ExitStatus(code)
}

func TestTheScriptedAgentCyclesTheStalledVM(t *testing.T) {
	t.Parallel()
	l := start(t, "io-stall")
	answer, commands := talkTo(t, l.Model(), "[alice]: "+l.Scenario().Prompt, tool(t, l))
	if !strings.HasPrefix(answer, "**devvm is back.** SSH answers, a write to the disk returned, no unit has failed.") {
		t.Errorf("the last word: %s", answer)
	}
	if len(commands) != 7 || commands[0] != "ssh pve status" || commands[4] != "ssh pve cycle" {
		t.Errorf("commands:\n%s", strings.Join(commands, "\n"))
	}
	recovers(t, l)
	if answer, _ := talkTo(t, l.Model(), "[alice]: Is QEMU itself wedged? Compare.", tool(t, l)); !strings.Contains(answer, "This is what I see") {
		t.Errorf("one tap: %s", answer)
	}
	if answer, commands := talkTo(t, l.Model(), "[alice]: thanks, and what about lunch?", tool(t, l)); !strings.Contains(answer, "scripted model") || commands != nil {
		t.Errorf("free text: %s %v", answer, commands)
	}
	if answer, _ := talkTo(t, l.Model(), l.Scenario().Prompt, tool(t, l)); !strings.HasPrefix(answer, "I cannot find a hang now") {
		t.Errorf("asked again: %s", answer)
	}
}

// canned is a Bash tool that answers by what a command begins with, after the common ssh prefix.
func canned(t *testing.T, results map[string]string) func(string) string {
	return func(command string) string {
		command = strings.TrimPrefix(strings.TrimPrefix(command, onGuest), probe)
		for begins, result := range results {
			if strings.HasPrefix(command, begins) {
				return result
			}
		}
		t.Errorf("unexpected command: %s", command)
		return ""
	}
}

func TestTheScriptedAgentClaimsOnlyWhatItSaw(t *testing.T) {
	t.Parallel()
	const up = "ssh pve status"
	stalled := map[string]string{
		up: "running", "'uptime; cat": "up 9 days, load average: 64.40", "'sync": "Exit code 124\n", "ssh pve forensics": "9 of 9 probes answered, running",
		"ssh pve cycle": "VM 102 was cycled", "for i in": "up after try 1", "'uptime; sync": "write-ok\n0 loaded units listed.",
	}
	full := map[string]string{
		"'uptime; df": "/dev/sda3 40G 40G 0 100% /var\n2 loaded units listed.", "'sudo lsof": "33G Nov 22 trace.log",
		"'sudo truncate": "/dev/sda3 40G 4G 36G 12% /var", "'sudo systemctl restart": "active\n0 loaded units listed.",
	}
	for _, c := range []struct {
		scenario string
		results  map[string]string
		command  string
		instead  string
		want     string
	}{
		{"io-stall", stalled, "ssh pve cycle", "Timed out: nobody answered within 2m0s, so `cycle` did not run.", "**devvm is still frozen**: nobody confirmed the cycle in time, so nothing was changed."},
		{"io-stall", stalled, "ssh pve cycle", "alice declined: `cycle` did not run.", "**devvm is still frozen**: the cycle was not approved, so nothing was changed.\n\n```\nalice declined"},
		{"io-stall", stalled, "ssh pve cycle", "Exit code 4\nVM 102 is locked (backup).", "**devvm is still down**: the host did not cycle it (exit code 4).\n\n```\nExit code 4\nVM 102 is locked (backup)."},
		{"io-stall", stalled, "'sync", "write-ok", "I cannot find a hang now"},
		{"io-stall", stalled, "'sync", "Denied by policy: did not run.", "I was not allowed to test a write, so I have no proof."},
		{"io-stall", stalled, "for i in", "Exit code 1\n", "**Not back yet**: the host cycled devvm, but SSH did not answer in ten tries."},
		{"io-stall", stalled, "ssh pve cycle", "ok    op: 1fca\nok    verdict: the file system is read-only\nVM 102 was cycled\n--- forensics-1fca.txt ---\ncancelled_write_bytes: 0\nit did not run\n--- end ---", "**devvm is back.**"},
		{"disk-full", full, "'sudo lsof", "Exit code 124\n986M /var/log/t3-serve", "The command in devvm did not finish in 60 s, so I do not know enough to go on. What came before:\n\n```\n986M"},
		{"disk-full", full, "'uptime; df", "Exit code 255\nssh: Connection refused", "I could not log in to devvm or read its disks:\n\n```\nExit code 255\nssh: Connection refused"},
		{"disk-full", full, "'uptime; df", "Denied by policy: did not run.", "I was not allowed to look, so I know nothing yet:"},
		{"disk-full", full, "'sudo lsof", "30G /var/lib/containerd", "/var is at 100%, but I do not recognise what fills it, so I remove nothing:"},
		{"disk-full", full, "'sudo truncate", "/dev/sda3 40G 40G 0 100% /var", "**/var is still full.** I could not free space:"},
		{"disk-full", full, "'sudo systemctl restart", "failed", "/var has room again (12% used), but **t3-serve does not start**:"},
	} {
		sc, err := scenario(c.scenario, Simulated)
		if err != nil {
			t.Fatal(err)
		}
		results := maps.Clone(c.results)
		results[c.command] = c.instead
		m := &model{scenario: sc}
		answer, _ := talkTo(t, m.answer, "[alice]: "+sc.Prompt, canned(t, results))
		if !strings.HasPrefix(answer, c.want) {
			t.Errorf("%s, %s: %q\ngot  %s\nwant %s", c.scenario, c.command, c.instead, answer, c.want)
		}
		if m.closing.Load() != strings.HasPrefix(c.want, "**devvm is back.") {
			t.Errorf("%s, %s: %q: it says that the incident is over", c.scenario, c.command, c.instead)
		}
	}
}

func TestTheScriptedAgentMakesRoom(t *testing.T) {
	t.Parallel()
	l := start(t, "disk-full")
	if answer, _ := talkTo(t, l.Model(), "A disk looks full or broken. Check space.", tool(t, l)); !strings.Contains(answer, "100% /var") {
		t.Errorf("one tap: %s", answer)
	}
	answer, commands := talkTo(t, l.Model(), l.Scenario().Prompt, tool(t, l))
	want := "**t3-serve runs again.** /var was at 100% and is at 12% now; no unit has failed.\n\n- Cause: `/var/log/t3-serve/trace.log` had grown to 33G.\n"
	if !strings.HasPrefix(answer, want) || !strings.Contains(answer, "`trace = true`") {
		t.Errorf("the last word: %s\nwant %s", answer, want)
	}
	if len(commands) != 4 {
		t.Errorf("commands:\n%s", strings.Join(commands, "\n"))
	}
	recovers(t, l)
}
