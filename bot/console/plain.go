package console

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/cancelreader"
	"golang.org/x/term"

	"bgbot/bot"
)

// shown is what plain lines have said of a message, so that an edit says only what is new.
type shown struct {
	lines   []string
	done    map[string]int // how often each line of something finished was there at once
	files   int
	buttons string
	at      time.Time // when lines that tick were last printed
}

const (
	indent = "         "     // as wide as the marks of [Console.mark]
	ticks  = 5 * time.Second // a line that only counts is repeated no faster than this
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
	lines := e.plain()
	b.WriteString(mark(e.from, "▸") + c.elsewhere(th) + lines[0] + "\n")
	for _, line := range lines[1:] {
		b.WriteString(strings.TrimRight(indent+line, " ") + "\n")
	}
	e.shown.said(lines)
	e.shown.at = c.opt.Now()
	c.writeExtras(&b, e)
	return c.write(b.String())
}

// printEdit prints the lines of a message that were not there before. The caller holds c.mu.
func (c *Console) printEdit(th *thread, e *entry) error {
	var b strings.Builder
	now := c.opt.Now()
	due := !e.ticks() || now.Sub(e.shown.at) >= ticks
	news, shown := changes(e.shown.lines, e.plain(), e.shown.done, due)
	for _, line := range news {
		b.WriteString(mark(e.from, "~") + c.elsewhere(th) + line + "\n")
	}
	if e.shown.said(shown); due {
		e.shown.at = now
	}
	c.writeExtras(&b, e)
	return c.write(b.String())
}

// said notes what the reader knows now. What is finished stays known when it is folded away and comes back.
func (s *shown) said(lines []string) {
	s.lines = lines
	if s.done == nil {
		s.done = map[string]int{}
	}
	for line, n := range counted(lines) {
		if strings.HasPrefix(line, "✓ ") || strings.HasPrefix(line, "✗ ") || strings.HasPrefix(line, "– ") {
			s.done[line] = max(s.done[line], n)
		}
	}
}

func counted(lines []string) map[string]int {
	n := map[string]int{}
	for _, line := range lines {
		n[line]++
	}
	return n
}

// changes are the lines of now that neither old nor done has, and the lines that are known to the reader then. A line that
// differs from an old one only in its digits ticks, and one that goes on where an old one ended grows: it is left out, and
// still owed, until it is due.
func changes(old, now []string, done map[string]int, due bool) (news, known []string) {
	same := counted(old)
	for line, n := range done {
		same[line] = max(same[line], n)
	}
	ticking, growing := map[string][]string{}, []string(nil)
	for _, line := range old {
		if !slices.Contains(now, line) {
			ticking[countless(line)] = append(ticking[countless(line)], line)
			growing = append(growing, line)
		}
	}
	for _, line := range now {
		was := ticking[countless(line)]
		switch {
		case same[line] > 0:
			same[line]--
		case line == "":
		case len(was) > 0 && !due:
			ticking[countless(line)] = was[1:]
			line = was[0]
		case !due && grows(growing, line) >= 0:
			i := grows(growing, line)
			line = growing[i]
			growing = slices.Delete(growing, i, i+1)
		default:
			news = append(news, line)
		}
		known = append(known, line)
	}
	return news, known
}

// grows is the index of the line of old, if any, that line is the longer form of: the bot is in the middle of a sentence.
func grows(old []string, line string) int {
	return slices.IndexFunc(old, func(was string) bool { return was != "" && strings.HasPrefix(line, was) })
}

// plain is the text without the backslashes that CommonMark wants, so that it can be searched.
func (e *entry) plain() []string {
	lines := strings.Split(e.text, "\n")
	if e.from == theBot || e.from == hello {
		lines = strings.Split(unshield(shield(e.text)), "\n")
	}
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// elsewhere names the thread, unless the person looks at it.
func (c *Console) elsewhere(th *thread) string {
	if th == c.talk.here() || th.id == "" {
		return ""
	}
	return fmt.Sprintf("(thread %d) ", th.number)
}

// numbered is a choice that plain lines have shown. Its number is its own for the whole run: a "1" that was meant for Stop
// must not confirm the card that came in between.
type numbered struct{ card, choice string }

// number is how plain lines call a choice.
func (c *Console) number(e *entry, ch bot.Choice) int {
	want := numbered{e.id, ch.ID}
	n := slices.Index(c.buttons, want)
	if n < 0 {
		if len(c.buttons) >= maxButtons {
			c.buttons = slices.Delete(c.buttons, 0, maxButtons/10)
			c.retired += maxButtons / 10
		}
		n = len(c.buttons)
		c.buttons = append(c.buttons, want)
	}
	return c.retired + n + 1
}

// writeExtras adds the buttons, if they are others than before, and files that were not named yet.
func (c *Console) writeExtras(b *strings.Builder, e *entry) {
	var labels []string
	for _, ch := range e.choices {
		labels = append(labels, fmt.Sprintf("[%d] %s", c.number(e, ch), ch.Label))
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
	if f, ok := c.opt.Out.(device); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil { // a pipe or a file has none: what reads it wants whole lines
			s = folded(s, width)
		}
	}
	if _, err := io.WriteString(c.opt.Out, s); err != nil {
		return &bot.Fatal{Reason: fmt.Sprintf("The terminal cannot be written any more: %v.", err)}
	}
	return nil
}

// folded breaks lines that are wider than the terminal between words, as the terminal itself would do it within them. What
// follows stands under the text, while there is room for that.
func folded(s string, width int) string {
	room := width - len(indent)
	if room < len(indent) {
		return s
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		if text := strings.TrimRight(line, "\n"); lipgloss.Width(text) > width {
			head := ansi.Cut(text, 0, len(indent))
			line = head + strings.Join(spaced(text[len(head):], room), "\n"+indent) + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// spaced breaks a line at spaces alone: a command that is broken at its hyphens cannot be read. A word that is longer than
// a line is broken as well.
func spaced(text string, width int) (lines []string) {
	line := ""
	for i, word := range strings.Split(text, " ") {
		switch {
		case i == 0:
			line = word
		case lipgloss.Width(line)+1+lipgloss.Width(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
		parts := strings.Split(ansi.Hardwrap(line, width, true), "\n")
		lines, line = append(lines, parts[:len(parts)-1]...), parts[len(parts)-1]
	}
	return append(lines, line)
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
