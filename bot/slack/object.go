package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// object is a JSON object exactly as Slack sent it. What decides who acts is read from it, not from slack-go's types:
// those drop fields that matter (a top-level app_id, context_team_id; measured with v0.35.0), and encoding/json would let
// "USER" stand in for "user". A field of another kind than expected counts as set, but as no value that anything equals.
type object map[string]json.RawMessage

// objectFrom reads an object; anything else is an error.
func objectFrom(raw []byte) (object, error) {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("no JSON object: %w", err)
	}
	if o == nil {
		return nil, errors.New("no JSON object, but null")
	}
	return o, nil
}

// text is a field that is a string, "" otherwise.
func (o object) text(key string) string {
	var s string
	if json.Unmarshal(o[key], &s) != nil {
		return ""
	}
	return s
}

// set says that a field has a value: Slack writes null, "" and false for "none", and may leave the field out.
func (o object) set(key string) bool {
	switch string(o[key]) {
	case "", "null", `""`, "false", "0", "[]", "{}":
		return false
	default:
		return true
	}
}

// wrong says that a field has a value that is no string.
func (o object) wrong(key string) bool {
	var s *string
	return o[key] != nil && json.Unmarshal(o[key], &s) != nil
}

// other says that a field has a value, and another one than want.
func (o object) other(key, want string) bool { return o.set(key) && o.text(key) != want }

// yes says that a field is the JSON value true.
func (o object) yes(key string) bool { return string(o[key]) == "true" }

// in is the object in a field, empty if there is none.
func (o object) in(key string) object {
	inner, err := objectFrom(o[key])
	if err != nil {
		return nil
	}
	return inner
}

// list is the array in a field, empty if there is none.
func (o object) list(key string) []json.RawMessage {
	var l []json.RawMessage
	if json.Unmarshal(o[key], &l) != nil {
		return nil
	}
	return l
}

var (
	stampPattern = regexp.MustCompile(`^([0-9]{9,11})\.([0-9]{6})$`)
	userPattern  = regexp.MustCompile(`^[UW][A-Z0-9]{2,30}$`)
)

// moment is the time in one of Slack's timestamps, which are also the ids of messages.
func moment(ts string) (at time.Time, ok bool) {
	m := stampPattern.FindStringSubmatch(ts)
	if m == nil {
		return time.Time{}, false
	}
	seconds, _ := strconv.ParseInt(m[1], 10, 64)
	micros, _ := strconv.ParseInt(m[2], 10, 64)
	return time.Unix(seconds, micros*1000), true
}

// stamp is a time as one of Slack's timestamps.
func stamp(t time.Time) string { return fmt.Sprintf("%d.%06d", t.Unix(), t.Nanosecond()/1000) }
