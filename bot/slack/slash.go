package slack

import (
	"strings"

	"bgbot/bot"
)

// command is the one slash command. Slack cannot limit who types it or where: guests and every conversation are possible.
const command = "/vm"

// slash decodes a command. It carries no time, so a second delivery is as late as can be and does not run.
func (in *intake) slash(o object, e envelope) (bot.Message, error) {
	user := o.text("user_id")
	m := bot.Message{From: in.person(user), Place: in.place("")}
	switch {
	case o.text("team_id") != in.team, o.text("api_app_id") != in.app, o.set("is_enterprise_install") && o.text("is_enterprise_install") != "false":
		return m, refuse("a command from another installation")
	case o.text("command") != command:
		return m, refuse("another command")
	case !userPattern.MatchString(user) || o.text("trigger_id") == "":
		return m, refuse("a command from nobody")
	case o.wrong("text"):
		return m, refuse("a text that is no string")
	case o.text("channel_id") != in.channel:
		where := ""
		if in.people.listed(user) { // nobody else has to know where it is
			where = ": type this in <#" + in.channel + ">"
		}
		return m, refuseAloud("a command from another conversation", "I serve one channel only"+where+". Nothing was done.")
	}
	m.ID = "command/" + o.text("trigger_id") + "/" + user
	if e.Attempt > 0 {
		if in.taken.has(m.ID) {
			return m, uninteresting("a command that was taken before")
		}
		return m, refuseAloud("a command that comes late", "That command reached me late, and I run no late commands. Look here whether it has been answered; if not, type it again.")
	}
	if err := in.may(user); err != nil {
		return m, err
	}
	m.Name, m.At = in.people.name(user), e.Received
	m.Text = strings.TrimSpace(command + " " + in.plain(o.text("text")))
	return m, nil
}
