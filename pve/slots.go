package pve

import (
	"errors"
	"slices"
)

// What one link carries. sshd allows 10 sessions on a connection (MaxSessions, sshd_config(5)) and notices the end of
// one later than we do. Some room is for changes alone, so that they need not wait for a new link either.
const (
	maxSessions = 8
	maxReads    = 6
	maxRetired  = 3 // links that only wait for the end of what they carry
)

var (
	errForsaken = errors.New("nobody listens on it any more")
	errMadeRoom = errors.New("it was cut to make room for a change")
)

// admit begins a session for the verb on l. If there is no room it returns none, and a channel that is closed when it is
// worth to try again.
func (c *Client) admit(l *link, v Verb) (s *session, again <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, errClosed
	}
	select {
	case <-l.retired:
		return nil, l.retired, nil
	default:
	}
	if !l.room(v) {
		if c.retire(l, v) {
			return nil, l.retired, nil
		}
		return nil, c.freed, nil
	}
	s = newSession(l, v)
	l.sessions[s] = true
	c.wg.Go(func() {
		s.run(l.client, string(v))
		c.ended(s) // before anybody hears of the end: one that is over is not forsaken
		close(s.lines)
	})
	return s, nil, nil
}

// ended gives back the room of a session that is over.
func (c *Client) ended(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(s.link.sessions, s)
	c.settle(s.link)
}

// leave says that nobody listens to the session any more. It may hold its room until the host ends it, which for a gate
// with a thread stuck in the host's disk is never.
func (c *Client) leave(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(s.left)
	if s.link.sessions[s] {
		s.link.sessions[s] = false
	}
	c.settle(s.link)
}

// retire takes a full link out of use: new sessions get another one. It refuses while all that is on the link is
// listened to, unless a change would have to wait. c.mu is held.
func (c *Client) retire(l *link, v Verb) bool {
	if !v.Changes() && !l.any(func(_ Verb, heard bool) bool { return !heard }) {
		return false
	}
	if len(c.old) >= maxRetired {
		reads := slices.IndexFunc(c.old, func(o *link) bool {
			return !o.any(func(v Verb, heard bool) bool { return heard && v.Changes() })
		})
		if !v.Changes() || reads < 0 {
			return false
		}
		c.old[reads].fail(errMadeRoom) // what it carries is asked once more
		c.old = slices.Delete(c.old, reads, reads+1)
	}
	if c.link == l {
		c.link = nil
	}
	close(l.retired)
	c.old = append(c.old, l)
	c.settle(l)
	return true
}

// settle ends a retired link to which nobody listens, and wakes those who wait for room. c.mu is held.
func (c *Client) settle(l *link) {
	if i := slices.Index(c.old, l); i >= 0 && !l.heard() {
		c.old = slices.Delete(c.old, i, i+1)
		l.fail(errForsaken)
	}
	close(c.freed)
	c.freed = make(chan struct{})
}

// busy says whether somebody listens to a session on the link.
func (c *Client) busy(l *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return l.heard()
}

// room says whether the link may carry one more session for the verb; Client.mu is held.
func (l *link) room(v Verb) bool {
	reads := 0
	for s := range l.sessions {
		if !s.verb.Changes() {
			reads++
		}
	}
	return len(l.sessions) < maxSessions && (v.Changes() || reads < maxReads)
}

func (l *link) heard() bool { return l.any(func(_ Verb, heard bool) bool { return heard }) }

// any says whether a session on the link is such a one; Client.mu is held.
func (l *link) any(such func(v Verb, heard bool) bool) bool {
	for s, heard := range l.sessions {
		if such(s.verb, heard) {
			return true
		}
	}
	return false
}
