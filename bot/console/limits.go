package console

import (
	"time"

	"bgbot/bot"
)

// Limits is fast: a terminal on this machine takes what a chat service would not, and only the eye is the limit.
func (c *Console) Limits() bot.Limits {
	return bot.Limits{EditGap: 100 * time.Millisecond, Tick: time.Second}
}
