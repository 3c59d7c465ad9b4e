package slack

import (
	"slices"
	"strings"
)

// wantedScopes are what the bot token may do: nothing is missing, nothing is there that nobody needs.
func wantedScopes(public bool) []string {
	kind := "groups"
	if public {
		kind = "channels"
	}
	return []string{"chat:write", "commands", "files:write", kind + ":history", kind + ":read", "users:read"}
}

// wantedEvents are what Slack tells the bot.
func wantedEvents(public bool) []string {
	kind, messages := "group", "message.groups"
	if public {
		kind, messages = "channel", "message.channels"
	}
	events := []string{"app_home_opened", "app_uninstalled", "channel_shared", "channel_unshared", "member_joined_channel", "member_left_channel", "tokens_revoked", messages}
	for _, what := range []string{"archive", "deleted", "left", "unarchive"} {
		events = append(events, kind+"_"+what)
	}
	slices.Sort(events)
	return events
}

// Manifest is the app as api.slack.com/apps takes it (Create New App, From a manifest), in YAML. The channel should be
// private; public is for one that is not.
func Manifest(public bool) string {
	list := func(words []string) string { return "      - " + strings.Join(words, "\n      - ") + "\n" }
	return strings.NewReplacer("SCOPES\n", list(wantedScopes(public)), "EVENTS\n", list(wantedEvents(public))).Replace(manifest)
}

const manifest = `display_information:
  name: bgbot
  description: Break glass. Looks into a wedged VM, repairs it, restarts it.
  background_color: "#7a1f1f"
features:
  app_home:
    home_tab_enabled: true
    messages_tab_enabled: false
  bot_user:
    display_name: bgbot
    always_online: true
  slash_commands:
    - command: /vm
      description: Look at the VM, or restart it
      usage_hint: "status | forensics | start | reset | stop | cycle"
      should_escape: true
oauth_config:
  scopes:
    bot:
SCOPES
settings:
  event_subscriptions:
    bot_events:
EVENTS
  interactivity:
    is_enabled: true
  org_deploy_enabled: false
  socket_mode_enabled: true
  token_rotation_enabled: false
`
