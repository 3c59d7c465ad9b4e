package slack

import (
	"net/http"
	"testing"
	"time"
)

// A box whose clock is wrong does not call a new message old, nor an old one new.
func TestSlacksClockCounts(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{0, 10 * time.Minute, -10 * time.Minute} {
		in, _ := newIntake(t)
		now := time.Now()
		in.clock.learn(http.Header{"Date": {now.Add(skew).UTC().Format(http.TimeFormat)}}, now, now.Add(50*time.Millisecond))
		at, late, err := in.timely(stamp(now.Add(skew)))
		if err != nil || late.Abs() > 3*time.Second || now.Sub(at).Abs() > 3*time.Second {
			t.Errorf("skew %s: at %s, late %s, %v", skew, at.Sub(now), late, err)
		}
		if _, late, _ = in.timely(stamp(now.Add(skew - 5*time.Minute))); late < young {
			t.Errorf("skew %s: five minutes are %s", skew, late)
		}
		if _, _, err = in.timely(stamp(now.Add(skew + 5*time.Minute))); err == nil {
			t.Errorf("skew %s: the future was believed", skew)
		}
	}
	var c clock
	c.learn(http.Header{}, time.Now(), time.Now())
	c.learn(http.Header{"Date": {"x"}}, time.Now(), time.Now())
	c.learn(http.Header{"Date": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}, time.Now(), time.Now().Add(8*time.Second)) // an answer that took too long
	if c.skew() != 0 {
		t.Errorf("it learned %s from nothing", c.skew())
	}
}
