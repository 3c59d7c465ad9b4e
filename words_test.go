package bgbot_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"bgbot/agents"
	"bgbot/auth"
	"bgbot/bot"
	"bgbot/config"
	"bgbot/pve"
)

// A leaf imports nothing of ours, so some words stand in two of them. They have to stay the same words.

// refuses says whether config has something against a key with this value. All other keys are missing; that is no matter.
func refuses(t *testing.T, key, variable, value string) bool {
	t.Helper()
	_, err := config.Load("", []string{variable + "=" + value})
	invalid, ok := errors.AsType[*config.Invalid](err)
	if !ok {
		t.Fatalf("want *config.Invalid for an empty configuration, got %v", err)
	}
	return slices.ContainsFunc(invalid.Problems, func(line string) bool { return strings.HasPrefix(line, key) })
}

func TestConfigKnowsTheVerbsThatChange(t *testing.T) {
	t.Parallel()
	for _, v := range pve.Verbs() {
		if got := refuses(t, "confirm.verbs", "BGBOT_CONFIRM_VERBS", string(v)+"=any"); got == v.Changes() {
			t.Errorf("%s changes the VM: %v; confirm.verbs refuses it: %v", v, v.Changes(), got)
		}
	}
}

func TestConfigKnowsWhoMayConfirm(t *testing.T) {
	t.Parallel()
	for _, by := range []auth.By{auth.Requester, auth.Any, auth.Other, "nobody"} {
		_, err := auth.ParseBy(string(by))
		if got := refuses(t, "confirm.by", "BGBOT_CONFIRM_BY", string(by)); got != (err != nil) {
			t.Errorf("%s: auth says %v; confirm.by refuses it: %v", by, err, got)
		}
	}
}

func TestEveryoneKnowsThePowers(t *testing.T) {
	t.Parallel()
	for _, power := range []bot.Power{bot.Auto, bot.Ask, bot.ReadOnly} {
		if refuses(t, "agent.power", "BGBOT_AGENT_POWER", string(power)) {
			t.Errorf("config refuses %q", power)
		}
		if _, err := agents.Breakglass(agents.Params{VM: "x", Address: "y", VMID: 1, Power: string(power)}); err != nil {
			t.Errorf("the prompt has no sentence for %q: %v", power, err)
		}
	}
}
