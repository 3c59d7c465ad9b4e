package console

import (
	"strings"

	"charm.land/glamour/v2"
	look "charm.land/glamour/v2/ansi"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// markdown renders CommonMark for one width. It is not safe for concurrent use.
type markdown struct {
	width int
	md    *glamour.TermRenderer
}

// longestBody is how much is rendered as markdown; more is a log that somebody pasted, and shown as it is.
const longestBody = 32 << 10

// lines renders text, which must be clean, into lines that are no wider than width.
func (m *markdown) lines(text string, width int) []string {
	if m.md == nil || m.width != width {
		md, err := glamour.NewTermRenderer(glamour.WithStyles(style()), glamour.WithWordWrap(width), glamour.WithPreservedNewLines())
		if err != nil {
			return wrapped(text, width)
		}
		m.md, m.width = md, width
	}
	if len(text) > longestBody {
		return wrapped(text, width)
	}
	out, err := m.md.Render(shield(text))
	if err != nil {
		return wrapped(text, width)
	}
	lines := strings.Split(unshield(coloursOnly(out)), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	blank := func(s string) bool { return s == "" }
	for len(lines) > 1 && blank(lines[0]) {
		lines = lines[1:]
	}
	for len(lines) > 1 && blank(lines[len(lines)-1]) {
		lines = lines[:len(lines)-1]
	}
	return fit(lines, width)
}

func wrapped(text string, width int) []string {
	return fit(strings.Split(lipgloss.Wrap(text, width, ""), "\n"), width)
}

// fit breaks what is still too wide, such as a table in very few columns. Wrap of lipgloss 2.0.6 also leaves a hyphen
// beyond the edge (measured), where the screen would drop it.
func fit(lines []string, width int) []string {
	var out []string
	for _, line := range lines {
		if lipgloss.Width(line) > width {
			line = ansi.Hardwrap(line, width, true)
		}
		out = append(out, strings.Split(line, "\n")...)
	}
	return out
}

// style uses the sixteen colours of the terminal's own theme, so that it is readable on a light and a dark background
// without asking the terminal which one it has.
func style() look.StyleConfig {
	yes, two, one := true, uint(2), uint(1)
	cyan, blue, bar := "6", "4", "│ "
	return look.StyleConfig{
		Heading:     look.StyleBlock{StylePrimitive: look.StylePrimitive{Bold: &yes}},
		Strong:      look.StylePrimitive{Bold: &yes},
		Emph:        look.StylePrimitive{Italic: &yes},
		Code:        look.StyleBlock{StylePrimitive: look.StylePrimitive{Color: &cyan}},
		CodeBlock:   look.StyleCodeBlock{StyleBlock: look.StyleBlock{StylePrimitive: look.StylePrimitive{Color: &cyan}}},
		BlockQuote:  look.StyleBlock{Indent: &one, IndentToken: &bar},
		List:        look.StyleList{LevelIndent: two},
		Item:        look.StylePrimitive{BlockPrefix: "• "},
		Enumeration: look.StylePrimitive{BlockPrefix: ". "},
		Task:        look.StyleTask{Ticked: "[x] ", Unticked: "[ ] "},
		Link:        look.StylePrimitive{Color: &blue, Underline: &yes},
		LinkText:    look.StylePrimitive{Bold: &yes},

		Strikethrough:  look.StylePrimitive{CrossedOut: &yes},
		HorizontalRule: look.StylePrimitive{Format: "\n──────\n"},
	}
}

// shield hides from glamour what it would not give back as it was (measured with glamour 2.0.1): it drops raw HTML, so
// that <vmid> vanishes; it decodes entities also in code, so that &#27; becomes an escape byte behind the back of
// [clean]; and it drops backslashes in code, so that s/\./x/ reads s/./x/. A person who approves a command must see that
// command. The hidden bytes travel as runes of the private use area, which clean text never holds.
func shield(text string) string {
	var b strings.Builder
	b.Grow(len(text) + len(text)/8)
	var prose []string
	flush := func() {
		if len(prose) > 0 {
			shieldProse(&b, strings.Join(prose, ""))
			prose = prose[:0]
		}
	}
	fence, blank := "", true
	for line := range strings.Lines(text) {
		trimmed := strings.TrimLeft(line, " ")
		opens := fenceOf(trimmed)
		switch {
		case fence != "":
			if strings.HasPrefix(opens, fence) && strings.Trim(trimmed, "`~ \n") == "" {
				fence = ""
				b.WriteString(line)
				break
			}
			shieldCode(&b, line)
		case opens != "":
			flush()
			fence = opens
			b.WriteString(line)
		case blank && strings.HasPrefix(line, "    "):
			shieldCode(&b, line) // blank stays: the next indented line is code too
			continue
		default:
			prose = append(prose, line)
			if trimmed == "\n" {
				flush()
			}
		}
		blank = trimmed == "\n"
	}
	flush()
	return b.String()
}

// fenceOf is the run of three or more backticks or tildes that line begins with.
func fenceOf(line string) string {
	for _, mark := range []string{"`", "~"} {
		run := line[:len(line)-len(strings.TrimLeft(line, mark))]
		if len(run) >= 3 && (mark == "~" || !strings.Contains(line[len(run):], "`")) {
			return run
		}
	}
	return ""
}

func shieldCode(b *strings.Builder, code string) {
	for i := range len(code) {
		if strings.IndexByte(`\&<`, code[i]) >= 0 {
			hide(b, code[i])
		} else {
			b.WriteByte(code[i])
		}
	}
}

// shieldProse handles one block that is not code, but has code spans in it.
func shieldProse(b *strings.Builder, s string) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '`':
			ticks := len(s[i:]) - len(strings.TrimLeft(s[i:], "`"))
			span := spanLength(s[i:], ticks)
			b.WriteString(s[i : i+ticks])
			i += ticks - 1
			if span > 0 { // the ticks that close it open nothing
				shieldCode(b, s[i+1:i+1+span-ticks])
				b.WriteString(s[i+1+span-ticks : i+1+span])
				i += span
			}
		case c == '\\' && i+1 < len(s) && punctuation(s[i+1]):
			i++
			hide(b, s[i])
		case c == '<', c == '&' && !keep(s, i), stopMark(s, i):
			hide(b, c)
		default:
			b.WriteByte(c)
		}
	}
}

