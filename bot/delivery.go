package bot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// delivery sends what the bot says to one chat, and is the only place that retries. Each kind of call has a lane that all
// threads of the chat share, so that no amount of progress (edits) delays a decision, a result or a failure (posts). Posts
// to one place leave in the order in which they were asked for; a post that fails is tried again until its context ends.
type delivery struct {
	chat   Chat
	limits Limits
	mask   func(string) string
	log    *slog.Logger

	posts  lane
	asides lane // posts for one person alone
	edits  lane
	pages  lane // of people
}

// How soon a call is due: what waits longest goes first, and this is added to when it began to wait.
const (
	dueNow  = 0
	dueSoon = time.Minute // a page of progress: what is said to a person goes before it, also when many begin at once
	overdue = -time.Hour  // an edit that must be: a button that has to go, a state that must be true
)

func newDelivery(chat Chat, mask func(string) string, log *slog.Logger) *delivery {
	limits := SlowLimits
	if l, ok := chat.(Limited); ok {
		limits = l.Limits()
	}
	return &delivery{
		chat: chat, limits: limits, mask: mask, log: log,
		posts: lane{pace: pace{gap: limits.PostGap}}, asides: lane{pace: pace{gap: limits.PostGap}},
		edits: lane{pace: pace{gap: limits.EditGap, most: limits.EditsPerMinute}},
	}
}

// asideLife is how long an answer to one person is tried: then they have asked again, or somebody else. Such an answer is
// refused for reasons that others know nothing of (whoever left the channel gets none), so nobody else waits behind it.
const asideLife = 2 * time.Minute

var errAside = errors.New("nobody waits for an answer of their own so long")

// post says t in p and returns the message's id. It returns an error only when ctx ends, trying again cannot help, or an
// answer to one person has been tried for asideLife.
func (d *delivery) post(ctx context.Context, p Place, t Text) (string, error) {
	due := time.Duration(dueNow)
	if t.Quiet {
		due = dueSoon
	}
	return d.postWhile(ctx, ctx, due, p, t)
}

// postWhile is post that gives up when wanted ends before the first try. Once tried the message may be there.
func (d *delivery) postWhile(ctx, wanted context.Context, due time.Duration, p Place, t Text) (string, error) {
	l, line := &d.posts, any(p)
	if t.Only != "" {
		l, line = &d.asides, t.Only
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, asideLife, errAside)
		defer cancel()
		wanted = ctx
	}
	ticket := l.join(line, due)
	defer l.leave(ticket)
	if t.Key == "" {
		t.Key = uuid.NewString()
	}
	t = d.clean(t)
	var id string
	post := func(ctx context.Context) (err error) {
		id, err = d.chat.Post(ctx, p, t)
		return err
	}
	err := d.try(ctx, wanted, "post", l, ticket, post)
	if errors.Is(err, errRefused) {
		d.log.ErrorContext(ctx, "the chat refuses a message, a short one takes its place", "place", p.String(), "text", cut(t.Body, mostLogged), "files", len(t.Files))
		t = shortened(t)
		err = d.try(ctx, ctx, "post", l, ticket, post)
	}
	if errors.Is(err, errRefused) && len(t.Files) > 0 { // perhaps for their sake
		t.Files, t.Key = nil, uuid.NewString()
		err = d.try(ctx, ctx, "post", l, ticket, post)
	}
	return id, err
}

// fileWait is how long an answer waits for its files to be there before it.
const fileWait = 10 * time.Second

// file puts files into p where they would else ring behind what they belong to; true means that they are there. It tries
// once: what they belong to must not wait for them, and takes them along if they are not there.
func (d *delivery) file(ctx context.Context, p Place, files []File) bool {
	chat, ok := d.chat.(Filing)
	if !ok || len(files) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, fileWait)
	defer cancel()
	err := chat.File(ctx, p, d.clean(Text{Files: files}).Files)
	if err != nil {
		d.log.WarnContext(ctx, "files come behind their message", "place", p.String(), "err", err)
	}
	return err == nil
}

