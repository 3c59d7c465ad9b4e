package slack

import (
	"net/http"
	"sync"
	"time"
)

// clock knows Slack's time, by the Date of its answers. Messages carry Slack's time, and the core asks how late they are by
// our own: without this, a box whose clock is ten minutes ahead would refuse every power verb as too late, and one that is
// behind would run what is stale. What was learned is carried on by the monotonic clock: a box that boots an hour behind
// has its clock set while we run, and a difference to it that was learned before would then be an hour wrong.
type clock struct {
	mu    sync.Mutex // guards what follows
	at    time.Time  // when we learned it last, with its monotonic reading; zero: never
	slack time.Time  // what it was for Slack then
}

// coarse is what a difference must exceed to be one: a Date has whole seconds, and an answer takes its time.
const coarse = 3 * time.Second

// learn takes the Date of an answer that came at got to a question asked at sent.
func (c *clock) learn(h http.Header, sent, got time.Time) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || got.Sub(sent) > coarse {
		return
	}
	at := sent.Add(got.Sub(sent) / 2)
	slack := date.Add(500 * time.Millisecond)
	if slack.Sub(at).Abs() < coarse {
		slack = at.Round(0)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.slack = at, slack
}

// skew is how far Slack's clock was ahead of ours when that was learned.
func (c *clock) skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slack.Sub(c.at.Round(0))
}

// now is Slack's time.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() {
		return time.Now()
	}
	return c.slack.Add(time.Since(c.at))
}

// ours is a time of Slack's by our clock.
func (c *clock) ours(t time.Time) time.Time { return time.Now().Add(t.Sub(c.now())) }

// slacks is a moment of this process, which has passed, by Slack's clock.
func (c *clock) slacks(t time.Time) time.Time { return c.now().Add(-max(0, time.Since(t))) }
