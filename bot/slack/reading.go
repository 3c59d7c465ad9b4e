package slack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bgbot/bot"
)

// reading is one reading back of the channel and its threads. It keeps how far it came, so that a failure or a rate limit
// costs the call that met it and nothing else: whoever fills the channel or begins many threads makes it slower, and
// cannot keep it from its end.
type reading struct {
	upTo  time.Time     // what is said later arrives
	mark  string        // upTo by Slack's clock
	away  time.Duration // how long nothing could be received; negative: nothing seemed wrong
	since string        // from here on it may be that something was missed
	day   string        // and from here on, that a thread began in which it was
	todo  []*conversation
	seen  map[string]bool // threads that were in todo, or need not be
	found int             // what the core had missed
	cut   bool            // more was said than is read back
	young bool            // something is so new that it may still arrive
}

// conversation is a thread, or the channel itself.
type conversation struct {
	thread string // what began it; "" for the channel
	cursor string // of the next page
	read   int    // how many messages
	size   int    // of a page
	whole  bool   // there is no page more
	said   []object
}

const (
	// readBackAtMost is how far back is read: also for threads that began within it, whose newest reply the history shows.
	readBackAtMost = 24 * time.Hour
	// pageSize is what Slack recommends at most (docs).
	pageSize = 200
)

// newReading begins with the threads in which people spoke lately if something may have been missed: a "stop" is there.
func (in *intake) newReading() *reading {
	since, until, gap := in.gaps.open()
	r := &reading{
		upTo: until, away: -1, seen: map[string]bool{},
		since: in.ledger.since(), day: stamp(in.clock.now().Add(-readBackAtMost)),
	}
	r.since = max(r.since, r.day)
	switch {
	case !gap:
		r.upTo = time.Now().Add(-in.pace.grace)
	case since.IsZero():
		r.away = 0
	default:
		r.away = until.Sub(since)
	}
	if gap {
		r.add(in.ledger.threads()...)
	}
	r.todo = append(r.todo, &conversation{size: pageSize})
	return r
}

// add has threads read.
func (r *reading) add(threads ...string) {
	for _, t := range threads {
		if !r.seen[t] {
			r.seen[t] = true
			r.todo = append(r.todo, &conversation{thread: t, size: pageSize})
		}
	}
}

// readBack hands the core everything that people on the allowlist said between the mark and upTo and that did not arrive,
// in each conversation the oldest first, and moves the mark when the core has it all. What arrives twice the core knows by
// its ID. After an error it goes on where it was.
func (in *intake) readBack(ctx context.Context, r *reading) error {
	for ; len(r.todo) > 0; r.todo = r.todo[1:] {
		c := r.todo[0]
		for !c.whole {
			if err := in.turnPage(ctx, r, c); err != nil {
				return err
			}
		}
		if r.mark == "" { // by what Slack's clock says now, which the pages have told
			r.mark = stamp(in.clock.slacks(r.upTo))
		}
		if err := in.handOver(ctx, r, c); err != nil {
			return err
		}
		if c.thread == "" {
			r.add(in.ledger.threads()...)
		}
	}
	in.ledger.readUpTo(min(r.mark, stamp(in.clock.now().Add(-in.pace.grace))))
	return nil
}

// handOver gives the core what it has not heard of a conversation.
func (in *intake) handOver(ctx context.Context, r *reading, c *conversation) error {
	slices.SortFunc(c.said, func(a, b object) int { return strings.Compare(a.text("ts"), b.text("ts")) })
	for ; len(c.said) > 0; c.said = c.said[1:] {
		ev := c.said[0]
		at, _ := moment(ev.text("ts"))
		switch {
		case ev.text("ts") > r.mark || in.ledger.done(ev.text("ts")):
			continue
		case in.clock.now().Sub(at) < in.pace.grace: // it is on its way; read back, a power verb would count as late
			r.young = true
			continue
		case c.thread == "" && in.answered(ev):
			in.log.WarnContext(ctx, "another program on this app has answered a message, so it is not read back", "message", ev.text("ts"))
			in.ledger.refused(ev.text("ts"))
			in.recount()
			continue
		}
		m, err := in.utterance(ev)
		if no, ok := errors.AsType[*refusal](err); ok && no.later {
			return err // nobody is passed over only because Slack does not answer
		}
		if err != nil {
			in.mourn(ctx, ev)
			continue
		}
		m.Missed = true
		if err := in.handle(ctx, m); err != nil {
			return err
		}
		in.ledger.took(m)
		r.found++
	}
	return nil
}

