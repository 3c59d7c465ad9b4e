package anthropictest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T, model Model) *Server {
	t.Helper()
	s, err := Start(model)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func ask(t *testing.T, s *Server, body string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/run-7/v1/messages?beta=true", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// events reads a stream to its end, however that comes.
func events(t *testing.T, body io.Reader) (kinds []string, data []map[string]any) {
	t.Helper()
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if kind, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			kinds = append(kinds, kind)
		}
		if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var m map[string]any
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				m = map[string]any{"broken": text}
			}
			data = append(data, m)
		}
	}
	return kinds, data
}

const askStream = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}`

func TestAStreamedAnswerIsSpelledAsTheAPIDoes(t *testing.T) {
	t.Parallel()
	s := start(t, func(Request) Answer {
		return Answer{Think: "hm", Text: "I shall look into it now.", Bash: []string{"id", "uptime"}}
	})
	res := ask(t, s, askStream)
	kinds, data := events(t, res.Body)
	if got := res.Header.Get("request-id"); got != "req_test_1" {
		t.Errorf("got request-id %q", got)
	}
	if kinds[0] != "message_start" || kinds[len(kinds)-1] != "message_stop" {
		t.Errorf("got %v, want message_start first and message_stop last", kinds)
	}
	var text, inputs strings.Builder
	var starts []string
	for _, m := range data {
		if b, ok := m["content_block"].(map[string]any); ok {
			starts = append(starts, b["type"].(string))
		}
		if d, ok := m["delta"].(map[string]any); ok {
			if s, ok := d["text"].(string); ok {
				text.WriteString(s)
			}
			if s, ok := d["partial_json"].(string); ok {
				inputs.WriteString(s)
			}
		}
	}
	if got, want := strings.Join(starts, " "), "thinking text tool_use tool_use"; got != want {
		t.Errorf("got blocks %q, want %q", got, want)
	}
	if got, want := text.String(), "I shall look into it now."; got != want {
		t.Errorf("got text %q, want %q", got, want)
	}
	want := `{"command":"id","description":"run a test command"}{"command":"uptime","description":"run a test command"}`
	if got := inputs.String(); got != want {
		t.Errorf("got inputs %s, want %s", got, want)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for fault, last := range map[Fault]string{
		Cut: "content_block_delta", NoStop: "message_delta", SSEError: "error", BadJSON: "content_block_delta",
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			s := start(t, func(Request) Answer { return Answer{Text: strings.Repeat("word ", 20), Fault: fault} })
			kinds, _ := events(t, ask(t, s, askStream).Body)
			if got := kinds[len(kinds)-1]; got != last {
				t.Errorf("the stream ends with %s, want %s", got, last)
			}
		})
	}
}

func TestAFaultOfTwoTimesIsOverAtTheThirdTry(t *testing.T) {
	t.Parallel()
	s := start(t, func(Request) Answer { return Answer{Status: 529, Times: 2, RetryAfter: "1"} })
	for try, want := range []int{529, 529, 200} {
		res := ask(t, s, askStream)
		if res.StatusCode != want {
			t.Errorf("try %d: got status %d, want %d", try+1, res.StatusCode, want)
		}
	}
}

func TestAClientThatLeavesAHangingAnswerIsRecorded(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	s := start(t, func(Request) Answer { close(asked); return Answer{Fault: Hang} })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/v1/messages", strings.NewReader(askStream))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := http.DefaultClient.Do(req); err == nil {
		t.Fatal("the hanging answer came")
	}
	for deadline := time.Now().Add(5 * time.Second); !s.Requests()[0].Left; {
		if time.Now().After(deadline) {
			t.Fatal("nobody noticed that the client left")
		}
	}
}

func TestStepsAreCountedFromTheNewestPrompt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		messages, prompt, tool, folded string
		step                           int
	}{
		"first":     {`{"role":"user","content":"a"}`, "a", "", "", 0},
		"tool":      {`{"role":"user","content":"a"},{"role":"assistant","content":"x"},{"role":"user","content":[{"type":"tool_result","content":"out"}]}`, "a", "out", "", 1},
		"next turn": {`{"role":"user","content":"a"},{"role":"assistant","content":"x"},{"role":"user","content":[{"type":"text","text":"<system-reminder>n"},{"type":"text","text":"b"}]}`, "b", "", "", 0},
		"folded":    {`{"role":"user","content":"a"},{"role":"assistant","content":"x"},{"role":"user","content":[{"type":"tool_result","content":"out"}]},{"role":"system","content":"The user sent a new message while you were working:\nb\n\nThis is how Claude Code surfaces …"}`, "a", "out", "b", 1},
		"stopped":   {`{"role":"user","content":"a"},{"role":"assistant","content":"x"},{"role":"user","content":[{"type":"tool_result","content":"out"},{"type":"text","text":"[Request interrupted by user for tool use]"},{"type":"text","text":"b"}]}`, "b", "", "", 0},
	} {
		r, err := decode([]byte(`{"messages":[` + c.messages + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		if r.Prompt != c.prompt || r.ToolText != c.tool || r.Step != c.step || r.Folded != c.folded {
			t.Errorf("%s: got prompt %q tool %q folded %q step %d, want %q %q %q %d", name, r.Prompt, r.ToolText, r.Folded, r.Step, c.prompt, c.tool, c.folded, c.step)
		}
	}
}

func TestAPromptScriptsItsOwnAnswers(t *testing.T) {
	t.Parallel()
	prompt := `[alice]: look <<<[{"bash":"id","think":"hm"},{"bash":["a","b"]},{"status":529,"on_model":"opus","text":"fine"}]>>>`
	if a := PromptScript(Request{Prompt: prompt}); a.Think != "hm" || len(a.Bash) != 1 {
		t.Errorf("step 0: got %+v", a)
	}
	if a := PromptScript(Request{Prompt: prompt, Step: 1}); strings.Join(a.Bash, " ") != "a b" {
		t.Errorf("step 1: got %+v", a)
	}
	if a := PromptScript(Request{Prompt: prompt, Step: 2, Model: "sonnet"}); a.Status != 0 || a.Text != "fine" {
		t.Errorf("step 2: got %+v", a)
	}
	if a := PromptScript(Request{Prompt: prompt, Step: 3}); a.Text != "script over (step 3)" {
		t.Errorf("step 3: got %+v", a)
	}
}

func TestARefusingAddressRefuses(t *testing.T) {
	t.Parallel()
	url, release, err := Refuse()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, err = http.Get(url)
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v, want connection refused", err)
	}
}
