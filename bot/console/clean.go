package console

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text harmless for a terminal. What the bot says holds what commands on a sick machine printed; it must not
// move the cursor, set the title, write the clipboard (OSC 52) or turn the reading direction around. Escape sequences
// go as a whole; a control byte that begins none goes alone, so nothing readable is swallowed by a sequence that does
// not end. Newlines stay; a bare carriage return becomes one, because what it overwrote must stay visible too.
func clean(s string) string {
	if plainText(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	for i := 0; i < len(s); {
		if n := sequence(s[i:]); n > 0 {
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == '\n' || r == '\r' || r == '\v' || r == '\f' || r == 0x85 || r == '\u2028' || r == '\u2029':
			b.WriteByte('\n')
		case r == '\t':
			b.WriteString("    ")
		case !harmful(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}

// coloursOnly keeps of what was rendered the newlines and the sequences that set colours. The rest must go: a link target
// (OSC 8) comes from the agent, and glamour 2.0.1 may break it in two (found by a fuzz test).
func coloursOnly(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if length := sequence(s[i:]); length > 0 {
			if s[i] == 0x1b && s[i+1] == '[' && s[i+length-1] == 'm' {
				b.WriteString(s[i : i+length])
			}
			n = length
		} else if r == '\n' || !unicode.IsControl(r) {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// oneLine is clean for what must stay on one line: a label, a name.
func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// plainText is the quick answer for nearly all text.
func plainText(s string) bool {
	for _, r := range s {
		if r != '\n' && harmful(r) || r == utf8.RuneError || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

// harmful runes are the controls of C0 and C1, DEL, what reorders text (Trojan Source, CVE-2021-42574), what is not seen
// but breaks a search (the core puts a word joiner behind an @ for other chats), and the private use area, of which
// rendering borrows some runes.
func harmful(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Co, r) ||
		r == '\u200b' || r == '\u2060' || r == '\ufeff'
}

// sequence is the length of the escape sequence that s begins with; 0 if it begins with none, or with one that does not
// end. Seven-bit and eight-bit introducers (ECMA-48) are the same.
func sequence(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == 0x1b && len(s) > 1 {
		if s[1] >= 0x40 && s[1] <= 0x5f { // ESC [ is CSI, ESC ] is OSC, and so on
			r, n = rune(s[1])+0x40, 2
		} else {
			return escape(s)
		}
	}
	switch r {
	case 0x9b:
		return control(s, n)
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // DCS, SOS, OSC, PM, APC
		return quoted(s, n)
	case 0x1b:
		return 0
	}
	if r >= 0x80 && r <= 0x9f && n == 2 && r != 0x85 {
		return n
	}
	return 0
}

// escape is ESC, intermediates, one final byte.
func escape(s string) int {
	for i := 1; i < len(s) && i < 8; i++ {
		switch {
		case s[i] >= 0x20 && s[i] <= 0x2f:
		case s[i] >= 0x30 && s[i] <= 0x7e:
			return i + 1
		default:
			return 0
		}
	}
	return 0
}

// control is CSI, parameters and intermediates, one final byte.
func control(s string, i int) int {
	for ; i < len(s); i++ {
		switch {
		case s[i] >= 0x20 && s[i] <= 0x3f:
		case s[i] >= 0x40 && s[i] <= 0x7e:
			return i + 1
		default:
			return 0
		}
	}
	return 0
}

// quoted is a string that BEL or ST ends. Any other control means that it does not end: so no byte is looked at twice,
// and a flood of introducers costs no more than other text.
func quoted(s string, i int) int {
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == 0x07, r == 0x9c:
			return i + n
		case strings.HasPrefix(s[i:], "\x1b\\"):
			return i + 2
		case unicode.IsControl(r):
			return 0
		}
		i += n
	}
	return 0
}
