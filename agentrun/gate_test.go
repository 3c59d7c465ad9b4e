package agentrun

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestADeniedCommandDoesNotRunAndTheAgentReadsWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for name, c := range map[string]struct {
		gate Gate
		want string
	}{
		"with words":    {func(context.Context, Question) Answer { return Answer{Message: "Nobody answered in time."} }, "Nobody answered in time."},
		"without words": {func(context.Context, Question) Answer { return Answer{} }, "It was not allowed, so it did not run."},
		"no gate":       {nil, "Nobody is there to allow commands, so it did not run."},
	} {
		session := newSession()
		marker := filepath.Join(r.cfg.place(session).work(), "ran") // where it can write
		rec := all(t, r.Start(t.Context(), prompt(session, script(step{"bash": "touch " + marker}, step{"text": name})), c.gate))
		answer(t, rec)
		res := first[ToolResult](t, rec)
		if res.Output != c.want || !res.Denied || !res.Failed {
			t.Errorf("%s: got %+v, want it denied with %q", name, res, c.want)
		}
		if _, err := os.Stat(marker); err == nil {
			t.Errorf("%s: the command ran", name)
		}
	}
}

func TestEveryCommandIsAskedAlsoHarmlessOnes(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	commands := []string{"ls", "echo x", "id", "uptime", "cat /etc/hostname"}
	var steps []step
	for _, c := range commands {
		steps = append(steps, step{"bash": c})
	}
	var mu sync.Mutex
	asked := map[string]int{}
	gate := func(_ context.Context, q Question) Answer {
		mu.Lock()
		defer mu.Unlock()
		asked[q.Command]++
		return Answer{Allow: true}
	}
	answer(t, all(t, r.Start(t.Context(), prompt(newSession(), script(append(steps, step{"text": "x"})...)), gate)))
	for _, c := range commands {
		if asked[c] != 1 {
			t.Errorf("%q was asked %d times, want once: the claude CLI no longer asks before each command", c, asked[c])
		}
	}
}

func TestQuestionsThatAreOpenTogetherAreAnsweredInAnyOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	second := make(chan struct{})
	gate := func(ctx context.Context, q Question) Answer {
		if q.Command == "echo one" { // waits for the other to be decided
			select {
			case <-second:
			case <-ctx.Done():
			}
			return Answer{Allow: true}
		}
		close(second)
		return Answer{Message: "not this one"}
	}
	rec := all(t, r.Start(t.Context(), prompt(newSession(), script(step{"bash": []string{"echo one", "echo two"}}, step{"text": "x"})), gate))
	answer(t, rec)
	got := map[string]bool{}
	for _, res := range each[ToolResult](rec) {
		got[res.Output] = res.Denied
	}
	if denied, ok := got["one"]; !ok || denied {
		t.Errorf("the first command: got %v", got)
	}
	if denied, ok := got["not this one"]; !ok || !denied {
		t.Errorf("the second command: got %v", got)
	}
}

func TestAPersonWhoThinksLongIsNotAStall(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.StallNotice = 200 * time.Millisecond })
	var asked, decided, ended time.Time
	gate := func(ctx context.Context, _ Question) Answer {
		asked = time.Now()
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
		decided = time.Now()
		return Answer{Allow: true}
	}
	turn := r.Start(t.Context(), prompt(newSession(), script(step{"bash": "echo ok"}, step{"text": "x"})), gate)
	var notices []time.Time
	rec := until(t, turn, func(e Event) bool {
		switch {
		case is[Notice](e):
			notices = append(notices, time.Now())
		case is[ToolResult](e):
			ended = time.Now()
		}
		return false
	})
	answer(t, rec)
	for _, at := range notices {
		if at.After(asked.Add(100*time.Millisecond)) && at.Before(decided) {
			t.Errorf("silence was told %s after a person was asked", at.Sub(asked))
		}
	}
	if took := first[ToolResult](t, rec).Took; took > ended.Sub(decided) {
		t.Errorf("the command took %s, with the time that the person needed", took)
	}
}

// TestQuestions needs no CLI: what must be denied must not depend on what the CLI happens to send.
func TestQuestionsThatAreNotWellFormedCommandsAreDenied(t *testing.T) {
	t.Parallel()
	stopped, stop := context.WithCancelCause(t.Context())
	stop(ErrStopped)
	for name, c := range map[string]struct {
		line string
		ctx  context.Context
		mine bool
		want string
	}{
		"a command":       {`{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"id"},"tool_use_id":"t"}`, t.Context(), true, ""},
		"another tool":    {`{"subtype":"can_use_tool","tool_name":"Write","input":{"command":"id"},"tool_use_id":"t"}`, t.Context(), true, denyTool},
		"a file tool":     {`{"subtype":"can_use_tool","tool_name":"Read","input":{"file_path":"/etc/shadow"},"tool_use_id":"t"}`, t.Context(), true, denyTool},
		"another request": {`{"subtype":"hook_callback","tool_name":"Bash","input":{"command":"id"},"tool_use_id":"t"}`, t.Context(), true, denyTool},
		"no command":      {`{"subtype":"can_use_tool","tool_name":"Bash","input":{},"tool_use_id":"t"}`, t.Context(), true, denyMalformed},
		"null":            {`{"subtype":"can_use_tool","tool_name":"Bash","input":null,"tool_use_id":"t"}`, t.Context(), true, denyMalformed},
		"a list":          {`{"subtype":"can_use_tool","tool_name":"Bash","input":["id"],"tool_use_id":"t"}`, t.Context(), true, denyMalformed},
		"a number":        {`{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":7},"tool_use_id":"t"}`, t.Context(), true, denyMalformed},
		"no tool call":    {`{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"id"}}`, t.Context(), true, denyMalformed},
		"not our turn":    {`{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"id"},"tool_use_id":"t"}`, t.Context(), false, denyOver},
		"stopping":        {`{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"id"},"tool_use_id":"t"}`, stopped, true, denyStopping},
	} {
		m, err := decode([]byte(`{"type":"control_request","request_id":"r","request":` + c.line + `}`))
		if err != nil {
			t.Fatal(err)
		}
		d := &drive{t: &Turn{ctx: c.ctx, gate: allow}, mine: c.mine}
		q, got := d.read(m.(*askLine))
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		if c.want == "" && q.Command != "id" {
			t.Errorf("%s: got %+v", name, q)
		}
	}
}

func TestAQuestionOfAnOddShapeIsStillOneToDeny(t *testing.T) {
	t.Parallel()
	m, err := decode([]byte(`{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","tool_name":["Bash"]}}`))
	if q, ok := m.(*askLine); err == nil || !ok || q.ID != "r" {
		t.Errorf("got %v and %v, want the question's id and an error", m, err)
	}
}

func TestTheGateIsAskedInTheWordsOfTheAgent(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	command := "printf '%s\\n' \"a\tb\" && echo 'ü …'"
	var got Question
	gate := func(_ context.Context, q Question) Answer { got = q; return Answer{Allow: true} }
	s := newSession()
	rec := all(t, r.Start(t.Context(), prompt(s, script(step{"bash": command}, step{"text": "x"})), gate))
	answer(t, rec)
	var input struct{ Command string }
	if err := json.Unmarshal(got.Input, &input); err != nil {
		t.Fatal(err)
	}
	if got.Command != command || input.Command != command || got.Session != s {
		t.Errorf("got %+v, want the command to the byte", got)
	}
	if tool := first[Tool](t, rec); tool.ID != got.ID || tool.Input != "printf '%s\\n' \"a\tb\" && echo 'ü …'" {
		t.Errorf("a person sees %+v", tool)
	}
}
