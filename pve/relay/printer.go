package relay

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"bgbot/pve"

	"golang.org/x/crypto/ssh"
)

const (
	maxQueue = 256 << 10 // of steps that the client has not read yet
	maxText  = 24_000    // bytes of one file that are printed: above 30,000 characters the CLI shows its model a preview only
)

// printer sends text to the client. A handler is never made to wait: what the client does not read is queued, and above
// maxQueue left out.
type printer struct {
	ch ssh.Channel
	wg sync.WaitGroup

	mu     sync.Mutex // guards what follows
	more   sync.Cond
	queue  []chunk
	size   int
	closed bool
}

type chunk struct {
	to   io.Writer
	text string
}

func newPrinter(ch ssh.Channel) *printer {
	p := &printer{ch: ch}
	p.more.L = &p.mu
	p.wg.Go(p.send)
	return p
}

func (p *printer) send() {
	var gone bool
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && !p.closed {
			p.more.Wait()
		}
		queue := p.queue
		p.queue, p.size = nil, 0
		p.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, c := range queue {
			if !gone {
				_, err := io.WriteString(c.to, c.text)
				gone = err != nil // the client has left; the rest is for nobody
			}
		}
	}
}

// close sends what is queued, or gives up when the link ends.
func (p *printer) close() {
	p.mu.Lock()
	p.closed = true
	p.more.Signal()
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *printer) put(to io.Writer, text string) {
	if text == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return // a handler's straggler
	}
	p.queue = append(p.queue, chunk{to, text})
	p.size += len(text)
	p.more.Signal()
}

// step prints a step as one line, or leaves it out if the client has stopped reading.
func (p *printer) step(s pve.Step) {
	p.mu.Lock()
	full := p.size > maxQueue
	p.mu.Unlock()
	if !full {
		p.put(p.ch, stepLine(s))
	}
}

// report prints the result first: the agent may be shown only the beginning of a long output.
func (p *printer) report(r pve.Report) {
	p.put(p.ch, line(r.Result.Text))
	for _, note := range r.Notes {
		p.put(p.ch, line(note))
	}
	for _, f := range r.Files {
		p.put(p.ch, fileText(f))
	}
}

// fail prints err on stderr, in the words that are meant for people if it has any.
func (p *printer) fail(err error) {
	type userError interface {
		error
		UserMessage() string
	}
	text := "That failed inside the bot; its log says why."
	if u, ok := errors.AsType[userError](err); ok {
		text = u.UserMessage()
	}
	p.put(p.ch.Stderr(), line(text))
}

// stepLine is "ok    stop: the old QEMU is gone".
func stepLine(s pve.Step) string {
	text := fmt.Sprintf("%-5s %s", s.State, s.Step)
	if s.Text != "" {
		text += ": " + s.Text
	}
	if s.Name != "" {
		text += " (" + s.Name + ")"
	}
	return line(text)
}

// fileText is a text file as it is, up to maxText, and of any other file its name.
func fileText(f pve.File) string {
	if !strings.HasPrefix(f.Type, "text/") && !strings.HasSuffix(f.Name, ".txt") {
		return line(fmt.Sprintf("--- %s: %s, %d bytes, not shown here ---", f.Name, f.Type, len(f.Data)))
	}
	data, end := f.Data, "end of "+f.Name
	if len(data) > maxText {
		data = data[:maxText]
		end = fmt.Sprintf("%s is cut here: %d of %d bytes", f.Name, maxText, len(f.Data))
	}
	return line("--- "+f.Name+" ---") + line(string(data)) + line("--- "+end+" ---")
}

// line makes text fit to print: valid UTF-8 that steers no terminal, and exactly one line end behind it.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if text = strings.TrimRight(text, "\n"); text == "" {
		return ""
	}
	return text + "\n"
}
