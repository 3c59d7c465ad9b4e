package slack

import (
	"regexp"
	"strings"
)

// marked is one of Slack's escapes in a text: a person, a channel, a group, a date or a link, and how it is shown.
var marked = regexp.MustCompile(`<([^<>|\n]+)(?:\|([^<>\n]*))?>`)

// unescape undoes the only three characters that Slack escapes.
var unescape = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&")

// plain is what the person typed: without Slack's escapes, and without our own name in front.
func (in *intake) plain(text string) string {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "<@"+in.user+">"); ok {
		text = strings.TrimLeft(rest, ":, \u00a0")
	}
	text = marked.ReplaceAllStringFunc(text, func(s string) string {
		m := marked.FindStringSubmatch(s)
		return in.unmark(m[1], m[2])
	})
	return strings.TrimSpace(unescape.Replace(text))
}

// unmark is one escape as a person would type it.
func (in *intake) unmark(target, label string) string {
	switch target[0] {
	case '@':
		if label == "" {
			label = in.people.name(target[1:])
		}
		return "@" + strings.TrimPrefix(label, "@")
	case '#':
		if label == "" {
			label = target[1:]
		}
		return "#" + strings.TrimPrefix(label, "#")
	case '!':
		if label == "" {
			label, _, _ = strings.Cut(target[1:], "^")
			return "@" + label
		}
		return label
	}
	bare := target
	for _, scheme := range []string{"https://", "http://", "mailto:", "tel:"} {
		bare = strings.TrimPrefix(bare, scheme)
	}
	switch strings.TrimSuffix(label, "/") {
	case "":
		return target
	case strings.TrimSuffix(bare, "/"), strings.TrimSuffix(target, "/"):
		return label // Slack made a link of what looks like one: a host's name, a unit such as nginx.service
	default:
		return label + " (" + target + ")"
	}
}
