package main

import (
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/pve"
)

// TestTheLimitsFitEachOther: the agent's `ssh pve cycle` is ended neither by the wrapper nor by the CLI's Bash before
// the verb and the looking for SSH can be through.
func TestTheLimitsFitEachOther(t *testing.T) {
	const bash = 600 * time.Second // what the CLI allows at most (measured with CLI 2.1.330), and agentrun asks for
	wrapper := bot.Limit() + time.Minute
	if pve.Cycle.Limit() >= bot.Limit() || wrapper >= bash {
		t.Errorf("cycle %s, operation %s, wrapper %s, Bash %s: each must be longer than the one before",
			pve.Cycle.Limit(), bot.Limit(), wrapper, bash)
	}
}