// home draws a page, once; pages of one person follow each other.
func (d *delivery) home(ctx context.Context, person string, t Text) error {
	chat, ok := d.chat.(Homed)
	if !ok {
		return nil
	}
	t = d.clean(t)
	ticket := d.pages.join(person, dueNow)
	defer d.pages.leave(ticket)
	if err := d.pages.slot(ctx, ticket); err != nil {
		return err
	}
	err := d.once(ctx, &d.pages, func(ctx context.Context) error { return chat.Home(ctx, person, t) })
	d.pause(&d.pages, err, 0) // notes a rate limit; a page is not worth another try
	return err
}

// errRefused is a message that the chat does not take while it takes others. It must not hold up what is behind it.
var errRefused = errors.New("the chat takes other messages, but not this one")

// mostLogged is how much of a message that is refused the log has, in runes: elsewhere it is lost.
const mostLogged = 20_000

// shortened is what takes the place of a message that is refused: its state, its buttons, and its files, which may be the
// evidence.
func shortened(t Text) Text {
	t.Body, t.Key = cut(firstLine(t.Body), 110)+"\n(The chat refused the whole of this message; the log has more.)", uuid.NewString()
	return t
}

// settle edits a message for certain, before all progress: a button that must go, a state that must be true.
func (d *delivery) settle(ctx context.Context, p Place, id string, t Text) error {
	t = d.clean(t)
	ticket := d.edits.join(id, overdue)
	defer d.edits.leave(ticket)
	edit := func(ctx context.Context) error { return d.chat.Edit(ctx, p, id, t) }
	err := d.try(ctx, ctx, "edit", &d.edits, ticket, edit)
	if errors.Is(err, errRefused) {
		d.log.ErrorContext(ctx, "the chat refuses an edit, a short one takes its place", "place", p.String(), "text", cut(t.Body, mostLogged))
		t = shortened(t)
		err = d.try(ctx, ctx, "edit", &d.edits, ticket, edit)
	}
	return err
}

// try runs send until it succeeds, trying cannot help, or ctx ends, or wanted before the first try. Each try waits for its
// slot. That the chat is busy is no refusal, and only calls of the same kind that it takes meanwhile prove that it takes
// others: a channel where nobody may post (restricted_action) still takes edits. One that it took is not enough: it may be
// down since, or just be coming back. A [Refused] message needs no such proof: where only one thread is at work, none would
// come.
func (d *delivery) try(ctx, wanted context.Context, what string, l *lane, t *ticket, send func(context.Context) error) error {
	var refused, others int // the failures, and those before which the chat took others since the failure before
	var took int64
	for {
		if err := l.slot(wanted, t); err != nil {
			return err
		}
		wanted = ctx
		err := d.once(ctx, l, send)
		if err == nil || final(err) {
			return err
		}
		pause := d.pause(l, err, refused)
		if _, busy := errors.AsType[*Busy](err); !busy {
			now := l.took.Load()
			if refused++; refused > 1 && now > took {
				others++
			}
			took = now
			_, told := errors.AsType[*Refused](err)
			if told && refused > 2 || refused > 7 && others >= 3 { // some 20 s
				return errors.Join(errRefused, err)
			}
		}
		d.log.Log(ctx, loud(refused), "the chat did not take a message", "what", what, "refused", refused, "again_in", pause, "err", err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// loud is how the log has a try that failed: a chat may be away for days, and then a line a minute is enough.
func loud(tries int) slog.Level {
	if tries <= 6 || tries%12 == 0 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// once gives one call to the chat a deadline of its own: a hanging request must not hold the queue for ever.
func (d *delivery) once(ctx context.Context, l *lane, send func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	err := send(ctx)
	if err == nil {
		l.took.Add(1)
	}
	return err
}

// final says that trying again cannot help.
func final(err error) bool {
	_, fatal := errors.AsType[*Fatal](err)
	return fatal || gone(err)
}

// pause notes a rate limit for everybody and says how long to wait before the next attempt.
func (d *delivery) pause(l *lane, err error, attempt int) time.Duration {
	busy, ok := errors.AsType[*Busy](err)
	if !ok {
		return min(250*time.Millisecond<<min(attempt, 5), 5*time.Second) // a chat that comes back is soon noticed
	}
	for _, held := range []*lane{&d.posts, &d.asides, &d.edits, &d.pages} {
		if held == l || !d.limits.Apart {
			held.hold(busy.After)
		}
	}
	return 0 // the lane waits
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
