package bot

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// live keeps messages in the chat equal to what draw returns, as fast as the budget allows: one write in flight, newest
// text wins. draw returns one text a page; pages are only ever appended. One goroutine owns the messages.
type live struct {
	d     *delivery
	place Place
	draw  func() []Text
	began func(id string) // the page that is the last one now is in the chat

	dirty   chan struct{}
	dropped atomic.Bool
	open    context.Context // ends with close: an edit that still waits for its slot gives way to the last state
	end     context.CancelFunc
	done    chan struct{}

	shown []page
	wrote time.Time // when the chat took something last
}

type page struct {
	id   string
	text Text
}

// show starts a live message. Nothing is posted before delay has passed, and nothing at all when close comes first.
// The caller must call close. ctx bounds every attempt to write; it should outlive the work that is shown.
func (d *delivery) show(ctx context.Context, p Place, delay time.Duration, draw func() []Text, began func(id string)) *live {
	l := &live{d: d, place: p, draw: draw, began: began, dirty: make(chan struct{}, 1), done: make(chan struct{})}
	l.open, l.end = context.WithCancel(ctx)
	l.touch()
	go func() {
		defer close(l.done)
		if sleep(l.open, delay) != nil {
			return
		}
		l.follow(ctx)
		if len(l.shown) > 0 || !l.dropped.Load() {
			l.finish(ctx)
		}
	}()
	return l
}

// touch says that draw would return something new.
func (l *live) touch() {
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

// close writes the last state for certain, then returns. It may be called more than once.
func (l *live) close() {
	l.end()
	<-l.done
}

// drop is close for whoever has something better to say: if nothing of it was even tried to be posted yet, nothing is, and
// it is false.
func (l *live) drop() (shown bool) {
	l.dropped.Store(true)
	l.close()
	return len(l.shown) > 0
}

// clockWait is how old a running clock may get while others use up all edits.
const clockWait = 30 * time.Second

// follow writes changes until close, one page at a time.
func (l *live) follow(ctx context.Context) {
	tick := time.NewTicker(l.d.limits.Tick)
	defer tick.Stop()
	for failed := 0; ; {
		select {
		case <-l.open.Done():
			return
		case <-tick.C:
			if time.Since(l.wrote) < clockWait && !l.d.edits.free() { // others have news, this is only a clock
				continue
			}
		case <-l.dirty:
		}
		some, err := l.bring(ctx)
		switch {
		case err == nil:
			failed = 0
		case final(err):
			return
		case l.open.Err() == nil:
			pause := l.d.pause(&l.d.edits, err, failed)
			failed++
			l.d.log.Log(ctx, loud(failed), "the chat did not take a live message", "again_in", pause, "err", err)
			if sleep(l.open, pause) != nil {
				return
			}
		}
		if some {
			l.touch() // there may be another page
		}
	}
}

// finish writes what is left until all pages are in the chat, or what it takes of them.
func (l *live) finish(ctx context.Context) {
	for i, t := l.next(); i >= 0; i, t = l.next() {
		if err := l.settle(ctx, i, t); err != nil {
			l.d.log.ErrorContext(ctx, "the last state of a live message is not in the chat", "err", err)
			return
		}
	}
}

// settle writes page i for certain; the result waits behind it.
func (l *live) settle(ctx context.Context, i int, t Text) error {
	if i >= len(l.shown) {
		return l.post(ctx, ctx, dueNow, i, t)
	}
	err := l.d.settle(ctx, l.place, l.shown[i].id, t)
	if gone(err) {
		return l.post(ctx, ctx, dueNow, i, t)
	}
	if err == nil {
		l.shown[i].text = t
	}
	return err
}

// bring writes the first page that is not in the chat as drawn, if there is one. It waits for its slot only until close; an
// edit then shows the newest text.
func (l *live) bring(ctx context.Context) (some bool, err error) {
	i, t := l.next()
	if i < 0 {
		return false, nil
	}
	if i >= len(l.shown) {
		return true, l.post(ctx, l.open, dueSoon, i, t)
	}
	ticket := l.d.edits.join(l, dueNow)
	defer l.d.edits.leave(ticket)
	if err := l.d.edits.slot(l.open, ticket); err != nil {
		return true, err
	}
	if i, t = l.next(); i < 0 {
		return false, nil
	}
	return true, l.write(ctx, i, t)
}

// next is the first page that is not in the chat as drawn; -1 means that all are.
func (l *live) next() (int, Text) {
	for i, t := range l.draw() {
		t = l.d.clean(t)
		if i >= len(l.shown) || !same(l.shown[i].text, t) {
			return i, t
		}
	}
	return -1, Text{}
}

// write edits page i. One that somebody deleted is posted anew.
func (l *live) write(ctx context.Context, i int, t Text) error {
	if i >= len(l.shown) {
		return l.post(ctx, ctx, dueNow, i, t)
	}
	err := l.d.once(ctx, &l.d.edits, func(ctx context.Context) error { return l.d.chat.Edit(ctx, l.place, l.shown[i].id, t) })
	if gone(err) {
		return l.post(ctx, ctx, dueNow, i, t)
	}
	if err == nil {
		l.shown[i].text, l.wrote = t, time.Now()
	}
	return err
}

// post says page i, which is not in the chat, if its turn comes while wait lasts.
func (l *live) post(ctx, wait context.Context, due time.Duration, i int, t Text) error {
	quiet := t
	quiet.Quiet = true
	id, err := l.d.postWhile(ctx, wait, due, l.place, quiet)
	if err != nil {
		return err
	}
	if i < len(l.shown) {
		l.shown[i] = page{id, t}
	} else {
		l.shown = append(l.shown, page{id, t})
	}
	l.wrote = time.Now()
	if i == len(l.shown)-1 && l.began != nil {
		l.began(id)
	}
	return nil
}

func gone(err error) bool {
	_, is := errors.AsType[*Gone](err)
	return is
}

func same(a, b Text) bool { return a.Body == b.Body && slices.Equal(a.Choices, b.Choices) }
