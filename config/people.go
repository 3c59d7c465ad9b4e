package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	slackID      = regexp.MustCompile(`^[UW][A-Z0-9]{6,}$`)
	slackOther   = regexp.MustCompile(`^[A-Z][A-Z0-9]{6,}$`)
	mattermostID = regexp.MustCompile(`^[a-z0-9]{26}$`)
)

// validate wants somebody at all, somebody in each chat, and nobody by a name that they can change.
func (a Auth) validate(chats []string, p *problems) {
	for _, chat := range chats {
		if len(a.in(chat)) == 0 {
			p.add("auth."+chat, "nobody may act in %s; list at least one user ID", chat)
		}
	}
	if len(chats) == 0 && len(slices.Concat(a.Slack, a.Mattermost, a.Console)) == 0 {
		p.add("auth", "nobody may act; list at least one user ID under auth.slack, auth.mattermost or auth.console")
	}
	for chat, id := range a.All() {
		if err := checkID(chat, id); err != nil {
			p.add("auth."+chat, "%s", err)
		}
	}
}

func checkID(chat, id string) error {
	if strings.TrimSpace(id) == "" {
		return fmt.Errorf("has an empty entry; remove it")
	}
	switch chat {
	case "slack":
		return checkSlackID(id)
	case "mattermost":
		if !mattermostID.MatchString(id) {
			return fmt.Errorf("%q is not a user ID but a name, which can be changed; give the 26 letters and digits that `mmctl user search NAME` shows", id)
		}
	default:
		if !userName.MatchString(id) {
			return fmt.Errorf("%q is not the name of a user of this machine", id)
		}
	}
	return nil
}

func checkSlackID(id string) error {
	switch {
	case slackID.MatchString(id):
		return nil
	case slackID.MatchString(strings.ToUpper(id)) && strings.ContainsAny(id, "0123456789"):
		return fmt.Errorf("%q is not a member ID; write it in capitals, %s", id, strings.ToUpper(id))
	case slackOther.MatchString(id) && strings.ContainsAny(id, "0123456789"):
		return fmt.Errorf("%q is the ID of something else; a member's begins with U or W", id)
	default:
		return fmt.Errorf("%q is a display name, which anybody can take; give the member ID, such as U0123456789 (in the profile: More, Copy member ID)", id)
	}
}
