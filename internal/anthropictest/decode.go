package anthropictest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// wireMessage is one entry of messages; unknown roles, blocks and fields are accepted.
type wireMessage struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

type block struct {
	Type    string  `json:"type"`
	Text    string  `json:"text"`
	Content content `json:"content"` // of a tool result
}

// content is a list of blocks, or a bare string that stands for one text block.
type content []block

func (c *content) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*c = content{{Type: "text", Text: text}}
		return nil
	}
	var blocks []block
	if err := json.Unmarshal(data, &blocks); err != nil {
		return err
	}
	*c = blocks
	return nil
}

func (c content) texts() []string {
	var out []string
	for _, b := range c {
		if b.Type == "text" {
			out = append(out, b.Text)
		}
	}
	return out
}

func decode(body []byte) (Request, error) {
	var wire struct {
		Model    string        `json:"model"`
		Stream   bool          `json:"stream"`
		System   content       `json:"system"`
		Messages []wireMessage `json:"messages"`
		Tools    []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return Request{}, fmt.Errorf("the body is not a request: %w", err)
	}
	r := Request{Model: wire.Model, Stream: wire.Stream, Body: body}
	system := wire.System.texts()
	for _, t := range wire.Tools {
		r.Tools = append(r.Tools, t.Name)
	}
	var all []string
	for _, m := range wire.Messages {
		switch m.Role {
		case "system":
			for _, text := range m.Content.texts() {
				if rest, ok := strings.CutPrefix(text, folded); ok {
					r.Folded, _, _ = strings.Cut(rest, "\n\nThis is how Claude Code surfaces")
					all = append(all, r.Folded)
					continue
				}
				system = append(system, text)
			}
		case "assistant":
			r.Step++
		default:
			all = append(all, r.listen(m.Content)...)
		}
	}
	r.System, r.All = strings.Join(system, "\n"), strings.Join(all, "\n")
	return r, nil
}

// How the CLI tells the model what a person did in the middle of a turn (measured with CLI 2.1.330). What follows an
// interruption is new, even in the same message; a folded text comes as a message of the system.
const (
	interrupted = "[Request interrupted by user"
	folded      = "The user sent a new message while you were working:\n"
)

// listen takes in one message of the user: tool results, prompts, and the CLI's own reminders.
func (r *Request) listen(c content) (said []string) {
	running := false // a tool result before a text: the text belongs to a running turn
	prompt := ""
	for _, b := range c {
		switch {
		case b.Type == "tool_result":
			running = true
			r.ToolText = strings.Join(b.Content.texts(), "\n")
			said = append(said, r.ToolText)
		case b.Type != "text":
		case strings.HasPrefix(b.Text, interrupted):
			running = false
			said = append(said, b.Text)
		default:
			said = append(said, b.Text)
			if !running && !strings.HasPrefix(b.Text, "<system-reminder>") {
				prompt = b.Text
			}
		}
	}
	if prompt != "" {
		r.Prompt, r.Step, r.ToolText, r.Folded = prompt, 0, "", ""
	}
	return said
}
