package slack

import (
	"html"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// joiner is shown as nothing and breaks what Slack would read as a mention.
const joiner = "\u2060"

// piece is a stretch of a text that is all code or all prose. All pieces of a text together are the text.
type piece struct {
	text string
	code bool
}

// fence is an open fenced code block. Its prefix is what stands before the marker: indentation, marks of a quotation or of
// a list item.
type fence struct{ prefix, mark, info string }

var fenceLine = regexp.MustCompile("^((?:[ \t]*>|[ \t]*(?:[-*+]|[0-9]{1,9}[.)])[ \t]+)*[ \t]*)(`{3,}|~{3,})(.*)$")

// opens reads the first line of a fenced block (CommonMark 0.31, 4.5).
func opens(line string) (fence, bool) {
	if !strings.Contains(line, "```") && !strings.Contains(line, "~~~") {
		return fence{}, false
	}
	m := fenceLine.FindStringSubmatch(line)
	if m == nil || len(m[1]+m[2]) > 60 || m[2][0] == '`' && strings.Contains(m[3], "`") {
		return fence{}, false
	}
	return fence{prefix: m[1], mark: m[2], info: m[3]}, true
}

// closes says that line ends the block.
func (f fence) closes(line string) bool {
	rest := strings.TrimLeft(line, " \t>")
	run := len(rest) - len(strings.TrimLeft(rest, f.mark[:1]))
	return run >= len(f.mark) && strings.TrimSpace(rest[run:]) == ""
}

// outlived says that the quotation around the block has ended before line, and the block with it.
func (f fence) outlived(line string) bool {
	return strings.Contains(f.prefix, ">") && !strings.HasPrefix(strings.TrimLeft(line, " \t"), ">")
}

// pieces tells code from prose.
func pieces(body string) []piece {
	var all []piece
	var open *fence
	var prose, code strings.Builder
	flush := func() {
		all = append(all, spans(prose.String())...)
		if code.Len() > 0 {
			all = append(all, piece{code.String(), true})
		}
		prose.Reset()
		code.Reset()
	}
	for line := range strings.Lines(body) {
		text := strings.TrimRight(line, "\n")
		if open != nil && open.outlived(text) {
			open = nil
			flush()
		}
		switch f, is := opens(text); {
		case open != nil:
			code.WriteString(line)
			if open.closes(text) {
				open = nil
				flush()
			}
		case is:
			open = &f
			code.WriteString(line)
		default:
			prose.WriteString(line)
		}
	}
	flush()
	return all
}

// spans tells the code spans of prose from the rest (CommonMark 0.31, 6.1). None of them crosses a blank line.
func spans(prose string) []piece {
	var all []piece
	from := 0
	for i := 0; i < len(prose); {
		switch prose[i] {
		case '\\':
			i += 2
		case '`':
			n := ticks(prose[i:])
			end := closing(prose[i+n:], n)
			if end < 0 {
				i += n
				continue
			}
			end += i + n
			all = append(all, piece{prose[from:i], false}, piece{prose[i:end], true})
			i, from = end, end
		default:
			i++
		}
	}
	return append(all, piece{prose[from:], false})
}

// ticks counts the backticks at the beginning of s.
func ticks(s string) int { return len(s) - len(strings.TrimLeft(s, "`")) }

// closing is where a code span that began with n backticks ends in s; -1 if it does not.
func closing(s string, n int) int {
	if end := strings.Index(s, "\n\n"); end >= 0 {
		s = s[:end]
	}
	for i := 0; i < len(s); {
		at := strings.IndexByte(s[i:], '`')
		if at < 0 {
			return -1
		}
		i += at
		m := ticks(s[i:])
		if m == n {
			return i + m
		}
		i += m
	}
	return -1
}

// dialect turns CommonMark into the text of a markdown block: what a person sees is the same, but nothing in it pings or
// hides where a link goes.
//
// Slack reads its own <…> tokens in a markdown block too. In prose &lt; stops that, and is shown as "<"; an entity is
// not read again as a token, and a bare & is left alone because it is not decoded in the target of a link (PostHog/posthog
// #95054, measured there). Whether entities are decoded in code is not known, and shell is full of "<", so there only what
// begins a token is broken, by a letter that is not seen. A line break of ours is one that is meant, so it becomes hard.
func dialect(body string) string {
	var b strings.Builder
	at := 0
	for _, p := range pieces(body) {
		if p.code {
			b.WriteString(tokenInCode.ReplaceAllString(p.text, "<"+joiner+"$1"))
		} else {
			prose(&b, p.text, body[at+len(p.text):])
		}
		at += len(p.text)
	}
	return b.String()
}

var (
	tokenInCode = regexp.MustCompile(`<((?i:[!@#]|https?:|mailto:|tel:|slack:))`)
	autolink    = regexp.MustCompile(`^<(https?://[^\s<>|]+)>`)
	everybody   = regexp.MustCompile(`(?i)^@(here|channel|everyone)`)
)

// prose writes text, which is followed by rest. A line may be long, so that it must not be looked through at each letter.
func prose(b *strings.Builder, text, rest string) {
	begin := lastLine(b) // where the line at hand begins
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\\':
			i += escaped(b, b.String()[begin:], text[i:]) - 1
		case '<':
			if m := autolink.FindStringSubmatch(text[i:]); m != nil {
				b.WriteString(m[1])
				i += len(m[0]) - 1
				if i+1 < len(text) && !strings.ContainsRune(" \n.,;:!?)", rune(text[i+1])) {
					b.WriteByte(' ') // the link ends here
				}
				continue
			}
			b.WriteString("&lt;")
		case '[', '!':
			if c == '[' && blockMarks.MatchString(b.String()[begin:]) && definition.MatchString(text[i:]) {
				b.WriteByte('\\') // a link whose target stands elsewhere
			}
			if n := anchor(b, text[i:]); n > 0 {
				if strings.Contains(text[i:i+n], "\n") {
					begin = lastLine(b)
				}
				i += n - 1
				continue
			}
			b.WriteByte(c)
		case ']':
			b.WriteByte(c)
			if i+1 < len(text) && (text[i+1] == '(' || text[i+1] == '[') {
				b.WriteByte(' ') // no link that was understood
			}
		case '@':
			b.WriteByte(c)
			if everybody.MatchString(text[i:]) {
				b.WriteString(joiner)
			}
		case '\n':
			if breaks(b.String(), text[i+1:], rest) {
				b.WriteString("  ")
			}
			b.WriteByte(c)
			begin = b.Len()
		default:
			b.WriteByte(c)
		}
	}
}

