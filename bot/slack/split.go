package slack

import (
	"regexp"
	"strings"
	"unicode/utf16"
)

// partSize is the most of a body in one message. Slack takes 12,000 characters of markdown in a payload (docs) and has
// refused whole payloads from 13,172 on (slackapi/bolt-js#2509); the buttons are in the payload too.
const partSize = 11_000

// size counts s as it stands in the payload: JSON, in which Go escapes more than others, in UTF-16 units, of which there are
// never fewer than of whatever Slack means by characters.
func size(s string) int {
	n := 0
	for _, r := range s {
		n += weight(r)
	}
	return n
}

func weight(r rune) int {
	switch {
	case r == '"', r == '\\', r == '\n', r == '\t':
		return 2
	case r == '<', r == '>', r == '&', r < ' ', r == '\u2028', r == '\u2029':
		return 6
	default:
		return utf16.RuneLen(r)
	}
}

// line is one line of a body and what is open where it begins.
type line struct {
	text  string
	fence *fence   // the code block that goes on here
	head  []string // of the table that goes on here
}

// split cuts markdown into parts of at most most, each of which is markdown by itself: a code block is closed and
// opened again with its language, a table gets its head again, a list goes on with its number. It cuts between paragraphs
// where there are some, else between lines, and only where one line is too long inside of it. Nothing but blank lines and
// indentation is lost.
func split(body string, most int) []string {
	lines := parse(body, most)
	var parts []string
	for len(lines) > 0 {
		n, part := fill(lines, most)
		parts = append(parts, part)
		lines = lines[n:]
		for len(lines) > 0 && lines[0].fence == nil && strings.TrimSpace(lines[0].text) == "" {
			lines = lines[1:]
		}
		outdent(lines)
	}
	return parts
}

// parse finds the structure of a body. A line that no part could take becomes several before that.
func parse(body string, most int) []line {
	var lines []line
	var open *fence
	var head []string
	for _, text := range chopped(body, most*5/8) { // the rest is for what a part begins and ends with
		if open != nil && open.outlived(text) {
			open = nil
		}
		if head = table(lines, head, text, open != nil); size(strings.Join(head, "")) > most/4 {
			head = nil
		}
		lines = append(lines, line{text, open, head})
		switch f, is := opens(text); {
		case open != nil && open.closes(text):
			open = nil
		case open == nil && is:
			open = &f
		}
	}
	return lines
}

// table is the head of the table that text is a row of.
func table(before []line, head []string, text string, code bool) []string {
	n := len(before)
	switch {
	case code || !strings.Contains(text, "|"):
		return nil
	case head != nil:
		return head
	case n >= 2 && before[n-1].fence == nil && delimits(before[n-1].text):
		return []string{before[n-2].text, before[n-1].text}
	default:
		return nil
	}
}

// delimits says that a row divides the head of a table from its body.
func delimits(row string) bool {
	return strings.Contains(row, "|") && strings.Contains(row, "--") && strings.Trim(row, " \t|:-") == ""
}

// chopped are the lines of a body, none with more than most units.
func chopped(body string, most int) []string {
	var all []string
	for text := range strings.SplitSeq(strings.TrimRight(body, "\n"), "\n") {
		all = append(all, chop(text, most)...)
	}
	return all
}

var quoted = regexp.MustCompile(`^(?:[ \t]{0,3}>){1,9} ?`)

