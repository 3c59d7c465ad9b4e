package anthropictest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// stream writes server-sent events until it is through, the client leaves, or the fault strikes.
type stream struct {
	ctx    context.Context
	w      http.ResponseWriter
	pace   time.Duration
	fault  Fault
	deltas int
	over   bool // write nothing more
}

func (s *stream) answer(req Request, a Answer, id int) {
	s.event("message_start", map[string]any{"message": message(req, a, id, 1)})
	s.event("ping", map[string]any{})
	for i, b := range blocks(a, id) {
		s.block(i, b)
	}
	s.event("message_delta", map[string]any{
		"delta": map[string]any{"stop_reason": stopReason(a), "stop_sequence": nil},
		"usage": map[string]int{"output_tokens": cmp.Or(a.OutTokens, 10)},
	})
	if s.fault == NoStop {
		return
	}
	s.event("message_stop", map[string]any{})
}

func (s *stream) block(i int, b map[string]any) {
	start := map[string]any{"type": b["type"]}
	var deltas []map[string]any
	switch b["type"] {
	case "thinking":
		start["thinking"], start["signature"] = "", ""
		deltas = append(pieces(b["thinking"], "thinking_delta", "thinking", 12),
			map[string]any{"type": "signature_delta", "signature": b["signature"]})
	case "tool_use":
		start["id"], start["name"], start["input"] = b["id"], b["name"], map[string]any{}
		input, _ := json.Marshal(b["input"]) // maps of plain values
		deltas = pieces(string(input), "input_json_delta", "partial_json", max(1, len(input)/2+1))
	default:
		start["text"] = ""
		text, _ := b["text"].(string)
		deltas = pieces(text, "text_delta", "text", max(8, len(text)/200))
	}
	s.event("content_block_start", map[string]any{"index": i, "content_block": start})
	for n, d := range deltas {
		if n > 0 && b["type"] == "text" && !pause(s.ctx, s.pace) {
			s.over = true
		}
		s.event("content_block_delta", map[string]any{"index": i, "delta": d})
		s.deltas++
		s.strike()
	}
	s.event("content_block_stop", map[string]any{"index": i})
}

// strike does what the fault asks for, once the first delta is out.
func (s *stream) strike() {
	if s.deltas != 1 || s.over {
		return
	}
	switch s.fault {
	case Stall:
		<-s.ctx.Done()
		s.over = true
	case Cut:
		panic(http.ErrAbortHandler)
	case SSEError:
		s.event("error", map[string]any{"error": map[string]string{"type": "overloaded_error", "message": "Overloaded"}})
		s.over = true
	case BadJSON:
		s.write("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\n\n")
		s.over = true
	default:
	}
}

// pieces cuts text into deltas of size runes each, at least one.
func pieces(text any, kind, field string, size int) []map[string]any {
	said, _ := text.(string)
	runes := []rune(said)
	var out []map[string]any
	for at := 0; at == 0 || at < len(runes); at += size {
		out = append(out, map[string]any{"type": kind, field: string(runes[at:min(at+size, len(runes))])})
	}
	return out
}

func (s *stream) event(kind string, v map[string]any) {
	v["type"] = kind
	data, _ := json.Marshal(v) // maps of plain values
	s.write(fmt.Sprintf("event: %s\ndata: %s\n\n", kind, data))
}

func (s *stream) write(text string) {
	if s.over {
		return
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		s.over = true
		return
	}
	if f, ok := s.w.(http.Flusher); ok {
		f.Flush()
	}
}
