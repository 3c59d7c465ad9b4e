package agentrun

import (
	"encoding/json"
	"maps"
	"regexp"
	"strings"
	"unicode/utf8"
)

// What the CLI says, one JSON object a line. Only the fields in use are decoded; unknown types and fields are ignored,
// and the order of keys varies (measured with CLI 2.1.330). The reader of a line gets one of these pointers, or nil.
type (
	initLine struct {
		SessionID      string            `json:"session_id"`
		Tools          []string          `json:"tools"`
		MCPServers     []json.RawMessage `json:"mcp_servers"`
		Model          string            `json:"model"`
		PermissionMode string            `json:"permissionMode"`
		Version        string            `json:"claude_code_version"`
	}
	statusLine struct {
		Status string `json:"status"`
	}
	retryLine struct {
		Attempt     int `json:"attempt"`
		MaxRetries  int `json:"max_retries"`
		ErrorStatus int `json:"error_status"` // null if no answer came
	}
	deniedLine struct {
		ToolUseID string `json:"tool_use_id"`
	}
	lifecycleLine struct {
		ID    string `json:"command_uuid"`
		State string `json:"state"` // queued, started, completed, cancelled
	}
	streamLine struct {
		Parent string `json:"parent_tool_use_id"`
		Event  struct {
			Type  string `json:"type"`
			Index int    `json:"index"`
			Block struct {
				Type string `json:"type"`
			} `json:"content_block"`
			Delta struct {
				Type string `json:"type"`
				Text string `json:"text"`
			} `json:"delta"`
		} `json:"event"`
	}
	assistantLine struct {
		Parent   string  `json:"parent_tool_use_id"`
		Error    string  `json:"error"`
		APIError bool    `json:"is_api_error_message"`
		Message  message `json:"message"`
	}
	userLine struct {
		Parent  string  `json:"parent_tool_use_id"`
		Message message `json:"message"`
		Meta    []struct {
			ID           string `json:"id"`
			NonExecution string `json:"non_execution_kind"`
		} `json:"tool_result_meta"`
	}
	// askLine is a question of the CLI; only can_use_tool is one that can be allowed.
	askLine struct {
		ID      string `json:"request_id"`
		Request struct {
			Subtype   string          `json:"subtype"`
			Tool      string          `json:"tool_name"`
			Input     json.RawMessage `json:"input"`
			ToolUseID string          `json:"tool_use_id"`
		} `json:"request"`
	}
	withdrawLine struct {
		ID string `json:"request_id"`
	}
	responseLine struct {
		Response struct {
			ID       string          `json:"request_id"`
			Subtype  string          `json:"subtype"`
			Error    string          `json:"error"`
			Response json.RawMessage `json:"response"`
		} `json:"response"`
	}
	resultLine struct {
		Subtype        string   `json:"subtype"` // success does not mean success: see IsError
		IsError        bool     `json:"is_error"`
		TerminalReason string   `json:"terminal_reason"`
		Result         string   `json:"result"`
		Errors         []string `json:"errors"`
		APIErrorStatus int      `json:"api_error_status"`
		Steps          int      `json:"num_turns"`
		Usage          map[string]struct {
			USD float64 `json:"costUSD"`
		} `json:"model_usage_since_last_result"`
	}
)

type message struct {
	Model   string  `json:"model"`
	Content content `json:"content"`
}

type block struct {
	Type      string          `json:"type"`
	Text      string          `json:"text"`
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Input     json.RawMessage `json:"input"`
	ToolUseID string          `json:"tool_use_id"`
	Content   content         `json:"content"`
	IsError   bool            `json:"is_error"`
}

// content is a list of blocks, or a bare string that stands for one text block.
type content []block

func (c *content) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var text string
		err := json.Unmarshal(data, &text)
		*c = content{{Type: "text", Text: text}}
		return err
	}
	var blocks []block
	if err := json.Unmarshal(data, &blocks); err != nil {
		return err
	}
	*c = blocks
	return nil
}

// text is what the blocks say, cleaned for a person.
func (c content) text() string {
	var parts []string
	for _, b := range c {
		switch b.Type {
		case "text":
			parts = append(parts, clean(b.Text))
		case "image":
			parts = append(parts, "[image]")
		}
	}
	return strings.Join(parts, "\n")
}

// decode reads one line. It returns nil for what it does not know, and an error for what is not JSON or has another shape
// than it should. A question is returned even with an error, as far as it could be read, since it must be answered.
func decode(line []byte) (any, error) {
	var head struct {
		Type    string `json:"type"`
		Subtype string `json:"subtype"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, err
	}
	var m any
	switch head.Type + "/" + head.Subtype {
	case "system/init":
		m = new(initLine)
	case "system/status":
		m = new(statusLine)
	case "system/api_retry":
		m = new(retryLine)
	case "system/permission_denied":
		m = new(deniedLine)
	case "command_lifecycle/":
		m = new(lifecycleLine)
	case "stream_event/":
		m = new(streamLine)
	case "assistant/":
		m = new(assistantLine)
	case "user/":
		m = new(userLine)
	case "control_request/":
		m = new(askLine)
	case "control_cancel_request/":
		m = new(withdrawLine)
	case "control_response/":
		m = new(responseLine)
	default:
		if head.Type != "result" {
			return nil, nil
		}
		m = new(resultLine)
	}
	if err := json.Unmarshal(line, m); err != nil {
		switch m.(type) {
		case *askLine, *resultLine: // the fields before the odd one are there
			return m, err
		}
		return nil, err
	}
	return m, nil
}

var (
	// CSI and OSC sequences, then any other two-byte escape.
	escapes = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x1b[ -/]*[0-~]?")
	returns = strings.NewReplacer("\r\n", "\n", "\r", "\n")
)

// clean makes text fit for a chat: valid UTF-8 without terminal control, NUL or other control characters.
func clean(text string) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, control) < 0 {
		return text
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = returns.Replace(escapes.ReplaceAllString(text, ""))
	return strings.Map(func(r rune) rune {
		if control(r) {
			return -1
		}
		return r
	}, text)
}

func control(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0
}

// What the bot says to the CLI.
func sayUser(id, text string) any {
	return map[string]any{"type": "user", "uuid": id, "message": map[string]any{"role": "user", "content": text}}
}

func sayControl(id, subtype string, more map[string]any) any {
	request := map[string]any{"subtype": subtype}
	maps.Copy(request, more)
	return map[string]any{"type": "control_request", "request_id": id, "request": request}
}

func sayAllow(id string, input json.RawMessage) any {
	return sayAnswer(id, map[string]any{"behavior": "allow", "updatedInput": input})
}

func sayDeny(id, why string) any {
	return sayAnswer(id, map[string]any{"behavior": "deny", "message": why})
}

func sayAnswer(id string, answer any) any {
	return map[string]any{"type": "control_response", "response": map[string]any{
		"subtype": "success", "request_id": id, "response": answer,
	}}
}