// chop cuts one line into pieces: at a blank, else anywhere but within an entity or an escape.
func chop(text string, most int) []string {
	var all []string
	quote := quoted.FindString(text)
	most -= size(quote)
	for size(text) > most {
		end, n := 0, 0
		for i, r := range text {
			if n += weight(r); n > most {
				break
			}
			end = i
		}
		if at := strings.LastIndexByte(text[:end], ' '); at > end/2 && at > len(quote) {
			end = at
		} else if at := strings.LastIndexAny(text[:end], `&\`); at > end-8 && at > len(quote) {
			end = at
		}
		all = append(all, text[:end])
		text = quote + strings.TrimPrefix(text[end:], " ")
	}
	return append(all, text)
}

// fill takes as many lines as one part holds, and draws them.
func fill(lines []line, most int) (n int, part string) {
	top, used := opening(lines[0]), 0
	for _, text := range top {
		used += size(text) + 2
	}
	best, cost := 0, 9
	for n = 0; n < len(lines); n++ {
		if n > 0 {
			if c := between(lines[n-1], lines[n]); c <= cost || used < most/2 {
				best, cost = n, c
			}
		}
		used += size(lines[n].text) + 2
		if used+tail(lines, n) > most && n > 0 {
			n = best
			break
		}
	}
	for _, l := range lines[:n] {
		top = append(top, l.text)
	}
	if end := closer(lines, n); end != "" {
		top = append(top, end)
	}
	return n, strings.Join(top, "\n")
}

// between is what it costs to cut before next: nothing between paragraphs, most inside of code and tables.
func between(last, next line) int {
	indented := strings.TrimLeft(next.text, " \t") != next.text
	switch {
	case next.fence != nil && (last.fence == nil || next.fence.closes(next.text)):
		return 5
	case next.fence != nil || next.head != nil:
		return 4
	case strings.TrimSpace(last.text) == "" && !indented:
		return 0
	case strings.TrimSpace(last.text) == "", !indented && starts(next.text):
		return 1
	case !indented:
		return 2
	default:
		return 3
	}
}

// starts says that a line begins something new: an item, a heading, a code block.
func starts(text string) bool {
	return fenceLine.MatchString(text) || strings.HasPrefix(text, "#") || strings.HasPrefix(text, "- ") ||
		strings.HasPrefix(text, "* ") || text != "" && text[0] >= '0' && text[0] <= '9'
}

// opening is what a part begins with that goes on in the middle of something.
func opening(first line) []string {
	if first.fence == nil {
		return append([]string(nil), first.head...)
	}
	f := *first.fence
	if size(f.info) > 100 {
		f.info = ""
	}
	return []string{f.margin() + f.mark + f.info}
}

// margin is the prefix of a fence without the marks of a list.
func (f fence) margin() string {
	return strings.Map(func(r rune) rune {
		if r == '>' || r == '\t' {
			return r
		}
		return ' '
	}, f.prefix)
}

// closer ends the code block that is open after n lines.
func closer(lines []line, n int) string {
	last := lines[n-1]
	open := last.fence
	if f, is := opens(last.text); open == nil && is {
		open = &f
	} else if open != nil && open.closes(last.text) {
		return ""
	}
	if open == nil {
		return ""
	}
	return open.margin() + open.mark
}

// tail is the room that the end of a part needs after line n.
func tail(lines []line, n int) int {
	if end := closer(lines, n+1); end != "" {
		return size(end) + 2
	}
	return 0
}

// outdent moves what a part begins with to the left: at the beginning of a text, an inner item of a list is code.
func outdent(lines []line) {
	if len(lines) == 0 {
		return
	}
	margin := lines[0].text
	if lines[0].fence != nil {
		margin = strings.ReplaceAll(lines[0].fence.margin(), ">", "")
		if lines[0].fence.prefix != "" && strings.Contains(lines[0].fence.prefix, ">") {
			return
		}
	}
	n := len(margin) - len(strings.TrimLeft(margin, " \t"))
	if n == 0 {
		return
	}
	open := lines[0].fence
	for i := range lines {
		l := &lines[i]
		spare := len(l.text) - len(strings.TrimLeft(l.text, " \t"))
		if spare < n && strings.TrimSpace(l.text) != "" && l.fence == nil {
			return
		}
		l.text = l.text[min(n, spare):]
		if l.fence != nil {
			f := *l.fence
			f.prefix = f.prefix[min(n, len(f.prefix)):]
			l.fence = &f
		}
		if open != nil && l.fence == nil {
			return
		}
	}
}
