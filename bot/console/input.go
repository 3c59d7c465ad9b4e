package console

import (
	"slices"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

// input is what the person types: some lines, wrapped at words, with the keys of a shell. It is ours because the text
// area of bubbles reads the clipboard of this machine through other programs, and that is another machine's over SSH.
type input struct {
	text []rune
	at   int // the cursor stands before text[at]
}

// maxInputRows is how much of a screen the input may take; longer text scrolls in it.
const maxInputRows = 6

func (in *input) value() string { return string(in.text) }

func (in *input) set(s string) { in.text = []rune(s); in.at = len(in.text) }

func (in *input) insert(s string) {
	r := []rune(strings.TrimSuffix(clean(s), "\n"))
	if s == "\n" {
		r = []rune{'\n'}
	}
	in.text = slices.Insert(in.text, in.at, r...)
	in.at += len(r)
}

// key handles the keys of the editor and reports whether it knew k.
func (in *input) key(k tea.KeyPressMsg) bool {
	switch k.String() {
	case "alt+enter", "shift+enter", "ctrl+j":
		in.insert("\n")
	case "left", "ctrl+b":
		in.at = max(in.at-1, 0)
	case "right", "ctrl+f":
		in.at = min(in.at+1, len(in.text))
	case "alt+left", "ctrl+left", "alt+b":
		in.at = in.wordLeft()
	case "alt+right", "ctrl+right", "alt+f":
		in.at = in.wordRight()
	case "home", "ctrl+a":
		in.at = in.lineStart()
	case "end", "ctrl+e":
		in.at = in.lineEnd()
	case "backspace", "ctrl+h":
		in.remove(max(in.at-1, 0), in.at)
	case "delete", "ctrl+d":
		in.remove(in.at, min(in.at+1, len(in.text)))
	case "ctrl+w", "alt+backspace":
		in.remove(in.wordLeft(), in.at)
	case "alt+d":
		in.remove(in.at, in.wordRight())
	case "ctrl+u":
		in.remove(in.lineStart(), in.at)
	case "ctrl+k":
		in.remove(in.at, in.lineEnd())
	default:
		if k.Text == "" {
			return false
		}
		in.insert(k.Text)
	}
	return true
}

func (in *input) remove(from, to int) {
	in.text = slices.Delete(in.text, from, to)
	in.at = from
}

func (in *input) wordLeft() int {
	i := in.at
	for i > 0 && unicode.IsSpace(in.text[i-1]) {
		i--
	}
	for i > 0 && !unicode.IsSpace(in.text[i-1]) {
		i--
	}
	return i
}

func (in *input) wordRight() int {
	i := in.at
	for i < len(in.text) && unicode.IsSpace(in.text[i]) {
		i++
	}
	for i < len(in.text) && !unicode.IsSpace(in.text[i]) {
		i++
	}
	return i
}

func (in *input) lineStart() int {
	i := in.at
	for i > 0 && in.text[i-1] != '\n' {
		i--
	}
	return i
}

func (in *input) lineEnd() int {
	i := in.at
	for i < len(in.text) && in.text[i] != '\n' {
		i++
	}
	return i
}

// stretch is one row of the wrapped text, text[from:to].
type stretch struct{ from, to int }

// wrap lays the text out in width columns. There is always a row, and the cursor is in one of them.
func (in *input) wrap(width int) (rows []stretch, cursor int) {
	from, columns, space := 0, 0, -1
	for i, r := range in.text {
		if r == '\n' {
			rows = append(rows, stretch{from, i})
			from, columns, space = i+1, 0, -1
			continue
		}
		w := 1
		if r >= 0x80 {
			w = lipgloss.Width(string(r))
		}
		if columns+w > width && i > from {
			end := i
			if space > from {
				end = space
			}
			rows = append(rows, stretch{from, end})
			columns = lipgloss.Width(string(in.text[end:i]))
			from, space = end, -1
		}
		columns += w
		if r == ' ' {
			space = i + 1
		}
	}
	rows = append(rows, stretch{from, len(in.text)})
	for i, row := range rows {
		if in.at >= row.from {
			cursor = i
		}
	}
	return rows, cursor
}

// move takes the cursor by rows up or down, and reports false at the first or the last one.
func (in *input) move(by, width int) bool {
	rows, cursor := in.wrap(width)
	to := cursor + by
	if to < 0 || to >= len(rows) {
		return false
	}
	column := in.at - rows[cursor].from
	in.at = min(rows[to].from+column, rows[to].to)
	return true
}

// view is the at most height visible rows, and where the cursor stands in them.
func (in *input) view(width, height int) (lines []string, x, y int) {
	rows, cursor := in.wrap(width)
	top := max(0, cursor-height+1)
	for _, row := range rows[top:min(len(rows), top+height)] {
		lines = append(lines, string(in.text[row.from:row.to]))
	}
	x = lipgloss.Width(string(in.text[rows[cursor].from:in.at]))
	return lines, min(x, width), cursor - top
}
