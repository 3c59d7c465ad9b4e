package bot

import "time"

// pace says when the next call of a kind may start. With a budget it is a bucket below a window: while few calls were made
// lately they may follow each other closely, then ever less so, down to an even spacing that can go on for ever. So the
// first lines of a turn are quick, and a long turn never stands still for having been so.
type pace struct {
	gap  time.Duration // least time between two calls
	most int           // calls in any minute; 0 is any number

	last   time.Time
	level  float64     // calls that may still be made closely together; below zero after many that could not wait
	recent []time.Time // the calls of the last minute
}

// minute is a second more than one: the service counts calls when they arrive, not when they leave.
const minute = 61 * time.Second

// burst is how many calls may be made closely together, reserve how many of a minute's calls are left to those that
// cannot wait: a button that has to go, a last state.
func (p *pace) burst() int   { return max(1, p.most/5) }
func (p *pace) reserve() int { return p.most / 10 }

// even is the spacing that can go on for ever: burst and reserve and a call each even fit into one minute.
func (p *pace) even() time.Duration {
	return minute / time.Duration(max(1, p.most-p.burst()-p.reserve()))
}

// next is the earliest time of the next call; one that cannot wait keeps only to the limits themselves.
func (p *pace) next(urgent bool) time.Time {
	at := p.last.Add(p.gap)
	if p.most == 0 {
		return at
	}
	if n := len(p.recent); n >= p.most {
		at = latest(at, p.recent[n-p.most].Add(minute))
	}
	if urgent || p.last.IsZero() {
		return at
	}
	fill := max(0, p.level) / float64(p.burst())
	spacing := float64(p.even())*(1-fill) + float64(p.gap)*fill
	if p.level < 0 {
		spacing = float64(p.even()) * (1 - p.level)
	}
	return latest(at, p.last.Add(time.Duration(spacing)))
}

// take notes a call.
func (p *pace) take(now time.Time) {
	if p.most > 0 {
		p.level = min(float64(p.burst()), p.level+float64(now.Sub(p.last))/float64(p.even())) - 1
		for len(p.recent) > 0 && now.Sub(p.recent[0]) >= minute {
			p.recent = p.recent[1:]
		}
		p.recent = append(p.recent, now)
	}
	p.last = now
}

// slow notes that the service took less than we had thought: the close calls are used up.
func (p *pace) slow() { p.level = min(p.level, 0) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
