package bot

import (
	"context"
	"time"

	"bgbot/auth"
)

// refuse tells somebody that they may not. It is recorded the first times and counted every time.
func (b *Bot) refuse(ctx context.Context, m Message, c command, err error) (act func()) {
	e := b.entry(m.Place, m.From, string(c.act()), "", "refused", cut(b.safe(m.Text+m.Click), 200))
	if m.At.After(e.At) { // our clock is behind that of the chat, which [store.Store.Refused] is asked by
		e.At = m.At
	}
	switch {
	case b.Store.Refuse(ctx, m.ID, e), !b.tells(m.From):
		return func() {}
	case c.kind == home || m.onPage(): // and nothing of what the page shows to others
		return func() { b.draw(m.From, Text{Body: "⛔ " + message(err)}) }
	default:
		return func() { b.answer(m, message(err)) }
	}
}

// tells says whether somebody who may not act is told so again: a bot that posts each second must not fill the lane of
// decisions with refusals.
func (b *Bot) tells(who auth.Person) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.refused[who]
	if time.Since(r.since) > 10*time.Minute {
		r = refusals{since: time.Now()}
	}
	r.told++
	if len(b.refused) > 1000 {
		clear(b.refused)
	}
	b.refused[who] = r
	return r.told <= 3
}

// refusals counts what somebody was refused in one window of time.
type refusals struct {
	since time.Time
	told  int
}
