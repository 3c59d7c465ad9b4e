package evidence

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxSection = 24 << 10 // of one probe's answer
	maxReport  = 600 << 10
)

// clean makes foreign text fit to print: valid UTF-8, no escape sequences, no control or invisible characters, and no
// more than a section may have. It keeps the end of a longer one, where a log is newest.
func clean(text string) string {
	if len(text) > 4*maxSection { // the rest would be work for nothing
		// A line without its beginning may be a secret without its name.
		_, text, _ = strings.Cut(text[len(text)-4*maxSection:], "\n")
	}
	text = escapes.ReplaceAllString(strings.ToValidUTF8(text, "\uFFFD"), "")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\u2028' || r == '\u2029', unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, text)
	return newest(redact(text), maxSection)
}

// line is clean for a name or another thing that has no more than a line.
func line(text string) string {
	const most = 200
	return short(strings.Join(strings.Fields(clean(text)), " "), most)
}

// short keeps the first n characters at most.
func short(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}

// newest keeps the last n bytes at most, and whole characters.
func newest(text string, n int) string {
	if len(text) <= n {
		return text
	}
	text = text[len(text)-n:]
	for len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	return "[…]" + text
}

var (
	escapes = regexp.MustCompile(`\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])`)
	// Lines of qm config and qm pending that may hold secrets, and the free text in which people note them. What follows one
	// and is no line of its own belongs to it.
	secretLine = regexp.MustCompile(`^((?:cur |new |del )?(?:cipassword|sshkeys|args|description)): `)
	configLine = regexp.MustCompile(`^(?:cur |new |del )?[a-z][a-z0-9_-]*: `)
	// The same in a command line of QEMU, as a failed start prints it, and in what other programs log.
	secretWords = []*regexp.Regexp{
		regexp.MustCompile(`()\{[^{}]*"qom-type":\s*"secret[^{}]*\}`),
		regexp.MustCompile(`(\bsecret,)\S+`),
		regexp.MustCompile(`(?i)((?:^|[\s,;:?&'"])[\w.-]*(?:password|passwd|passphrase|secret|token|api[-_]?key)["']?\s?[=:]\s?["']?)[^\s,;:&'"]+`),
		// A Ceph key in a drive, rbd:pool/image:id=admin:key=AQ…, and in a keyring; iSCSI's in a URL is below.
		regexp.MustCompile(`(?i)((?:^|[\s,;:?&'"])key["']?\s?[=:]\s?["']?)[^\s,;:&'"]+`),
		regexp.MustCompile(`(://[^\s/:@]*:)[^\s/@]+`),
		regexp.MustCompile(`(-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]*`),
	}
)

// redact takes secrets out.
func redact(text string) string {
	b := &strings.Builder{}
	hidden := false
	for line := range strings.Lines(text) {
		if found := secretLine.FindStringSubmatch(line); found != nil {
			hidden = true
			b.WriteString(found[1] + ": [redacted]\n")
			continue
		}
		if hidden = hidden && !configLine.MatchString(line); !hidden {
			b.WriteString(line)
		}
	}
	text = b.String()
	for _, secret := range secretWords {
		text = secret.ReplaceAllString(text, "${1}[redacted]")
	}
	return text
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
