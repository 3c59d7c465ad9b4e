package slack

import (
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What the app may do is what start-up wants, and what it hears is what somebody here understands.
func TestTheManifest(t *testing.T) {
	t.Parallel()
	for _, public := range []bool{false, true} {
		var m struct {
			DisplayInformation struct{ Name, Description string } `yaml:"display_information"`
			Features           struct {
				AppHome       map[string]bool     `yaml:"app_home"`
				BotUser       map[string]any      `yaml:"bot_user"`
				SlashCommands []map[string]string `yaml:"slash_commands"`
			}
			OauthConfig struct {
				Scopes map[string][]string
			} `yaml:"oauth_config"`
			Settings struct {
				EventSubscriptions map[string][]string `yaml:"event_subscriptions"`
				Interactivity      map[string]bool
				OrgDeploy          *bool `yaml:"org_deploy_enabled"`
				SocketMode         bool  `yaml:"socket_mode_enabled"`
				TokenRotation      *bool `yaml:"token_rotation_enabled"`
			}
		}
		if err := yaml.Unmarshal([]byte(Manifest(public)), &m); err != nil {
			t.Fatal(err)
		}
		if got := m.OauthConfig.Scopes; len(got) != 1 || !slices.Equal(got["bot"], wantedScopes(public)) {
			t.Errorf("scopes %v, want %v for the bot alone", got, wantedScopes(public))
		}
		if got := m.Settings.EventSubscriptions; len(got) != 1 || !slices.Equal(got["bot_events"], wantedEvents(public)) {
			t.Errorf("events %v", got)
		}
		if c := m.Features.SlashCommands; len(c) != 1 || c[0]["command"] != command || c[0]["url"] != "" {
			t.Errorf("commands %v", c)
		}
		s := m.Settings
		if !s.SocketMode || !s.Interactivity["is_enabled"] || s.OrgDeploy == nil || *s.OrgDeploy || s.TokenRotation == nil || *s.TokenRotation {
			t.Errorf("settings %+v", s)
		}
		if h := m.Features.AppHome; !h["home_tab_enabled"] || h["messages_tab_enabled"] {
			t.Errorf("home %v", h)
		}
		if m.Features.BotUser["display_name"] != "bgbot" || m.DisplayInformation.Name != "bgbot" || len(m.DisplayInformation.Description) > 140 {
			t.Errorf("display %+v, %v", m.DisplayInformation, m.Features.BotUser)
		}
	}
	for _, name := range slices.Concat(wantedEvents(false), wantedEvents(true)) {
		if name == "message.groups" || name == "message.channels" {
			continue
		}
		in, _ := newIntake(t)
		_, err := in.event(t.Context(), mustObject(t, wrap(fields{"type": name, "user": operator, "channel": ourChannel, "tab": "home", "event_ts": ago(0)})))
		if err != nil {
			t.Errorf("nobody understands %s: %v", name, err)
		}
	}
}

func mustObject(t *testing.T, f fields) object {
	t.Helper()
	o, err := objectFrom(f.raw())
	if err != nil {
		t.Fatal(err)
	}
	return o
}