// spanLength is the length of the code span that s begins with, up to the run of ticks that closes it; 0 if none does.
func spanLength(s string, ticks int) int {
	for i := ticks; i < len(s); {
		at := strings.IndexByte(s[i:], '`')
		if at < 0 {
			return 0
		}
		i += at
		run := len(s[i:]) - len(strings.TrimLeft(s[i:], "`"))
		if run == ticks {
			return i
		}
		i += run
	}
	return 0
}

// keep says that the & at s[i] may be decoded, or belongs to a link.
func keep(s string, i int) bool {
	for _, entity := range []string{"&amp;", "&lt;", "&gt;", "&quot;", "&nbsp;"} {
		if strings.HasPrefix(s[i:], entity) {
			return true
		}
	}
	word := s[strings.LastIndexAny(s[:i], " \n(<")+1 : i]
	link := strings.HasPrefix(word, "http://") || strings.HasPrefix(word, "https://")
	return link && !strings.HasPrefix(s[i:], "&#")
}

// stopMark says that s[i] ends a clause. In lists glamour breaks lines before such a mark, and leaves it on a row alone.
func stopMark(s string, i int) bool {
	return strings.IndexByte(".,", s[i]) >= 0 && i > 0 && s[i-1] >= 'A' && !punctuation(s[i-1]) &&
		(i+1 == len(s) || s[i+1] == ' ' || s[i+1] == '\n')
}

func punctuation(c byte) bool {
	return c > ' ' && c < 0x7f && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
}

// hidden is where ASCII lies in the private use area while glamour works.
const hidden = 0xf0000

func hide(b *strings.Builder, c byte) { b.WriteRune(hidden + rune(c)) }

func unshield(s string) string {
	return strings.Map(func(r rune) rune {
		if r > hidden && r < hidden+0x7f {
			return r - hidden
		}
		return r
	}, s)
}
