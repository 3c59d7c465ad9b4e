package anthropictest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// step is one Answer as a prompt spells it; see [PromptScript].
type step struct {
	Think   string            `json:"think"`
	Text    string            `json:"text"`
	Bash    oneOrMany         `json:"bash"`
	Tools   []ToolUse         `json:"tools"`
	Status  int               `json:"status"`
	Type    string            `json:"type"`
	Message string            `json:"message"`
	After   string            `json:"retry_after"`
	Headers map[string]string `json:"headers"`
	Times   int               `json:"times"`
	Wait    int               `json:"wait_ms"`
	Pace    int               `json:"pace_ms"`
	Fault   Fault             `json:"fault"`
	Stop    string            `json:"stop"`
	In      int               `json:"in"`
	Out     int               `json:"out"`
	OnModel string            `json:"on_model"` // status and fault strike only a model with this in its name
}

type oneOrMany []string

func (o *oneOrMany) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*o = oneOrMany{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(o))
}

// PromptScript is a [Model] that is scripted by the prompt itself: a JSON list between <<< and >>>, one object for each
// answer, such as <<<[{"bash":"uptime"},{"text":"Fine."}]>>>. The fields are those of [Answer] in lower case: think,
// text, bash (a string or a list), tools, status, type, message, retry_after, headers, times, wait_ms, pace_ms, fault, stop, in,
// out, on_model. It keeps no state, so retries, resumed and parallel sessions are answered alike. A prompt without a
// script is answered with "You said: …", a script that has run out with "script over".
func PromptScript(r Request) Answer {
	_, rest, found := strings.Cut(r.Prompt, "<<<")
	script, _, closed := strings.Cut(rest, ">>>")
	if !found || !closed {
		return Answer{Text: "You said: " + r.Prompt}
	}
	var steps []step
	if err := json.Unmarshal([]byte(script), &steps); err != nil {
		return Answer{Status: 400, ErrorText: "the script in the prompt is broken: " + err.Error()}
	}
	if r.Step >= len(steps) {
		return Answer{Text: fmt.Sprintf("script over (step %d)", r.Step)}
	}
	p := steps[r.Step]
	a := Answer{
		Think: p.Think, Text: p.Text, Bash: p.Bash, Tools: p.Tools,
		Status: p.Status, ErrorType: p.Type, ErrorText: p.Message, RetryAfter: p.After, Headers: p.Headers, Times: p.Times, Fault: p.Fault,
		Wait: time.Duration(p.Wait) * time.Millisecond, Pace: time.Duration(p.Pace) * time.Millisecond,
		StopReason: p.Stop, InTokens: p.In, OutTokens: p.Out,
	}
	if p.OnModel != "" && !strings.Contains(r.Model, p.OnModel) {
		a.Status, a.Fault = 0, NoFault
	}
	return a
}
