package console

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/muesli/cancelreader"

	"bgbot/bot"
)

// shown is what plain lines have said of a message, so that an edit says only what is new.
type shown struct {
	lines   []string
	files   int
	buttons string
	at      time.Time // when the first line was last printed
}

const (
	indent = "         "     // as wide as the marks of [Console.mark]
	ticks  = 5 * time.Second // a first line that only counts is repeated no faster than this
)

func mark(from author, sign string) string {
	switch from {
	case theBot:
		return "bgbot  " + sign + " "
	case person:
		return "you    " + sign + " "
	default:
		return "note   " + sign + " "
	}
}

// printPost prints a message for the first time. The caller holds c.mu.
func (c *Console) printPost(th *thread, e *entry) error {
	var b strings.Builder
	lines := strings.Split(e.text, "\n")
	b.WriteString(mark(e.from, "▸"))
	if th != c.talk.here() && th.id != "" {
		fmt.Fprintf(&b, "(thread %d) ", c.talk.number(th))
	}
	b.WriteString(lines[0] + "\n")
	for _, line := range lines[1:] {
		b.WriteString(strings.TrimRight(indent+line, " ") + "\n")
	}
	e.shown.lines, e.shown.at = lines, c.opt.Now()
	writeExtras(&b, e)
	return c.write(b.String())
}

// printEdit prints the lines of a message that were not there before. The caller holds c.mu.
func (c *Console) printEdit(th *thread, e *entry) error {
	var b strings.Builder
	lines := strings.Split(e.text, "\n")
	old := map[string]int{}
	for _, line := range e.shown.lines {
		old[line]++
	}
	now := c.opt.Now()
	for i, line := range lines {
		switch {
		case old[line] > 0:
			old[line]--
			continue
		case strings.TrimSpace(line) == "":
			continue
		case i == 0 && len(e.shown.lines) > 0 && countless(line) == countless(e.shown.lines[0]) && now.Sub(e.shown.at) < ticks:
			lines[0] = e.shown.lines[0] // still owed
			continue
		case i == 0:
			e.shown.at = now
		}
		b.WriteString(mark(e.from, "~"))
		if th != c.talk.here() && th.id != "" {
			fmt.Fprintf(&b, "(thread %d) ", c.talk.number(th))
		}
		b.WriteString(line + "\n")
	}
	e.shown.lines = lines
	writeExtras(&b, e)
	return c.write(b.String())
}

// writeExtras adds the buttons, if they are others than before, and files that were not named yet.
func writeExtras(b *strings.Builder, e *entry) {
	var labels []string
	for i, ch := range e.choices {
		labels = append(labels, fmt.Sprintf("[%d] %s", i+1, ch.Label))
	}
	buttons := strings.Join(labels, "   ")
	if buttons != "" && buttons != e.shown.buttons {
		b.WriteString(indent + buttons + "\n")
	}
	e.shown.buttons = buttons
	for _, f := range e.files[e.shown.files:] {
		b.WriteString(indent + "file: " + f + "\n")
	}
	e.shown.files = len(e.files)
}

// countless is a line without what ticks in it.
func countless(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, line)
}

func (c *Console) write(s string) error {
	if _, err := io.WriteString(c.opt.Out, s); err != nil {
		return &bot.Fatal{Reason: fmt.Sprintf("The terminal cannot be written any more: %v.", err)}
	}
	return nil
}

// runPlain takes lines until In ends, and then waits until the bot has finished.
func (c *Console) runPlain(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	lines := make(chan string)
	in, interrupt := interruptible(c.opt.In)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer interrupt()
	defer stop()
	wg.Go(func() { readLines(ctx, in, lines) })

	c.mu.Lock()
	for _, e := range c.talk.here().entries {
		if e.shown.lines == nil {
			_ = c.printPost(c.talk.here(), e) // a closed Out is told by the next Post
		}
	}
	c.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case line, more := <-lines:
			if !more {
				return c.settle(ctx)
			}
			c.mu.Lock()
			leave := c.say(line, plainHelp)
			c.mu.Unlock()
			if leave {
				return nil
			}
		}
	}
}

// settle waits until no message offers to stop the bot, and nothing was said for a moment.
func (c *Console) settle(ctx context.Context) error {
	timer := time.NewTimer(c.quiet)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.wake:
		case <-timer.C:
			c.mu.Lock()
			busy := c.pending > 0 || c.talk.working()
			c.mu.Unlock()
			if !busy {
				return nil
			}
		}
		timer.Reset(c.quiet)
	}
}

// readLines sends the lines of in and closes the channel at its end.
func readLines(ctx context.Context, in io.Reader, lines chan<- string) {
	defer close(lines)
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			select {
			case lines <- line:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// interruptible returns a reader whose blocked Read ends when interrupt is called. A read of a terminal or a pipe cannot
// be cancelled otherwise: os.File has no deadline for a standard input that was opened by somebody else.
func interruptible(in io.Reader) (r io.Reader, interrupt func()) {
	cr, err := cancelreader.NewReader(in)
	if err != nil { // a regular file: a read of it does not block
		return in, func() {}
	}
	return cr, func() {
		if !cr.Cancel() {
			if closer, ok := in.(io.Closer); ok {
				_ = closer.Close()
			}
		}
	}
}
