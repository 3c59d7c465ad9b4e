package agentrun

import (
	"encoding/json"
	"testing"
	"time"
)

// TestTheCLIKeepsItsContract runs one whole turn. After a new version of the CLI it is the first to look at: each failure
// says what the CLI no longer does.
func TestTheCLIKeepsItsContract(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	began := time.Now()
	rec := all(t, r.Start(t.Context(), prompt(s, script(
		step{"think": "a secret thought", "text": "Let me look.", "bash": "echo marker-$((40+2))"}, step{"text": "It is 42."})), allow))
	t.Logf("a cold turn took %s", time.Since(began))
	if rec.err != nil {
		t.Fatalf("the claude CLI no longer ends a turn with a result: %v", rec.err)
	}
	if got := first[Started](t, rec); got.Session != s || got.Resumed || got.Model == "" {
		t.Errorf("the claude CLI no longer begins with the session that it was given: %+v", got)
	}
	texts := each[Text](rec)
	partial := 0
	for _, x := range texts {
		if x.Partial {
			partial++
		}
	}
	if partial == 0 {
		t.Errorf("the claude CLI no longer streams text: %+v", texts)
	}
	if last := texts[len(texts)-1]; last != (Text{ID: "text-2", Text: "It is 42."}) {
		t.Errorf("the claude CLI no longer says each text block once: %+v", texts)
	}
	tool := first[Tool](t, rec)
	if tool.Name != "Bash" || tool.Input != "echo marker-$((40+2))" || tool.Purpose != "run a test command" {
		t.Errorf("the claude CLI no longer announces tool calls: %+v", tool)
	}
	if got := first[ToolResult](t, rec); got.ID != tool.ID || got.Output != "marker-42" || got.Failed || got.Denied {
		t.Errorf("the claude CLI no longer passes on what a tool gave: %+v", got)
	}
	got := first[Result](t, rec)
	if got.Text != "It is 42." || got.Failed {
		t.Errorf("the claude CLI no longer gives the final answer: %+v", got)
	}
	if got.Steps != 2 || got.Cost <= 0 || got.Cost > 0.01 || got.Took <= 0 {
		t.Errorf("the claude CLI no longer counts steps and cost of a turn: %+v", got)
	}
	again := first[Result](t, all(t, r.Start(t.Context(), prompt(s, script(step{"text": "x"})), allow)))
	if again.Steps != 1 || again.Cost >= got.Cost {
		t.Errorf("the claude CLI no longer tells the cost of a turn from that of its session: %+v after %+v", again, got)
	}
}

func TestTheCLITakesAllSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := &session{id: newSession()}
	sp, err := r.specify(s, Prompt{Session: s.id, Model: "sonnet"}, false)
	if err != nil {
		t.Fatal(err)
	}
	p, err := spawn(sp)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Effective json.RawMessage }
	if err := p.send(sayControl("settings", "get_settings", nil)); err != nil {
		t.Fatal(err)
	}
	p.drain(20*time.Second, func(m any) bool {
		res, ok := m.(*responseLine)
		if ok {
			err = json.Unmarshal(res.Response.Response, &got)
		}
		return ok
	})
	p.end(idlePatience)
	p.bury()
	const want = `{"cleanupPeriodDays":90,"permissions":{"ask":["Bash"]}}`
	if err != nil || string(got.Effective) != want {
		t.Errorf("the claude CLI no longer takes our settings: got %s, %v, want %s; stderr %q", got.Effective, err, want, p.stderr())
	}
}

func TestACommandThatTakesTooLongIsEndedAndNotMovedToTheBackground(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Env = map[string]string{"BASH_DEFAULT_TIMEOUT_MS": "700"} })
	rec := all(t, r.Start(t.Context(), prompt(newSession(), script(step{"bash": "sleep 628"}, step{"text": "x"})), allow))
	answer(t, rec)
	res := first[ToolResult](t, rec)
	contains(t, res.Output, "timed out")
	if !res.Failed || running(t, "628") != 0 {
		t.Errorf("the claude CLI no longer ends a command that timed out: %+v", res)
	}
}
