package slack

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// Whatever a frame looks like, the id of its envelope is found: without it there is no acknowledgement, and without that
// Slack sends the envelope again and again.
func TestFrameIDs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		frame, id string
		broken    bool
	}{
		"an event":             {`{"envelope_id":"e1","type":"events_api","payload":{"a":1}}`, "e1", false},
		"a mistyped attempt":   {`{"envelope_id":"e1","retry_attempt":"one","type":"events_api","payload":{}}`, "e1", false},
		"a payload of no kind": {`{"envelope_id":"e1","type":"events_api","payload":7}`, "e1", false},
		"cut short":            {`{"envelope_id": "e1","type":"events_api","payload":{"te`, "e1", true},
		"a list":               {`[{"envelope_id":"e1"}]`, "e1", true},
		"no type":              {`{"envelope_id":"e1"}`, "e1", false},
		"an id that is none":   {`{"envelope_id":5,"type":"events_api"}`, "", true},
		"no envelope":          {`{"type":"hello","num_connections":1}`, "", false},
		"garbage":              {`bang`, "", true},
		"nothing":              {``, "", true},
	} {
		f, err := parseFrame([]byte(tc.frame))
		if f.EnvelopeID != tc.id || (err != nil) != tc.broken {
			t.Errorf("%s: got id %q, error %v; want id %q, broken %v", name, f.EnvelopeID, err, tc.id, tc.broken)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte(`{"envelope_id":"e1","type":"events_api","payload":{"a":1},"retry_attempt":1}`))
	f.Add([]byte(`{"type":"hello","num_connections":1,"debug_info":{"approximate_connection_time":3600}}`))
	f.Add([]byte(`{"envelope_id":"e","type":`))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := parseFrame(data)
		if err == nil && !json.Valid(data) {
			t.Errorf("%q is no JSON and was read as %+v", data, frame)
		}
		if frame.EnvelopeID == "" {
			return
		}
		ack, err := envelope{ID: frame.EnvelopeID}.ack(nil)
		if err != nil || !json.Valid(ack) {
			t.Errorf("%q is acknowledged with %q: %v", data, ack, err)
		}
	})
}

func TestAcknowledgement(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		accepts      bool
		answer, want string
		left         bool
	}{
		"bare":                 {true, ``, `{"envelope_id":"e1"}`, false},
		"with an answer":       {true, `{"text":"hi"}`, `{"envelope_id":"e1","payload":{"text":"hi"}}`, false},
		"answer not wanted":    {false, `{"text":"hi"}`, `{"envelope_id":"e1"}`, true},
		"answer that is none":  {true, `{"text":`, `{"envelope_id":"e1"}`, true},
		"answer that is large": {true, `{"text":"` + strings.Repeat("x", maxAck) + `"}`, `{"envelope_id":"e1"}`, true},
	} {
		got, err := envelope{ID: "e1", Type: "slash_commands", AcceptsPayload: tc.accepts}.ack([]byte(tc.answer))
		if string(got) != tc.want || errors.Is(err, errAnswer) != tc.left {
			t.Errorf("%s: got %s, error %v; want %s", name, got, err, tc.want)
		}
	}
	const around = `{"envelope_id":"e1","payload":""}`
	fits := []byte(`"` + strings.Repeat("x", maxAck-len(around)) + `"`)
	if got, err := (envelope{ID: "e1", AcceptsPayload: true}).ack(fits); err != nil || len(got) != maxAck || !bytes.Contains(got, fits) {
		t.Errorf("an answer that just fits: %d bytes, error %v", len(got), err)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := backoff{least: time.Second, most: 45 * time.Second}
	if d := b.pause(); d != 0 {
		t.Errorf("the first attempt waits for %s", d)
	}
	for n := range 12 {
		want := min(time.Second<<n, 45*time.Second)
		if d := b.pause(); d < want*2/3 || d > want*4/3 {
			t.Errorf("pause %d is %s, want about %s", n+1, d, want)
		}
	}
	b.ease(5 * time.Second)
	for range 3 {
		if d := b.pause(); d < 2*time.Second || d > 6*time.Second {
			t.Errorf("while Slack is away it waits for %s", d)
		}
		b.ease(5 * time.Second)
	}
	b.reset()
	if d := b.pause(); d != 0 {
		t.Errorf("after a healthy socket it waits for %s", d)
	}
	b.exhaust()
	if d := b.pause(); d < 30*time.Second {
		t.Errorf("told to slow down it waits for only %s", d)
	}
}
