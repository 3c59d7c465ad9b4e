package bot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// delivery sends what the bot says to one chat, and is the only place that retries. One budget serves all threads of the
// chat: edits share a slow lane, posts (decisions, results, failures) have a lane of their own, so that no amount of
// progress delays a result. A rate limit holds back both lanes, whoever met it. Posts to one place leave in the order in
// which they were asked for; a post that fails is tried again until its context ends.
type delivery struct {
	chat   Chat
	limits Limits
	mask   func(string) string
	log    *slog.Logger

	mu       sync.Mutex // guards what follows
	silent   time.Time  // nothing at all before this
	sent     int        // calls that the chat took
	nextEdit time.Time
	nextPost time.Time
	lines    map[Place]*line
}

// line is the queue in front of one place: whoever holds the baton posts.
type line struct {
	baton   chan struct{} // holds one token
	waiters int
}

func newDelivery(chat Chat, mask func(string) string, log *slog.Logger) *delivery {
	limits := SlowLimits
	if l, ok := chat.(Limited); ok {
		limits = l.Limits()
	}
	return &delivery{chat: chat, limits: limits, mask: mask, log: log, lines: map[Place]*line{}}
}

// post says t in p and returns the message's id. It returns an error only when ctx ends or trying again cannot help.
func (d *delivery) post(ctx context.Context, p Place, t Text) (string, error) {
	release, err := d.queue(ctx, p)
	if err != nil {
		return "", err
	}
	defer release()
	if t.Key == "" {
		t.Key = uuid.NewString()
	}
	t = d.clean(t)
	var id string
	post := func(ctx context.Context) (err error) {
		id, err = d.chat.Post(ctx, p, t)
		return err
	}
	err = d.try(ctx, "post", d.postSlot, post)
	if errors.Is(err, errRefused) {
		d.log.ErrorContext(ctx, "the chat refuses a message, a short one takes its place", "place", p.String(), "bytes", len(t.Body), "files", len(t.Files))
		t = Text{Body: cut(firstLine(t.Body), 110) + "\n(The chat refused the whole of this message; the log has more.)", Choices: t.Choices, Key: uuid.NewString()}
		err = d.try(ctx, "post", d.postSlot, post)
	}
	return id, err
}

// errRefused is a message that the chat does not take while it takes others. It must not hold up what is behind it.
var errRefused = errors.New("the chat takes other messages, but not this one")

// settle edits a message for certain, past the slow lane: a button that must go, a state that must be true.
func (d *delivery) settle(ctx context.Context, p Place, id string, t Text) error {
	t = d.clean(t)
	return d.try(ctx, "edit", d.postSlot, func(ctx context.Context) error { return d.chat.Edit(ctx, p, id, t) })
}

// try runs send until it succeeds, trying cannot help, or ctx ends. Each try waits for its slot.
func (d *delivery) try(ctx context.Context, what string, slot func() time.Time, send func(context.Context) error) error {
	before := d.taken(0)
	for attempt := 0; ; attempt++ {
		if err := d.wait(ctx, slot); err != nil {
			return err
		}
		err := d.once(ctx, send)
		if err == nil {
			d.taken(1)
		}
		if err == nil || final(err) {
			return err
		}
		if attempt >= 6 && d.taken(0) > before { // half a minute
			return errors.Join(errRefused, err)
		}
		pause := d.pause(err, attempt)
		d.log.WarnContext(ctx, "the chat did not take a message", "what", what, "attempt", attempt+1, "again_in", pause, "err", err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// taken adds n to the calls that the chat took, and returns their number.
func (d *delivery) taken(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent += n
	return d.sent
}

// once gives one call to the chat a deadline of its own: a hanging request must not hold the queue for ever.
func (d *delivery) once(ctx context.Context, send func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return send(ctx)
}

// final says that trying again cannot help.
func final(err error) bool {
	_, fatal := errors.AsType[*Fatal](err)
	return fatal || gone(err)
}

// pause notes a rate limit for everybody and says how long to wait before the next attempt.
func (d *delivery) pause(err error, attempt int) time.Duration {
	if busy, ok := errors.AsType[*Busy](err); ok {
		d.mu.Lock()
		defer d.mu.Unlock()
		if until := time.Now().Add(busy.After); until.After(d.silent) {
			d.silent = until
		}
		return 0 // wait sees it
	}
	return min(250*time.Millisecond<<min(attempt, 6), 15*time.Second)
}

// wait takes slots until one is not overtaken by a rate limit that was met while waiting for it.
func (d *delivery) wait(ctx context.Context, slot func() time.Time) error {
	for {
		if err := sleep(ctx, time.Until(slot())); err != nil {
			return err
		}
		d.mu.Lock()
		silent := time.Now().Before(d.silent)
		d.mu.Unlock()
		if !silent {
			return nil
		}
	}
}

func (d *delivery) postSlot() time.Time { return d.slot(&d.nextPost, d.limits.PostGap) }
func (d *delivery) editSlot() time.Time { return d.slot(&d.nextEdit, d.limits.EditGap) }

// slot reserves the next moment of a lane.
func (d *delivery) slot(next *time.Time, gap time.Duration) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := time.Now()
	for _, t := range []time.Time{*next, d.silent} {
		if t.After(at) {
			at = t
		}
	}
	*next = at.Add(gap)
	return at
}

// queue waits for p's turn to post; release lets the next one go.
func (d *delivery) queue(ctx context.Context, p Place) (release func(), err error) {
	d.mu.Lock()
	l := d.lines[p]
	if l == nil {
		l = &line{baton: make(chan struct{}, 1)}
		l.baton <- struct{}{}
		d.lines[p] = l
	}
	l.waiters++
	d.mu.Unlock()
	leave := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if l.waiters--; l.waiters == 0 {
			delete(d.lines, p)
		}
	}
	select {
	case <-l.baton: // goroutines blocked on one channel are served first come, first served
		return func() { l.baton <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// clean makes a text safe to show: own secrets masked, no control bytes.
func (d *delivery) clean(t Text) Text {
	t.Body = headline(printable(d.mask(t.Body)))
	for i, f := range t.Files {
		if isText(f.Type) {
			t.Files[i].Data = []byte(d.mask(string(f.Data)))
		}
	}
	return t
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("gave up waiting: %w", context.Cause(ctx))
	}
}
