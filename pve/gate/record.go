package gate

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/host"
)

// record is a change of the VM and where it got to. The newest one lies in the run folder, in the memory of the host;
// the journal on disk gets the same line after each step, and tells after a reboot.
type record struct {
	Op    string    `json:"op"`
	Verb  string    `json:"verb"`
	Key   string    `json:"key,omitempty"`
	From  string    `json:"from,omitempty"`
	Began time.Time `json:"began"`

	Step  string       `json:"step,omitempty"` // the newest step
	State pve.State    `json:"state,omitempty"`
	Since time.Time    `json:"since,omitzero"`
	After string       `json:"after,omitempty"` // the newest step that ended well
	Gate  host.Process `json:"gate,omitzero"`

	Ended time.Time `json:"ended,omitzero"`
	Exit  pve.Exit  `json:"exit"`
	Text  string    `json:"text,omitempty"`

	cut bool // it was begun, has not ended, and nobody is at it any more
}

// mint makes an op id: short enough to type on a phone, and new together with its time.
func mint() string {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

func (r *record) note(step string, state pve.State, at time.Time) {
	r.Step, r.State, r.Since = step, state, at
	if state == pve.StepOK {
		r.After = step
	}
}

// words tell the change to a person, and what to do when it was cut off.
func (r record) words(now time.Time) string {
	who := r.Verb
	if r.Key != "" {
		who += " by key " + r.Key // a name alone reads as if it had been somebody's own idea
	}
	switch {
	case r.Op == "":
		return ""
	case !r.Ended.IsZero():
		text := fmt.Sprintf("%s, op %s, %s %s ago", who, r.Op, r.Exit, span(now.Sub(r.Ended)))
		if r.Exit != pve.Done && r.Text != "" {
			text += ": " + r.Text
		}
		return text
	case r.cut:
		return fmt.Sprintf("%s, op %s was interrupted after `%s`, %s ago; %s", who, r.Op, r.After, span(now.Sub(r.Since)), r.mend())
	}
	return fmt.Sprintf("%s, op %s is running: `%s` since %s", who, r.Op, r.Step, span(now.Sub(r.Since)))
}

// mend says how to go on after an interrupted change.
func (r record) mend() string {
	switch {
	case r.Verb == string(pve.Reset):
		return "it may or may not have been reset; say reset again if it is still dead"
	case r.Verb == string(pve.Stop):
		return "say stop to finish it"
	case slices.Contains([]string{"start", "process", "qmp", "writes", "ssh", "agent"}, r.After):
		return "qm start had come back, so look whether the VM is up"
	case r.After == "stopped" || r.Verb == string(pve.Start):
		return "say start to finish it"
	}
	return fmt.Sprintf("say %s to begin again", r.Verb)
}

func saveRecord(s settings, r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replace(s.runFile("op"), line)
}

// loadRecord finds the newest change; none is the zero record.
func loadRecord(s settings) record {
	r := readRecord(s)
	if r.interrupted() { // or it ended between the reading and the look at its gate; then the record says so by now
		r = readRecord(s)
		r.cut = r.interrupted()
	}
	return r
}

// interrupted is true only of a record that was read when its gate lived no more.
func (r record) interrupted() bool { return r.Op != "" && r.Ended.IsZero() && !r.Gate.Lives() }

// readRecord reads it in the run folder, or else in the journal.
func readRecord(s settings) record {
	var r record
	line, err := os.ReadFile(s.runFile("op"))
	if err == nil && json.Unmarshal(line, &r) == nil {
		return r
	}
	text, err := host.Within(diskLimit, func() ([]byte, error) { return os.ReadFile(s.journalFile()) })
	if err != nil {
		return record{}
	}
	for line := range bytes.Lines(text) {
		var one record
		if json.Unmarshal(line, &one) == nil && one.Op != "" {
			r = one
		}
	}
	return r
}

// replace writes a file of the run folder so that a reader sees the old or the new one, never a half.
func replace(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
