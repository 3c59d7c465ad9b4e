package pve

import "time"

// Keepalive sets the pace at which a client asks for signs of life, before its first use.
func (c *Client) Keepalive(every, limit time.Duration) {
	c.keepaliveEvery, c.keepaliveLimit = every, limit
}
