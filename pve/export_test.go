package pve

import "time"

// Keepalive sets the pace at which a client asks for signs of life, before its first use.
func (c *Client) Keepalive(every, limit time.Duration) {
	c.keepaliveEvery, c.keepaliveLimit = every, limit
}

// Hurry sets how long the parts of a run may take, the budget being the same for all verbs, before its first use. It
// returns the longest run that this makes.
func (c *Client) Hurry(budget, link, grace, patience time.Duration) (limit func(Verb) time.Duration) {
	c.pace = pace{func(Verb) time.Duration { return budget }, link, grace, patience, 50 * time.Millisecond}
	return c.pace.limit
}
