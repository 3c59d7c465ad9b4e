package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bgbot/pve/gate/host"
)

// probe is one question. It is given limit, and is left behind when it overruns it; what it then still finds is lost.
type probe struct {
	name  string
	limit time.Duration
	ask   func(ctx context.Context) finding
}

// finding is what a probe learnt. All of it may be set: an answer can break off in the middle.
type finding struct {
	text string
	put  func(*Capture) // into its place
	err  error
	void bool // this host has nothing of the kind, so nothing was asked
}

// gather asks all at once. Of the probes' goroutines nobody waits for one that hangs: nothing in user space can end it.
func (c *Capture) gather(ctx context.Context, probes []probe) {
	type answer struct {
		finding
		i    int
		took time.Duration
	}
	back := make(chan answer, len(probes)) // room for all, so that one that comes too late can end
	defer func() { c.Probes = slices.DeleteFunc(c.Probes, func(p Probe) bool { return p.Name == "" }) }()
	for i, p := range probes {
		c.Probes = append(c.Probes, Probe{Name: p.name, Missing: "no answer in time"})
		go func() {
			began := time.Now()
			f := p.bounded(ctx)
			back <- answer{f, i, time.Since(began)}
		}()
	}
	done := ctx.Done()
	var late <-chan time.Time
	for left := len(probes); left > 0; {
		select {
		case a := <-back:
			left--
			c.Probes[a.i] = answered(probes[a.i].name, a.text, a.err, a.took)
			if a.void {
				c.Probes[a.i] = Probe{}
			}
			if a.put != nil {
				a.put(c)
			}
		case <-done:
			done, late = nil, time.After(grace)
		case <-late:
			return
		}
	}
}

const grace = 250 * time.Millisecond // for probes to hand over what they have when the time is up

// bounded asks with a deadline, and survives a fault of our own: no evidence is worth more than the act that waits for it.
func (p probe) bounded(ctx context.Context) (f finding) {
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	f, err := host.Within(p.limit+grace, func() (f finding, err error) {
		defer func() {
			if broken := recover(); broken != nil {
				err = fmt.Errorf("the probe broke: %v", broken)
			}
		}()
		return p.ask(ctx), nil
	})
	f.err = errors.Join(f.err, err)
	return f
}

func answered(name, text string, err error, took time.Duration) Probe {
	p := Probe{Name: name, Text: clean(text), Took: took}
	if err != nil {
		p.Missing = line(firstLine(err.Error()))
	}
	return p
}

// pause waits, or ends early with the context; then it is false.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
