package anthropictest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// reply writes a, faults included. A panic with http.ErrAbortHandler is how net/http is told to drop a connection.
func reply(w http.ResponseWriter, r *http.Request, req Request, a Answer, id int) {
	if !pause(r.Context(), a.Wait) {
		return
	}
	w.Header().Set("request-id", fmt.Sprintf("req_test_%d", id))
	if a.RetryAfter != "" {
		w.Header().Set("retry-after", a.RetryAfter)
	}
	for name, value := range a.Headers {
		w.Header().Set(name, value)
	}
	switch {
	case a.Status != 0:
		kind := cmp.Or(a.ErrorType, errorType(a.Status))
		writeJSON(w, a.Status, apiError(kind, cmp.Or(a.ErrorText, http.StatusText(a.Status), kind)))
	case a.Fault == Hang:
		<-r.Context().Done()
	case a.Fault == Drop:
		panic(http.ErrAbortHandler)
	case a.Fault == HTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><body><h1>Sign in to this network</h1></body></html>")
	case a.Fault == BadJSON && !req.Stream:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"type":"message","content":[{"type":`)
	case !req.Stream:
		if a.Fault == Stall || a.Fault == Cut || a.Fault == NoStop || a.Fault == SSEError {
			panic(http.ErrAbortHandler)
		}
		writeJSON(w, http.StatusOK, whole(req, a, id))
	default:
		w.Header().Set("Content-Type", "text/event-stream")
		s := &stream{ctx: r.Context(), w: w, pace: a.Pace, fault: a.Fault}
		s.answer(req, a, id)
	}
}

// pause waits for d; false means that the client left first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func apiError(kind, text string) any {
	return map[string]any{"type": "error", "error": map[string]string{"type": kind, "message": text}}
}

func errorType(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "invalid_request_error"
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusPaymentRequired:
		return "billing_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case 529:
		return "overloaded_error"
	default:
		return "api_error"
	}
}

// blocks is what a says as content blocks, in the order in which a model gives them.
func blocks(a Answer, id int) []map[string]any {
	var out []map[string]any
	if a.Think != "" {
		out = append(out, map[string]any{"type": "thinking", "thinking": a.Think, "signature": "c2lnbmVk"})
	}
	uses := make([]ToolUse, 0, len(a.Bash)+len(a.Tools))
	for _, command := range a.Bash {
		uses = append(uses, ToolUse{Name: "Bash", Input: map[string]any{"command": command, "description": "run a test command"}})
	}
	uses = append(uses, a.Tools...)
	if a.Text != "" || len(uses) == 0 {
		out = append(out, map[string]any{"type": "text", "text": a.Text})
	}
	for i, u := range uses {
		out = append(out, map[string]any{
			"type": "tool_use", "id": fmt.Sprintf("toolu_test_%d_%d", id, i), "name": u.Name, "input": u.Input,
		})
	}
	return out
}

func stopReason(a Answer) string {
	if a.StopReason == "" && len(a.Bash)+len(a.Tools) > 0 {
		return "tool_use"
	}
	return cmp.Or(a.StopReason, "end_turn")
}

func message(req Request, a Answer, id, out int) map[string]any {
	return map[string]any{
		"id": fmt.Sprintf("msg_test_%d", id), "type": "message", "role": "assistant", "model": req.Model,
		"content": []any{}, "stop_reason": nil, "stop_sequence": nil,
		"usage": map[string]int{
			"input_tokens": cmp.Or(a.InTokens, 100), "output_tokens": out,
			"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
		},
	}
}

// whole is the answer to a request without stream.
func whole(req Request, a Answer, id int) map[string]any {
	m := message(req, a, id, cmp.Or(a.OutTokens, 10))
	m["content"], m["stop_reason"] = blocks(a, id), stopReason(a)
	return m
}
