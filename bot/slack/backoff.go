package slack

import (
	"math/rand/v2"
	"time"
)

// backoff spaces the attempts to connect, the successful ones too: Slack may accept a socket and end it at once, and a
// client that only counts failed dials then asks for a new one 2,600 times a second (measured with slack-go v0.35.0).
// The first attempt, and the first after a healthy socket, waits for nothing.
type backoff struct {
	least, most time.Duration
	tries       int
}

// pause says how long to wait before the next attempt, and counts that attempt. No two bots wait equally long.
func (b *backoff) pause() time.Duration {
	n := b.tries
	b.tries++
	if n == 0 {
		return 0
	}
	d := min(b.least<<min(n-1, 20), b.most)
	return d*2/3 + rand.N(d*2/3) //nolint:gosec // jitter needs no secrecy
}

// ease takes back attempts until the next pause is no longer than most, so that a Slack which was away is met soon.
func (b *backoff) ease(most time.Duration) {
	for b.tries > 1 && b.least<<min(b.tries-1, 20) > most {
		b.tries--
	}
}

// unreached is an attempt that did not come as far as Slack. Repeating it soon costs nobody anything; what Slack itself
// answers or ends is repeated ever more slowly.
type unreached struct{ error }

func (e *unreached) Unwrap() error { return e.error }

// reset follows a socket that stayed healthy.
func (b *backoff) reset() { b.tries = 0 }

// exhaust makes the next pauses the longest ones.
func (b *backoff) exhaust() { b.tries = max(b.tries, 20) }
