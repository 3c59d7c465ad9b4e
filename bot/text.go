package bot

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// lockScreen is what a phone shows of a message without being unlocked, in runes.
const lockScreen = 120

// printable drops what no message may carry: control bytes, ANSI escapes, invalid UTF-8, and the invisible letters that
// turn the reading direction around or hide text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == utf8.RuneError, unicode.IsControl(r), r != '\u200d' && r != '\u2060' && unicode.Is(unicode.Cf, r):
			return -1 // formats hide text or turn its direction around; emoji need the joiner, and plain the word joiner
		default:
			return r
		}
	}, strings.ToValidUTF8(s, ""))
}

func isText(mediaType string) bool { return strings.HasPrefix(mediaType, "text/") || mediaType == "" }

// cut shortens s to at most n runes.
func cut(s string, n int) string {
	if len(s) <= n || byteOf(s, n) == len(s) {
		return s
	}
	return strings.TrimRightFunc(s[:byteOf(s, max(n-1, 0))], unicode.IsSpace) + "…"
}

func runes(s string) int { return utf8.RuneCountInString(s) }

// capital begins a sentence with s.
func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return ""
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

// small goes on with s in a sentence; QEMU stays QEMU.
func small(s string) string {
	if first, n := utf8.DecodeRuneInString(s); n > 0 {
		if second, _ := utf8.DecodeRuneInString(s[n:]); unicode.IsLower(second) {
			return string(unicode.ToLower(first)) + s[n:]
		}
	}
	return s
}

// firstLine is the line that says the state.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// oneLine folds all white space of s into single blanks. Of a very long s the beginning is enough for any line.
func oneLine(s string) string {
	if len(s) > 4096 {
		s = s[:4096]
	}
	return strings.Join(strings.Fields(printable(s)), " ")
}

// headline breaks a first line that is too long for a lock screen. In CommonMark the break is a blank, so nothing is
// lost and nothing else changes.
func headline(body string) string {
	first, rest, more := strings.Cut(body, "\n")
	if runes(first) <= lockScreen || strings.HasPrefix(first, "```") || strings.HasPrefix(first, "|") {
		return body
	}
	head := string([]rune(first)[:lockScreen])
	at := strings.LastIndex(head, " ")
	if at < 40 {
		return body
	}
	body = first[:at] + "\n" + first[at+1:]
	if more {
		body += "\n" + rest
	}
	return body
}

// code shows s as one CommonMark code span of at most n runes, whatever backticks it holds (CommonMark 0.31, 6.1).
func code(s string, n int) string {
	s = cut(oneLine(strings.ReplaceAll(strings.TrimSpace(s), "\n", " ⏎ ")), n) // a folded comment would hide what follows it
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	fence := strings.Repeat("`", longest+1)
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		s = " " + s + " "
	}
	if s == "" {
		return ""
	}
	return fence + s + fence
}

// Plain is foreign text as a [Chat] shows it in a [Message.Notice]: of at most n runes, and nothing in it becomes markup, a
// link or a mention.
func Plain(s string, n int) string { return plain(s, n) }

// plain shows foreign text as text: nothing in it becomes markup, a link or a mention.
func plain(s string, n int) string {
	s = cut(oneLine(s), n)
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\`*_{}[]<>#|~!&", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
		if r == '@' {
			b.WriteRune('\u2060') // a word joiner: shown as nothing, but no chat reads a mention
		}
	}
	return b.String()
}

// block shows s as a fenced block that s cannot close.
func block(s string) string {
	fence := "```"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	return fence + "\n" + strings.TrimRight(s, "\n") + "\n" + fence
}

// clock shows a running time: 0:14, 12:05, 1:02:03.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// span shows how long something took: 0.4 s, 41 s, 2 min 5 s.
func span(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	default:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
