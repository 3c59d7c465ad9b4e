package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// envelope is something that Slack delivered and wants acknowledged.
type envelope struct {
	ID             string // the same when Slack sends it again at once, perhaps another one later: no key for deduping alone
	Type           string // events_api, interactive or slash_commands
	Payload        json.RawMessage
	Attempt        int    // above 0: Slack has sent it before, perhaps while nobody was connected
	Reason         string // why it is sent again
	AcceptsPayload bool   // the acknowledgement may carry an answer
	Received       time.Time

	from *socket
}

// socketFrame is all that Slack says on a socket: an envelope, hello or disconnect.
type socketFrame struct {
	Type           string          `json:"type"`
	EnvelopeID     string          `json:"envelope_id"`
	Payload        json.RawMessage `json:"payload"`
	AcceptsPayload bool            `json:"accepts_response_payload"`
	RetryAttempt   int             `json:"retry_attempt"`
	RetryReason    string          `json:"retry_reason"`

	Reason         string `json:"reason"`          // of disconnect
	NumConnections int    `json:"num_connections"` // of hello
	DebugInfo      struct {
		ConnectionTime int `json:"approximate_connection_time"` // of hello, in seconds
	} `json:"debug_info"`
}

// envelopeKinds are the types of envelope that somebody here understands.
var envelopeKinds = map[string]bool{"events_api": true, "interactive": true, "slash_commands": true}

// envelopeID finds the id in a frame that is no JSON.
var envelopeID = regexp.MustCompile(`"envelope_id"\s*:\s*"([^"\\]{1,256})"`)

// parseFrame reads a frame. What can be told of a broken one, above all its envelope's id, is returned with the error: an
// envelope that nobody can read must be acknowledged too, or Slack sends it again and again.
func parseFrame(data []byte) (socketFrame, error) {
	var f socketFrame
	err := json.Unmarshal(data, &f)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && f.Type != "" && wrong.Field != "envelope_id" {
		err = nil // one field has another type than documented; all others are read
	}
	if err != nil && f.EnvelopeID == "" {
		if m := envelopeID.FindSubmatch(data); m != nil {
			f.EnvelopeID = string(m[1])
		}
	}
	return f, err
}

// maxAck is the longest frame that Slack reads; a longer one ends the connection (slack-go#1196).
const maxAck = 20_480

// errAnswer is an answer that cannot go with an acknowledgement. The acknowledgement itself can.
var errAnswer = errors.New("the answer was left out of the acknowledgement")

// ack is the frame that acknowledges an envelope. If the answer cannot go with it, the frame is returned without it,
// together with an error.
func (e envelope) ack(answer []byte) ([]byte, error) {
	type frame struct {
		EnvelopeID string          `json:"envelope_id"`
		Payload    json.RawMessage `json:"payload,omitempty"`
	}
	bare, err := json.Marshal(frame{EnvelopeID: e.ID})
	if err != nil || len(answer) == 0 {
		return bare, err
	}
	if !e.AcceptsPayload {
		return bare, fmt.Errorf("%w: a %s envelope takes none", errAnswer, e.Type)
	}
	full, err := json.Marshal(frame{EnvelopeID: e.ID, Payload: answer})
	if err != nil {
		return bare, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if len(full) > maxAck {
		return bare, fmt.Errorf("%w: it makes %d bytes, Slack takes %d", errAnswer, len(full), maxAck)
	}
	return full, nil
}