// answered says that our app has answered a message which never reached us, so another program on its tokens did: one that
// acts on it too, as nobody who only takes events away from us would. Where we have taken anything the answer may be ours.
func (in *intake) answered(ev object) bool {
	ours := func(raw json.RawMessage) bool { return string(raw) == strconv.Quote(in.user) }
	return slices.ContainsFunc(ev.list("reply_users"), ours) && !in.ledger.knows(ev.text("ts"))
}

// mourn tells somebody in the thread that what they said is not acted on, since they have changed it: what it was at first
// nobody knows any more.
func (in *intake) mourn(ctx context.Context, ev object) {
	user, ts := ev.text("user"), ev.text("ts")
	if !ev.set("edited") || ev.set("bot_id") || ev.set("app_id") {
		return
	}
	body := in.refusals.bound(user, "changed before it was read", "You said something that did not reach me and have changed it since; say it again.", time.Now())
	if body == "" {
		return
	}
	in.ledger.refused(ts)
	say := bot.Text{Body: body, Only: user}
	if _, err := in.post(ctx, in.place(cmp.Or(ev.text("thread_ts"), ts)), say); err != nil {
		in.log.WarnContext(ctx, "a refusal was not delivered", "err", err)
	}
}

// turnPage reads the next page of a conversation, and keeps of it what people on the allowlist said. The history comes
// newest first, a thread oldest first.
func (in *intake) turnPage(ctx context.Context, r *reading, c *conversation) error {
	o, err := in.askPage(ctx, r, c)
	if no, ok := errors.AsType[*webError](err); ok && c.thread != "" && no.code == "thread_not_found" {
		c.whole = true // somebody deleted it
		return nil
	}
	if err != nil {
		return err
	}
	oldest := ""
	for _, raw := range o.list("messages") {
		ev, err := objectFrom(raw)
		if err != nil {
			continue
		}
		oldest, c.read = ev.text("ts"), c.read+1
		if c.thread == "" {
			in.follow(r, ev)
		}
		if oldest >= r.since && oldest != c.thread && in.people.listed(ev.text("user")) { // what began a thread comes with every page
			c.said = append(c.said, ev)
		}
	}
	c.cursor = o.in("response_metadata").text("next_cursor")
	c.whole = c.cursor == ""
	if past := c.thread == "" && oldest < r.since; !c.whole && (c.read >= in.pace.most || past && c.read >= in.pace.most/10) {
		in.log.WarnContext(ctx, "more was said than is read back", "thread", c.thread, "messages", c.read)
		c.whole, r.cut = true, true
	}
	return nil
}

// follow has the thread read that a message of the channel began, if somebody on the allowlist may have replied lately.
func (in *intake) follow(r *reading, head object) {
	ts := head.text("ts")
	var who []string
	for _, raw := range head.list("reply_users") {
		who = append(who, strings.Trim(string(raw), `"`))
	}
	strangers := len(who) > 0 && string(head["reply_users_count"]) == strconv.Itoa(len(who)) && !slices.ContainsFunc(who, in.people.listed)
	if head.set("reply_count") && cmp.Or(head.text("latest_reply"), r.since) >= r.since && !strangers {
		r.add(ts)
	}
	r.seen[ts] = true
}

// askPage asks for one page. A rate limit is waited for; a page that is too long, or breaks off, is asked for again in half
// the size: 200 long posts have 90 MB.
func (in *intake) askPage(ctx context.Context, r *reading, c *conversation) (object, error) {
	method, args := "conversations.history", url.Values{"channel": {in.channel}, "oldest": {r.day}}
	if c.thread != "" {
		method = "conversations.replies"
		args = url.Values{"channel": {in.channel}, "ts": {c.thread}, "oldest": {r.since}}
	}
	if c.cursor != "" {
		args.Set("cursor", c.cursor)
	}
	for {
		args.Set("limit", strconv.Itoa(c.size))
		o, _, err := in.web.ask(ctx, method, args)
		if busy, ok := errors.AsType[*bot.Busy](err); ok {
			if err := pauseFor(ctx, busy.After); err != nil {
				return nil, err
			}
			continue
		}
		if errors.Is(err, errLong) && ctx.Err() == nil && c.size > 1 {
			c.size /= 2
			continue
		}
		if no, ok := errors.AsType[*webError](err); ok && no.code == "invalid_cursor" {
			*c = conversation{thread: c.thread, size: pageSize} // it has expired
		}
		return o, err
	}
}
