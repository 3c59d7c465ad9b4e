package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"bgbot/internal/anthropictest"
	"bgbot/pve"
)

// talkTo plays the CLI's tool loop with the scripted model: its commands really run, over real SSH, unless deny says
// otherwise. It returns the final answer and the commands.
func talkTo(t *testing.T, l *Lab, prompt string, deny func(command string) string) (answer string, commands []string) {
	t.Helper()
	type block = map[string]any
	messages := []block{{"role": "user", "content": prompt}}
	for step := range 20 {
		body, err := json.Marshal(block{"messages": messages})
		if err != nil {
			t.Fatal(err)
		}
		r := anthropictest.Request{Prompt: prompt, Step: step, Body: body}
		a := l.Model()(r)
		if again := l.Model()(r); fmt.Sprint(again) != fmt.Sprint(a) {
			t.Errorf("the same request was answered otherwise:\n%v\n%v", a, again)
		}
		if len(a.Bash) == 0 {
			return a.Text, commands
		}
		command := a.Bash[0]
		commands = append(commands, command)
		result := ""
		if deny != nil {
			result = deny(command)
		}
		if result == "" {
			result = bash(t, l, command)
		}
		t.Logf("%s\n$ %s\n%s", a.Text, command, result)
		messages = append(messages,
			block{"role": "assistant", "content": []block{{"type": "tool_use", "id": "x", "name": "Bash", "input": block{"command": command}}}},
			block{"role": "user", "content": []block{{"type": "tool_result", "tool_use_id": "x", "content": result}}})
	}
	t.Fatal("the model does not come to an end")
	return "", nil
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
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // the script's 15 s, shortened
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
	r, err := interp.New(interp.StdIO(nil, &out, &out), interp.ExecHandler(programs))
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
		r := onHost(t, l, pve.Verb(command))
		fmt.Fprintln(out, r.Text)
		return exitOf(int(r.Exit))
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
	if err != nil {
		return exitOf(1)
	}
	return nil
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
	answer, commands := talkTo(t, l, "[alice]: "+l.Scenario().Prompt, nil)
	if !strings.HasPrefix(answer, "**devvm is back.** SSH answers, a write to the disk returned, no unit has failed.") {
		t.Errorf("the last word: %s", answer)
	}
	if len(commands) != 7 || commands[0] != "ssh pve status" || commands[4] != "ssh pve cycle" {
		t.Errorf("commands:\n%s", strings.Join(commands, "\n"))
	}
	recovers(t, l)
	if answer, _ := talkTo(t, l, "[alice]: Is QEMU itself wedged? Compare.", nil); !strings.Contains(answer, "This is what I see") {
		t.Errorf("one tap: %s", answer)
	}
	if answer, commands := talkTo(t, l, "[alice]: thanks, and what about lunch?", nil); !strings.Contains(answer, "scripted model") || commands != nil {
		t.Errorf("free text: %s %v", answer, commands)
	}
	if answer, _ := talkTo(t, l, l.Scenario().Prompt, nil); !strings.HasPrefix(answer, "I cannot find a hang now") {
		t.Errorf("asked again: %s", answer)
	}
}

func TestTheScriptedAgentClaimsNothingAfterADenial(t *testing.T) {
	t.Parallel()
	l := start(t, "io-stall")
	answer, _ := talkTo(t, l, l.Scenario().Prompt, func(command string) string {
		if command == "ssh pve cycle" {
			return "Denied: nobody confirmed in time."
		}
		return ""
	})
	if !strings.HasPrefix(answer, "**devvm is still frozen**: the cycle was not approved, so nothing was changed.") {
		t.Errorf("the last word: %s", answer)
	}
	answer, _ = talkTo(t, l, l.Scenario().Prompt, func(command string) string {
		if command == "ssh pve cycle" {
			return "Exit code 4\nVM 102 is locked (backup); nothing was started."
		}
		return ""
	})
	if !strings.HasPrefix(answer, "**devvm is still down**: the host did not cycle it (exit code 4).") || !strings.Contains(answer, "locked (backup)") {
		t.Errorf("the last word: %s", answer)
	}
	if l.Recovered(t.Context()) == nil {
		t.Error("recovered by itself")
	}
}

func TestTheScriptedAgentMakesRoom(t *testing.T) {
	t.Parallel()
	l := start(t, "disk-full")
	if answer, _ := talkTo(t, l, "A disk looks full or broken. Check space.", nil); !strings.Contains(answer, "100% /var") {
		t.Errorf("one tap: %s", answer)
	}
	answer, commands := talkTo(t, l, l.Scenario().Prompt, nil)
	want := "**t3-serve runs again.** /var was at 100% and is at 12% now; no unit has failed.\n\n- Cause: `/var/log/t3-serve/trace.log` had grown to 33G.\n"
	if !strings.HasPrefix(answer, want) || !strings.Contains(answer, "`trace = true`") {
		t.Errorf("the last word: %s\nwant %s", answer, want)
	}
	if len(commands) != 4 {
		t.Errorf("commands:\n%s", strings.Join(commands, "\n"))
	}
	recovers(t, l)
}

func TestTheScriptedAgentSaysWhenItCannotLogIn(t *testing.T) {
	t.Parallel()
	l := start(t, "disk-full")
	answer, _ := talkTo(t, l, l.Scenario().Prompt, func(string) string { return "Exit code 255\nssh: connect to host: Connection refused" })
	if !strings.HasPrefix(answer, "I could not log in to devvm") || !strings.Contains(answer, "Connection refused") {
		t.Errorf("the last word: %s", answer)
	}
	answer, _ = talkTo(t, l, l.Scenario().Prompt, func(command string) string {
		if strings.Contains(command, "truncate") {
			return "Exit code 1\ntruncate: cannot open: Permission denied"
		}
		return ""
	})
	if !strings.HasPrefix(answer, "**/var is still full.** I could not free space") {
		t.Errorf("the last word: %s", answer)
	}
}
