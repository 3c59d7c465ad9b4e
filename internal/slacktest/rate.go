package slacktest

import (
	"math"
	"time"
)

// Rate is a token bucket.
type Rate struct {
	PerMinute float64
	Burst     float64
}

// Rates is how fast each method may be called; the key "chat.postMessage channel" is for posts to one channel. A method
// that is missing has no limit, and Rates without a key none at all.
type Rates map[string]Rate

// channelKey is where the limit of posts to one channel stands.
const channelKey = "chat.postMessage channel"

// Nominal is Slack's published tiers; how much of a burst is allowed on top is not published.
func Nominal() Rates {
	tier2, tier3, tier4 := Rate{20, 5}, Rate{50, 10}, Rate{100, 20}
	r := Rates{channelKey: {60, 5}, "chat.postMessage": {300, 30}, "chat.getPermalink": {600, 60}, "assistant.threads.setStatus": {600, 60}}
	for rate, methods := range map[Rate][]string{
		tier2: {"chat.startStream", "chat.stopStream"},
		tier3: {
			"apps.connections.open", "chat.update", "chat.delete", "conversations.info", "conversations.history",
			"conversations.replies", "reactions.add", "reactions.remove", "team.info", "bots.info",
		},
		tier4: {
			"auth.test", "chat.postEphemeral", "chat.appendStream", "conversations.members", "users.info", "views.publish", "views.open",
			"views.update", "views.push", "files.getUploadURLExternal", "files.completeUploadExternal", "agents.sessions.setStatus",
		},
	} {
		for _, m := range methods {
			r[m] = rate
		}
	}
	return r
}

// SetRates changes the limits and fills all buckets.
func (s *Server) SetRates(r Rates) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rates, s.buckets, s.blocked = r, map[string]*bucket{}, map[string]time.Time{}
}

type bucket struct {
	tokens float64
	at     time.Time
}

// limit takes a token for the call, or gives the seconds of a Retry-After. The lock is held by the caller.
func (s *Server) limit(c *call) int {
	keys := []string{c.method}
	if c.method == "chat.postMessage" {
		keys = append(keys, channelKey+" "+c.arg("channel"))
	}
	now := time.Now()
	wait := 0.0
	for _, key := range keys {
		if b, rate := s.bucket(key, now); b != nil && b.tokens < 1 {
			wait = max(wait, (1-b.tokens)*60/rate.PerMinute)
			s.calls[c.index].Inside = s.calls[c.index].Inside || now.Before(s.blocked[key])
			s.blocked[key] = later(s.blocked[key], now.Add(seconds(retryAfter(wait))))
		}
	}
	if wait > 0 {
		return retryAfter(wait)
	}
	for _, key := range keys {
		// A token may be there before the whole seconds of the Retry-After have passed: the call works and was still too early.
		s.calls[c.index].Inside = s.calls[c.index].Inside || now.Before(s.blocked[key])
		if b, _ := s.bucket(key, now); b != nil {
			b.tokens--
		}
	}
	return 0
}

func (s *Server) bucket(key string, now time.Time) (*bucket, Rate) {
	rate, ok := s.rates[key]
	if !ok && len(key) > len(channelKey) {
		rate, ok = s.rates[channelKey]
	}
	if !ok {
		return nil, rate
	}
	b := s.buckets[key]
	if b == nil {
		b = &bucket{tokens: rate.Burst, at: now}
		s.buckets[key] = b
	}
	b.tokens = min(rate.Burst, b.tokens+now.Sub(b.at).Minutes()*rate.PerMinute)
	b.at = now
	return b, rate
}

func retryAfter(wait float64) int { return max(1, int(math.Ceil(wait))) }

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
