package bot

import (
	"context"
	"time"

	"bgbot/pve"
)

// How long a card waits for what the host says of the VM, and how long that is worth waiting for at all. A gate that is
// well takes 2 to 2.6 s for a status (measured): it counts blocks twice for its verdict.
const (
	factsWait  = 6 * time.Second
	factsAgain = 3 * time.Second // when something is known from before
	factsMost  = 20 * time.Second
)

// sight is what a look at the VM has shown; the zero value is none.
type sight struct {
	result pve.Result
	at     time.Time
}

// sightLife is how long that is worth showing, with its age, where there is nothing newer.
const sightLife = 2 * time.Minute

// inquiry is a status that is under way, for all who ask meanwhile: the gate lets only a few look at once, and each open
// page and card would be one of them.
type inquiry struct {
	asked   time.Time
	waiting []chan facts
}

// inquire asks the host how the VM is. There is exactly one answer, within factsMost.
func (b *Bot) inquire() <-chan facts {
	news := make(chan facts, 1)
	b.mu.Lock()
	if q := b.inquiry; q != nil && q.asked.After(b.changed) { // otherwise its answer is of before a change
		q.waiting = append(q.waiting, news)
		b.mu.Unlock()
		return news
	}
	q := &inquiry{asked: time.Now(), waiting: []chan facts{news}}
	b.inquiry = q
	b.mu.Unlock()
	if !b.start(func() { b.answerAll(q, b.look()) }) {
		b.answerAll(q, facts{late: true})
	}
	return news
}

// look is one status of the host. A host that has too many at once says nothing about the VM by that.
func (b *Bot) look() facts {
	ctx, cancel := context.WithTimeout(b.work, factsMost)
	defer cancel()
	asked := time.Now()
	report, err := b.Gate.Run(ctx, pve.Status, nil)
	b.saw(report.Result, err, asked)
	f := factsOf(report.Result)
	if f.err = err; err == nil && f.Exit == pve.Busy {
		f.err = &says{firstLine(f.Text)}
	}
	return f
}

func (b *Bot) answerAll(q *inquiry, f facts) {
	b.mu.Lock()
	if b.inquiry == q {
		b.inquiry = nil
	}
	waiting := q.waiting
	b.mu.Unlock()
	for _, news := range waiting {
		news <- f
	}
}

// factsSoon waits a moment for the answer; known means that it is in. What is missing of it is taken from before.
func (b *Bot) factsSoon(news <-chan facts) (f facts, known bool) {
	wait := factsWait
	if before := b.orBefore(facts{late: true}); !before.seen.IsZero() {
		wait = factsAgain
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case f = <-news:
		return b.orBefore(f), true
	case <-timer.C:
		return b.orBefore(facts{late: true}), false
	}
}

// orBefore is f, or what was seen shortly before if the host says nothing: no change is asked for without a verdict while
// there is one.
func (b *Bot) orBefore(f facts) facts {
	if !f.late && f.err == nil {
		return f
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sight.at.IsZero() || time.Since(b.sight.at) > sightLife {
		return f
	}
	before := factsOf(b.sight.result)
	before.late, before.err, before.seen = f.late, f.err, b.sight.at
	return before
}

// saw remembers what a look has shown, unless a change began or ended since it was asked for.
func (b *Bot) saw(r pve.Result, err error, asked time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && r.Exit == pve.Done && asked.After(b.changed) {
		b.sight = sight{result: r, at: time.Now()}
	}
}

// unsee forgets it: a change begins, or has ended.
func (b *Bot) unsee() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sight, b.changed = sight{}, time.Now()
}
