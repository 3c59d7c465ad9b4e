package slack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
)

// lean is a transport that keeps of Slack's answers only what the sender reads. slack-go decodes every block that an answer
// repeats, our own and other people's, and one that it does not understand makes the whole answer an error (measured: a
// post that stands would be a post that failed).
type lean struct{ http.RoundTripper }

// RoundTrip is one call.
func (l lean) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	method := path.Base(req.URL.Path)
	switch method {
	case "chat.postMessage", "chat.update", "chat.postEphemeral", "views.publish", "conversations.replies", "conversations.history":
	default:
		return resp, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	_ = resp.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	body = slim(body)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}

// slim is an answer without what we said, and with the messages of others reduced to what they are known by. What is no
// JSON stays as it is.
func slim(body []byte) []byte {
	var answer map[string]json.RawMessage
	if json.Unmarshal(body, &answer) != nil {
		return body
	}
	delete(answer, "message")
	delete(answer, "view")
	var messages []struct {
		TS       json.RawMessage `json:"ts"`
		BotID    json.RawMessage `json:"bot_id,omitempty"`
		Metadata json.RawMessage `json:"metadata,omitempty"`
		Files    []struct {
			ID json.RawMessage `json:"id"`
		} `json:"files,omitempty"`
	}
	if answer["messages"] != nil && json.Unmarshal(answer["messages"], &messages) == nil {
		answer["messages"], _ = json.Marshal(messages) // it came from JSON
	}
	less, err := json.Marshal(answer)
	if err != nil {
		return body
	}
	return less
}
