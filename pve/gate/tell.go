package gate

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"bgbot/pve"
)

// maxFile keeps an attachment, as base64 on one line, below the client's limit of 1 MiB a line.
const maxFile = 700 << 10

// teller says what happens, and never waits for the listener while a change runs: the lines wait in a queue, and when
// it is full or broken the rest is dropped. sshd keeps a black-holed client for as long as TCP does, and a full pipe
// must not stop a cycle between stop and start.
type teller struct {
	jsonl  bool
	op     string
	out    io.Writer
	people io.Writer // stderr
	queue  chan chunk
	done   chan struct{}
}

type chunk struct {
	to   io.Writer
	data []byte
}

// newTeller begins with the op id, so that a client whose connection drops can ask for it.
func newTeller(format, op string, stdout, stderr io.Writer) *teller {
	t := &teller{
		jsonl: format == "jsonl", op: op, out: stdout, people: stderr,
		queue: make(chan chunk, 256), done: make(chan struct{}),
	}
	go t.drain()
	t.step("op", pve.StepOK, op)
	return t
}

func (t *teller) drain() {
	defer close(t.done)
	gone := false
	for c := range t.queue {
		if !gone {
			_, err := c.to.Write(c.data)
			gone = err != nil
		}
	}
}

// close waits for the listener to take the rest, but not for ever: evidence takes a while to get through a thin line.
func (t *teller) close(left time.Duration) {
	close(t.queue)
	select {
	case <-t.done:
	case <-time.After(left):
	}
}

func (t *teller) put(to io.Writer, data []byte) {
	select {
	case t.queue <- chunk{to, data}:
	default:
	}
}

func (t *teller) step(name string, state pve.State, text string) {
	t.line(pve.Step{At: time.Now().UTC(), Op: t.op, Step: name, State: state, Text: text})
}

// file hands over evidence. In the text format a change only names it; it is kept on the host.
func (t *teller) file(step string, f pve.File) {
	switch {
	case len(f.Data) <= maxFile:
	case strings.HasPrefix(f.Type, "text/"):
		f.Data = append(f.Data[:maxFile:maxFile], "\n[cut here]\n"...)
	default: // half a picture is none
		t.step(step, pve.StepFail, fmt.Sprintf("%s has %d kB and is too large to send", f.Name, len(f.Data)>>10))
		return
	}
	t.line(pve.Step{
		At: time.Now().UTC(), Op: t.op, Step: step, State: pve.StepOK, Text: f.Name,
		Name: f.Name, Type: f.Type, Data: f.Data,
	})
}

func (t *teller) line(s pve.Step) {
	if t.jsonl {
		t.json(s)
		return
	}
	text := fmt.Sprintf("%s %-9s %-5s %s\n", s.At.Format(time.TimeOnly), s.Step, s.State, s.Text)
	t.put(t.people, []byte(text))
}

func (t *teller) result(r pve.Result) {
	if t.jsonl {
		t.json(map[string]pve.Result{"result": r})
		return
	}
	to := t.people
	if r.Exit == pve.Done {
		to = t.out
	}
	t.put(to, []byte(strings.TrimSpace(r.Text)+"\n"))
}

func (t *teller) json(v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of ours; nothing in them can fail
	}
	t.put(t.out, append(data, '\n'))
}
