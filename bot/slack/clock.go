package slack

import (
	"net/http"
	"sync/atomic"
	"time"
)

// clock knows how far Slack's clock is from ours, by the Date of its answers. Messages carry Slack's time, and the core
// asks how late they are by our own: without this, a box whose clock is ten minutes ahead would refuse every power verb
// as too late, and one that is behind would run what is stale.
type clock struct{ ahead atomic.Int64 } // Slack's clock minus ours, in nanoseconds

// coarse is what a difference must exceed to be one: a Date has whole seconds, and an answer takes its time.
const coarse = 3 * time.Second

// learn takes the Date of an answer that came at got to a question asked at sent.
func (c *clock) learn(h http.Header, sent, got time.Time) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || got.Sub(sent) > coarse {
		return
	}
	ahead := date.Add(500 * time.Millisecond).Sub(sent.Add(got.Sub(sent) / 2))
	if ahead.Abs() < coarse {
		ahead = 0
	}
	c.ahead.Store(int64(ahead))
}

func (c *clock) skew() time.Duration { return time.Duration(c.ahead.Load()) }

// now is Slack's time.
func (c *clock) now() time.Time { return time.Now().Add(c.skew()) }

// ours is a time of Slack's by our clock.
func (c *clock) ours(t time.Time) time.Time { return t.Add(-c.skew()) }