// blockMarks are what may stand before a paragraph on its line: marks of quotations and of lists.
var blockMarks = regexp.MustCompile(`^(?:[ \t]*(?:>|(?:[-*+]|[0-9]{1,9}[.)])[ \t]+))*[ \t]*$`)

func lastLine(b *strings.Builder) int { return strings.LastIndexByte(b.String(), '\n') + 1 }

// escaped writes a backslash escape and returns its length. "\<" would become "\&lt;", which is an escaped "&" (6.1 of the
// specification has no order that saves it), so these three become entities. Slack documents escapes for what it gives a
// meaning; where a letter has none, the backslash is left out.
func escaped(b *strings.Builder, line, s string) int {
	if len(s) < 2 {
		b.WriteString(s)
		return len(s)
	}
	switch s[1] {
	case '<', '>', '&':
		b.WriteString(html.EscapeString(s[1:2]))
		return 2
	case '\n':
		b.WriteByte('\\')
		return 1
	}
	line = strings.TrimSpace(line)
	switch {
	case s[1] == '{', s[1] == '}', s[1] == '#' && line != "", s[1] == '!' && !strings.HasPrefix(s[2:], "["), s[1] == '|' && line != "" && line[0] != '|':
		b.WriteByte(s[1])
		return 2
	default:
		_, n := utf8.DecodeRuneInString(s[1:])
		b.WriteString(s[:1+n])
		return 1 + n
	}
}

// breaks says that the line which ends in done goes on in the next one, so that the end of the line must be a hard break.
func breaks(done, text, rest string) bool {
	line := done[strings.LastIndexByte(done, '\n')+1:]
	next, _, whole := strings.Cut(text, "\n")
	if !whole {
		more, _, _ := strings.Cut(rest, "\n")
		next += more
	}
	switch {
	case strings.TrimSpace(line) == "", strings.TrimSpace(next) == "":
		return false
	case strings.HasPrefix(strings.TrimSpace(line), "|"), strings.HasSuffix(line, "  "), strings.HasSuffix(line, `\`):
		return false
	default:
		return true
	}
}

// fallback is what a notification and a screen reader say: the state without markup, at most 300 characters.
func fallback(body string) string {
	var said string
	for line := range strings.Lines(body) {
		said = strings.TrimSpace(said + " " + bare(line))
		if strings.ContainsFunc(said, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
			break
		}
	}
	if said == "" {
		said = "…"
	}
	var b strings.Builder
	n := 0
	for _, r := range said {
		s := html.EscapeString(string(r))
		if r == '"' || r == '\'' {
			s = string(r) // Slack decodes &, < and > only (docs)
		}
		if n += len([]rune(s)); n >= 300 {
			b.WriteString("…")
			break
		}
		b.WriteString(s)
		if r == '@' {
			b.WriteString(joiner)
			n++
		}
	}
	return b.String()
}

var (
	linked    = regexp.MustCompile(`!?\[([^\]\[]*)\]\([^()\s]*\)`)
	markup    = regexp.MustCompile("\\*\\*|__|~~|`+")
	lead      = regexp.MustCompile(`^\s*(?:#{1,6}\s+|>\s*)+`)
	backslash = regexp.MustCompile(`\\([!-/:-@\[-` + "`" + `{-~])`)
)

// bare is a line without its markup.
func bare(line string) string {
	if _, is := opens(strings.TrimRight(line, "\n")); is {
		return ""
	}
	line = lead.ReplaceAllString(line, "")
	line = linked.ReplaceAllString(line, "$1")
	line = markup.ReplaceAllString(line, "")
	return strings.TrimSpace(html.UnescapeString(backslash.ReplaceAllString(line, "$1")))
}

// shorten cuts s to at most n runes.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return strings.TrimSpace(string(r[:n-1])) + "…"
	}
	return s
}
