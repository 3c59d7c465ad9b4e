package agentrun

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// largestDraft is the text from which on a growing block is no longer shown with every delta.
const largestDraft = 256 << 10

// unwrap takes off what the CLI puts around some outputs for the model.
var unwrap = strings.NewReplacer(
	"<tool_use_error>", "", "</tool_use_error>", "", "<persisted-output>\n", "", "\n</persisted-output>", "")

// reader turns what the CLI says in one turn into events. It is a plain state machine: no clock, no I/O.
type reader struct {
	resumed bool
	started bool

	texts     int // text blocks that are complete
	drafting  bool
	draft     string
	draftFrom int // the index of the block that drafts

	running map[string]*call // tool calls without a result
	order   []string         // their ids, oldest first
	kind    string           // the error of the last synthetic message, such as rate_limit
	model   string
}

// call is a tool call that runs.
type call struct {
	tool   Tool
	since  time.Time
	denied bool
}

func newReader(resumed bool) *reader { return &reader{resumed: resumed, running: map[string]*call{}} }

// read returns the events in m.
func (r *reader) read(m any, now time.Time) []Event {
	switch m := m.(type) {
	case *initLine:
		r.model = m.Model
		if r.started {
			return nil
		}
		r.started = true
		return []Event{Started{Session: m.SessionID, Model: m.Model, Resumed: r.resumed}}
	case *streamLine:
		if m.Parent == "" {
			return r.stream(m)
		}
	case *assistantLine:
		if m.Parent == "" {
			return r.assistant(m, now)
		}
	case *userLine:
		if m.Parent == "" {
			return r.results(m, now)
		}
	case *deniedLine:
		if c := r.running[m.ToolUseID]; c != nil {
			c.denied = true
		}
	case *retryLine:
		return []Event{retrying(m)}
	case *statusLine:
		if m.Status == "compacting" {
			return []Event{Notice{Text: "The conversation is long; the agent is summing it up before it goes on."}}
		}
	}
	return nil
}

// stream grows a draft. A message that starts over, after a cut or an error, replaces what was drafted under the same ID.
func (r *reader) stream(m *streamLine) []Event {
	switch e := m.Event; e.Type {
	case "message_start":
		r.drafting, r.draft = false, ""
	case "content_block_start":
		r.drafting, r.draft, r.draftFrom = e.Block.Type == "text", "", e.Index
	case "content_block_delta":
		if !r.drafting || e.Delta.Type != "text_delta" || e.Index != r.draftFrom || e.Delta.Text == "" {
			return nil
		}
		r.draft += e.Delta.Text
		if len(r.draft) > largestDraft {
			return nil
		}
		return []Event{Text{ID: r.textID(), Text: clean(r.draft), Partial: true}}
	}
	return nil
}

func (r *reader) textID() string { return "text-" + strconv.Itoa(r.texts+1) }

func (r *reader) assistant(m *assistantLine, now time.Time) []Event {
	if m.APIError || m.Error != "" {
		r.kind = m.Error
		if r.kind == "" {
			r.kind = "unknown"
		}
		return nil // the result says it
	}
	r.kind = ""
	var out []Event
	for _, b := range m.Message.Content {
		switch b.Type {
		case "text":
			if text := clean(b.Text); text != "" {
				out = append(out, Text{ID: r.textID(), Text: text})
				r.texts++
			}
			r.drafting, r.draft = false, ""
		case "tool_use":
			tool := Tool{ID: b.ID, Name: b.Name}
			tool.Input, tool.Purpose = describe(b.Name, b.Input)
			r.running[b.ID] = &call{tool: tool, since: now}
			r.order = append(r.order, b.ID)
			out = append(out, tool)
		}
	}
	return out
}

func (r *reader) results(m *userLine, now time.Time) []Event {
	var out []Event
	for _, b := range m.Message.Content {
		c := r.running[b.ToolUseID]
		if b.Type != "tool_result" || c == nil {
			continue
		}
		res := ToolResult{ID: b.ToolUseID, Output: unwrap.Replace(b.Content.text()), Failed: b.IsError, Denied: c.denied, Took: now.Sub(c.since)}
		for _, meta := range m.Meta {
			// The CLI's own words to the model about a call cut short would read as if a person had refused it.
			if meta.ID == b.ToolUseID && meta.NonExecution == "user-rejected" && !c.denied {
				res.Output = "stopped"
			}
		}
		delete(r.running, b.ToolUseID)
		out = append(out, res)
	}
	return out
}

// abandoned closes the calls that will have no result any more.
func (r *reader) abandoned(now time.Time) []Event {
	var out []Event
	for _, id := range r.order {
		if c := r.running[id]; c != nil {
			out = append(out, ToolResult{ID: id, Output: "no result", Failed: true, Denied: c.denied, Took: now.Sub(c.since)})
			delete(r.running, id)
		}
	}
	return out
}

// allowed starts the clock of a call anew: the time that a person took to answer is not the command's.
func (r *reader) allowed(id string, now time.Time) {
	if c := r.running[id]; c != nil {
		c.since = now
	}
}

// denied marks a call as one that did not run.
func (r *reader) denied(id string) {
	if c := r.running[id]; c != nil {
		c.denied = true
	}
}

// busy names the calls that run, oldest first.
func (r *reader) busy() []Tool {
	var out []Tool
	for _, id := range r.order {
		if c := r.running[id]; c != nil {
			out = append(out, c.tool)
		}
	}
	return out
}

// describe says for a person what a tool is called with.
func describe(name string, input json.RawMessage) (what, purpose string) {
	var in struct {
		Command     string `json:"command"`
		Description string `json:"description"`
		FilePath    string `json:"file_path"`
		Pattern     string `json:"pattern"`
		Path        string `json:"path"`
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return clean(string(input)), ""
	}
	switch {
	case name == "Bash":
		return clean(in.Command), clean(in.Description)
	case name == "Read":
		return clean(in.FilePath), ""
	case (name == "Grep" || name == "Glob") && in.Path != "":
		return clean(fmt.Sprintf("%s in %s", in.Pattern, in.Path)), ""
	case name == "Grep" || name == "Glob":
		return clean(in.Pattern), ""
	}
	return clean(string(input)), ""
}
