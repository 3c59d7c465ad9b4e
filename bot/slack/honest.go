package slack

import (
	"regexp"
	"strings"
)

var (
	shownLink   = regexp.MustCompile(`^(!?)\[((?:[^\[\]\\]|\\.)*)\]\(\s*<?([^()\s<>]*(?:\([^()\s<>]*\)[^()\s<>]*)*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)`)
	definition  = regexp.MustCompile(`^\[[^\]\n]+\]:`)
	addressLike = regexp.MustCompile(`(?i)https?:|mailto:|//|@|[\p{L}\p{N}][.。․．｡]\p{L}{2}|(?:[0-9]{1,3}\.){3}[0-9]`)
	scheme      = regexp.MustCompile(`(?i)^(?:https?://|mailto:)(?:www\.)?`)
	emphasized  = strings.NewReplacer("*", "", "_", "", "~", "", "`", "")
)

// misleads says that a link's label looks like an address, and like another one than where the link goes.
func misleads(label, target string) bool {
	label = emphasized.Replace(bare(label))
	strip := func(s string) string { return strings.TrimSuffix(scheme.ReplaceAllString(s, ""), "/") }
	return addressLike.MatchString(label) && strip(label) != strip(target)
}

// anchor writes what begins with a bracket and returns its length, 0 if that is no link or picture. A link that misleads
// shows where it goes, and so does a picture: it would be fetched by everybody who looks, from wherever the text says.
// What the label of a link holds beyond plain text is not read here; such a link is taken apart by [prose].
func anchor(b *strings.Builder, s string) int {
	m := shownLink.FindStringSubmatch(s)
	if m == nil {
		return 0
	}
	label, target := m[2], m[3]
	if m[1] == "" && !misleads(label, target) {
		b.WriteByte('[')
		prose(b, label, "")
		b.WriteString(m[0][1+len(label):])
		return len(m[0])
	}
	prose(b, label, "")
	if label != "" {
		b.WriteByte(' ')
	}
	b.WriteString("(" + target + ")")
	return len(m[0])
}
