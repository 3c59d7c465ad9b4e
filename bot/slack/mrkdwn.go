package slack

import (
	"html"
	"regexp"
	"strings"
)

// mrkdwn turns CommonMark into Slack's older dialect, which has no headings, no tables and no escapes of its own. It must
// be given whole paragraphs. Everything foreign is escaped, also in code: there &, < and > are decoded everywhere (docs).
func mrkdwn(body string) string {
	var b strings.Builder
	for _, p := range pieces(body) {
		first, rest, _ := strings.Cut(p.text, "\n")
		f, is := opens(first)
		switch {
		case !p.code:
			b.WriteString(slanted(p.text))
		case is:
			b.WriteString(fenced(f, rest))
		default: // a span; it has no way to hold a backtick or a line here
			b.WriteString("`" + entities.Replace(strings.NewReplacer("`", "'", "\n", " ").Replace(strings.Trim(p.text, "` "))) + "`")
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

var (
	entities = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	heading  = regexp.MustCompile(`(?m)^#{1,6}[ \t]+(.*?)[ \t#]*$`)
	bullet   = regexp.MustCompile(`(?m)^([ \t]*)[-*+][ \t]+`)
	quote    = regexp.MustCompile(`(?m)^&gt;[ \t]?`)
	strong   = regexp.MustCompile(`\*\*([^\s*](?:[^\n*]*[^\s*])?)\*\*|__([^\s_](?:[^\n_]*[^\s_])?)__`)
	emphasis = regexp.MustCompile(`(^|[^\w*])\*(\S(?:[^*\n]*?\S)?)\*($|[^\w*])`)
	strike   = regexp.MustCompile(`~~(\S(?:[^\n]*?\S)?)~~`)
	href     = regexp.MustCompile(`!?\[([^\]\[\n]*)\]\((https?://[^()\s|]*)\)`)
)

// Letters that stand for marks while a text is turned; clean text has no control bytes.
const boldMark, literal = "\x01", "\x02"

// slanted is prose. A backslash escape is put aside first: mrkdwn has none, so a mark that is meant literally is followed by
// a letter that is not seen.
func slanted(text string) string {
	var kept []string
	text = backslash.ReplaceAllStringFunc(strings.NewReplacer(boldMark, "", literal, "").Replace(text), func(s string) string {
		kept = append(kept, s[1:])
		return literal
	})
	text = entities.Replace(html.UnescapeString(text))
	text = heading.ReplaceAllStringFunc(text, func(s string) string {
		return boldMark + strings.NewReplacer("**", "", "__", "").Replace(heading.ReplaceAllString(s, "$1")) + boldMark
	})
	text = bullet.ReplaceAllString(text, "$1• ")
	text = quote.ReplaceAllString(text, "> ")
	text = strong.ReplaceAllString(text, boldMark+"$1$2"+boldMark)
	text = emphasis.ReplaceAllString(text, "${1}_${2}_$3")
	text = strike.ReplaceAllString(text, "~$1~")
	text = href.ReplaceAllStringFunc(text, func(s string) string {
		m := href.FindStringSubmatch(s)
		if s[0] == '!' || misleads(m[1], html.UnescapeString(m[2])) {
			return strings.TrimSpace(m[1] + " (" + m[2] + ")")
		}
		return "<" + m[2] + "|" + m[1] + ">"
	})
	text = strings.ReplaceAll(text, boldMark, "*")
	for _, s := range kept {
		if strings.ContainsAny(s, "*_~`") {
			s += joiner
		}
		text = strings.Replace(text, literal, entities.Replace(s), 1)
	}
	return text
}

// fenced is a code block without its language, which this dialect would show as a line.
func fenced(f fence, code string) string {
	lines := strings.Split(strings.TrimRight(code, "\n"), "\n")
	if n := len(lines) - 1; f.closes(lines[n]) {
		lines = lines[:n]
	}
	return "```\n" + entities.Replace(strings.ReplaceAll(strings.Join(lines, "\n"), "```", "`"+joiner+"`"+joiner+"`")) + "\n```\n"
}
