// Package seldom keeps what somebody else can cause as often as they like from filling a log.
package seldom

import (
	"sync"
	"time"
)

// Pace lets through one a second. The zero Pace is ready.
type Pace struct {
	mu   sync.Mutex
	next time.Time
	left int
}

// At says whether it is time again, and then how many were left out since the last time.
func (p *Pace) At(now time.Time) (leftOut int, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.next) {
		p.left++
		return 0, false
	}
	leftOut, p.left, p.next = p.left, 0, now.Add(time.Second)
	return leftOut, true
}
