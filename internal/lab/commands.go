package lab

import (
	"bufio"
	"encoding/json"
	"os"
	"time"
)

// Command is something that reached the VM or the host.
type Command struct {
	At    time.Time `json:"at"`
	Where string    `json:"where"` // devvm or pve
	Text  string    `json:"text"`
}

// record appends to the log that several processes write: one short write each, which the kernel does not mix.
func (s *state) record(where, text string) error {
	if len(text) > 4000 {
		text = text[:4000]
	}
	line, err := json.Marshal(Command{At: time.Now(), Where: where, Text: text})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.path("log", "commands.jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = f.Write(append(line, '\n'))
	return err
}

// Commands lists what has reached the VM and the host so far, oldest first. The lab's own checks are not among them.
func (l *Lab) Commands() []Command {
	f, err := os.Open(l.state.path("log", "commands.jsonl"))
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var all []Command
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var c Command
		if json.Unmarshal(lines.Bytes(), &c) == nil {
			all = append(all, c)
		}
	}
	return all
}
