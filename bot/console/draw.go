package console

import (
	"fmt"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"

	"bgbot/bot"
)

// drawn is an entry as it was rendered last; it is good until the entry or the size changes.
type drawn struct {
	stale       bool
	width, rows int
	lines       []string
}

// row is one line of the transcript on the screen.
type row struct {
	text  string
	entry *entry
	line  int
	spots []spot
}

// spot is where a button stands in its row.
type spot struct {
	from, to int // columns, to excluded
	choice   int
}

// wide is from how many columns on there is room for names and times.
const wide = 72

var (
	faint  = lipgloss.NewStyle().Faint(true)
	bold   = lipgloss.NewStyle().Bold(true)
	mine   = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
	its    = lipgloss.NewStyle().Foreground(lipgloss.Green)
	button = lipgloss.NewStyle().Bold(true)
	urgent = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Yellow)
	danger = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red)
)

// rows are the lines of e with its buttons, and an empty line below.
func (s *screen) rows(e *entry) []row {
	if d := &e.drawn; d.stale || d.width != s.width || d.lines == nil || len(e.pictures) > 0 && d.rows != s.pictureRows() {
		*d = drawn{width: s.width, rows: s.pictureRows(), lines: s.body(e)}
	}
	rows := make([]row, 0, len(e.drawn.lines)+3)
	for i, line := range e.drawn.lines {
		rows = append(rows, row{text: line, entry: e, line: i})
	}
	for _, r := range s.buttons(e) {
		r.line = len(rows)
		rows = append(rows, r)
	}
	return append(rows, row{entry: e, line: len(rows)})
}

// body renders text and files of e beside its gutter.
func (s *screen) body(e *entry) []string {
	first, rest := s.gutter(e.from)
	width := max(s.width-lipgloss.Width(rest), 1)
	var lines []string
	switch e.from {
	case theBot, hello:
		lines = s.md.lines(e.text, width)
	default:
		lines = wrapped(e.text, width)
	}
	for _, f := range e.files {
		lines = append(lines, wrapped("file: "+f, width)...)
	}
	if rows := s.pictureRows(); rows >= 6 && width >= 16 {
		for _, p := range e.pictures {
			lines = append(lines, p.lines(width, rows)...)
		}
	}
	for i, line := range lines {
		switch e.from {
		case theBot, hello:
		case note:
			line = faint.Render(line)
		case alert:
			line = urgent.Render(line)
		case person:
			line = mine.Render(line)
		}
		lines[i] = rest + line
		if i == 0 {
			lines[i] = s.timed(first+line, e)
		}
	}
	return lines
}

// pictureRows leaves room on the screen for the message that brought the picture.
func (s *screen) pictureRows() int { return min(pictureRows, s.full.Height*2/3-4) }

// timed puts the time of e to the right end of its first line, if there is room.
func (s *screen) timed(line string, e *entry) string {
	at := e.at.Format("15:04")
	if room := s.width - lipgloss.Width(line) - len(at); s.width >= wide && room > 1 && !e.from.local() {
		return line + strings.Repeat(" ", room) + faint.Render(at)
	}
	return line
}

// gutter says whose line it is: by name where there is room, by a sign on a phone.
func (s *screen) gutter(from author) (first, rest string) {
	name, sign, look := "bgbot", "▎ ", its
	switch from {
	case person:
		name, sign, look = s.c.opt.Name, "› ", mine
	case note, hello:
		name, sign = "", "  "
	case alert:
		name, sign, look = "", "! ", urgent
	}
	if s.width < wide {
		if from == theBot {
			return look.Render(sign), look.Render(sign)
		}
		return look.Render(sign), "  "
	}
	column := max(5, min(lipgloss.Width(s.c.opt.Name), 12)) + 2
	name = cut(name, column-2)
	return look.Render(name) + strings.Repeat(" ", column-lipgloss.Width(name)), strings.Repeat(" ", column)
}

// buttons are the choices of e. Those of the newest message that has some carry the number that presses them.
func (s *screen) buttons(e *entry) []row {
	if len(e.choices) == 0 {
		return nil
	}
	_, rest := s.gutter(e.from)
	left := lipgloss.Width(rest)
	numbered := e == s.c.talk.here().offer()
	r := row{entry: e, text: rest}
	var rows []row
	for i, ch := range e.choices {
		label := "[" + ch.Label + "]"
		if numbered {
			label = fmt.Sprintf("[%d %s]", i+1, ch.Label)
		}
		label = cut(label, max(s.width-left, 1))
		at := lipgloss.Width(r.text)
		if len(r.spots) > 0 {
			at += 2
		}
		if len(r.spots) > 0 && at+lipgloss.Width(label) > s.width {
			rows = append(rows, r)
			r, at = row{entry: e, text: rest}, left
		}
		r.text += strings.Repeat(" ", at-lipgloss.Width(r.text)) + s.look(e, ch).Render(label)
		r.spots = append(r.spots, spot{from: at, to: at + lipgloss.Width(label), choice: i})
	}
	return append(rows, r)
}

func (s *screen) look(e *entry, ch bot.Choice) lipgloss.Style {
	look := button
	if ch.Danger {
		look = danger
	}
	return look.Reverse(s.focus == focus{card: e.id, choice: ch.ID})
}

// cut shortens s to width columns.
func cut(s string, width int) string {
	if lipgloss.Width(s) <= width {
		return s
	}
	r := []rune(s)
	for len(r) > 0 && lipgloss.Width(string(r)) > width-1 {
		r = r[:len(r)-1]
	}
	return string(r) + "…"
}

// anchor is the row that stands at the bottom of a transcript that was scrolled. The zero anchor follows the newest.
type anchor struct {
	entry *entry
	line  int
}

// window is the part of the transcript that ends at the anchor and is at most height rows. Only what is in it gets
// rendered, so a long transcript costs nothing.
func (s *screen) window(height int) []row {
	entries := s.c.talk.here().entries
	last := len(entries) - 1
	if i := slices.Index(entries, s.anchor.entry); s.anchor.entry != nil && i >= 0 {
		last = i
	} else {
		s.anchor = anchor{}
	}
	var rows []row
	for i := last; i >= 0 && len(rows) < height; i-- {
		part := s.rows(entries[i])
		if entries[i] == s.anchor.entry {
			part = part[:min(s.anchor.line+1, len(part))]
		}
		rows = append(part, rows...)
	}
	return rows[max(0, len(rows)-height):]
}

// scroll moves the window up by n rows, or down if n is negative.
func (s *screen) scroll(n int) {
	entries := s.c.talk.here().entries
	if len(entries) == 0 {
		return
	}
	at, line := len(entries)-1, 0
	if i := slices.Index(entries, s.anchor.entry); s.anchor.entry != nil && i >= 0 {
		at, line = i, s.anchor.line
	} else {
		line = len(s.rows(entries[at])) - 1
	}
	line -= n
	for line < 0 && at > 0 {
		at--
		line += len(s.rows(entries[at]))
	}
	for at < len(entries)-1 && line >= len(s.rows(entries[at])) {
		line -= len(s.rows(entries[at]))
		at++
	}
	end := at == len(entries)-1 && line >= len(s.rows(entries[at]))-1
	s.anchor = anchor{entries[at], max(line, 0)}
	if end {
		s.anchor = anchor{}
	}
	if missing := s.height - len(s.window(s.height)); n > 0 && missing > 0 && !end {
		s.scroll(-missing) // nothing stands above the first row
	}
}
