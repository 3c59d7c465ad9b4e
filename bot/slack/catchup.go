package slack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"bgbot/bot"
)

// gaps are the times without a connection that were not read back yet.
type gaps struct {
	mu    sync.Mutex // guards what follows
	since time.Time  // when the first of them began; zero if that is not known
	until time.Time  // when the last of them ended; zero if there is none
	wake  chan struct{}
}

// gap says that nothing could be received since a moment, and now can again.
func (in *intake) gap(_ context.Context, since time.Time) {
	g := in.gaps
	if since.IsZero() { // the first connection
		since = in.lastAlive
	}
	g.mu.Lock()
	if g.until = time.Now(); g.since.IsZero() || !since.IsZero() && since.Before(g.since) {
		g.since = since
	}
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// open is the gap that is still to be read back, if there is one.
func (g *gaps) open() (since, until time.Time, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.since, g.until, !g.until.IsZero()
}

// forget closes all of them.
func (g *gaps) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.since, g.until = time.Time{}, time.Time{}
}

// close forgets a gap that was read back, unless it has become longer meanwhile.
func (g *gaps) close(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until.Equal(until) {
		g.since, g.until = time.Time{}, time.Time{}
	}
}

// catchUp reads back after each gap until ctx ends, and now and then without one: a socket may look alive and deliver
// nothing, for hours (openclaw#17847, slackapi/python-slack-sdk#1701).
func (in *intake) catchUp(ctx context.Context) {
	retry := backoff{least: time.Second, most: time.Minute}
	found, pause := 0, in.pace.readBack
	for wait(ctx, pause, in.gaps.wake) {
		if in.channelState.bar() != nil {
			pause = in.pace.readBack // nobody acts there now, so nothing was read, and the gap stays open
			continue
		}
		since, until, gap := in.gaps.open()
		upTo := until // what is said later arrives
		if !gap {
			upTo = time.Now().Add(-in.pace.grace)
		}
		n, err := in.readBack(ctx, upTo)
		found += n
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			pause = max(retry.pause(), time.Second)
			if busy, ok := errors.AsType[*bot.Busy](err); ok {
				pause = max(pause, busy.After)
			}
			in.log.WarnContext(ctx, "the channel could not be read back", "again_in", pause, "err", err)
			in.look() // perhaps it is archived, or we are out of it
			continue
		}
		away := time.Duration(-1)
		if gap {
			in.gaps.close(until)
			if away = 0; !since.IsZero() {
				away = until.Sub(since)
			}
		}
		if text := recovered(away, found); text != "" {
			in.notice(ctx, "recovered/"+stamp(time.Now()), text)
		}
		retry.reset()
		found, pause = 0, in.pace.readBack
	}
}

// noteworthy is how long a gap without a loss must be before anybody hears of it.
const noteworthy = 2 * time.Minute

// recovered is what people are told after reading back, "" if that is nothing. A negative time means that nothing seemed
// wrong.
func recovered(away time.Duration, found int) string {
	messages := fmt.Sprintf("%d messages", found)
	if found == 1 {
		messages = "1 message"
	}
	switch {
	case found == 0 && away < noteworthy:
		return ""
	case away < 0:
		return "Slack had not delivered " + messages + " to me; recovered by reading back."
	case away < time.Second:
		return "I was away for a moment, " + messages + " recovered."
	}
	what := messages + " recovered"
	if found == 0 {
		what = "nothing was missed"
	}
	if away > readBackAtMost {
		what += " of the last day; what was said before stays unanswered"
	}
	return "I was away " + span(away) + ", " + what + "."
}

// span is a length of time in words.
func span(d time.Duration) string {
	minutes := int(d.Minutes())
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case minutes < 60:
		return fmt.Sprintf("%d min", minutes)
	case minutes < 24*60:
		return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
	}
	return fmt.Sprintf("%d d %d h", minutes/(24*60), minutes/60%24)
}

// readBackAtMost is how far back is read: also for threads that began within it, whose newest reply the history shows.
const readBackAtMost = 24 * time.Hour

// readBack hands the core everything that people on the allowlist said between the mark and upTo and that did not arrive,
// the oldest first, and moves the mark when the core has it all. What arrives twice the core knows by its ID.
func (in *intake) readBack(ctx context.Context, upTo time.Time) (found int, err error) {
	mark := stamp(upTo.Add(in.clock.skew()))
	said, err := in.unread(ctx, in.ledger.since())
	if err != nil {
		return 0, err
	}
	slices.SortFunc(said, func(a, b object) int { return strings.Compare(a.text("ts"), b.text("ts")) })
	for _, ev := range said {
		if ev.text("ts") > mark {
			break
		}
		m, err := in.utterance(ev)
		if no, ok := errors.AsType[*refusal](err); ok && no.later {
			return found, err // nobody is passed over only because Slack does not answer
		}
		if err != nil || !in.people.listed(m.From.ID) || in.ledger.done(m.ID) {
			continue
		}
		m.Missed = true
		if err := in.handle(ctx, m); err != nil {
			return found, err
		}
		in.ledger.took(m)
		found++
	}
	in.ledger.readUpTo(mark)
	return found, nil
}

// unread is what stands in the channel and its threads since a timestamp.
func (in *intake) unread(ctx context.Context, since string) (said []object, err error) {
	dayAgo := stamp(in.clock.now().Add(-readBackAtMost))
	since = max(since, dayAgo)
	roots, err := in.pages(ctx, "conversations.history", url.Values{"channel": {in.channel}, "oldest": {dayAgo}})
	if err != nil {
		return nil, err
	}
	threads := in.ledger.threads()
	for _, root := range roots {
		ts := root.text("ts")
		if ts >= since {
			said = append(said, root)
		}
		threads = slices.DeleteFunc(threads, func(t string) bool { return t == ts })
		if root.set("reply_count") && cmp.Or(root.text("latest_reply"), since) >= since {
			threads = append(threads, ts)
		}
	}
	for _, ts := range threads {
		replies, err := in.pages(ctx, "conversations.replies", url.Values{"channel": {in.channel}, "ts": {ts}, "oldest": {since}})
		if no, ok := errors.AsType[*webError](err); ok && no.code == "thread_not_found" {
			continue // somebody deleted it
		}
		if err != nil {
			return nil, err
		}
		for _, r := range replies {
			if r.text("ts") >= since && r.text("ts") != ts { // the message that began it comes with every page
				said = append(said, r)
			}
		}
	}
	return said, nil
}

// mostPages bounds a reading back: 2,000 messages in a channel or thread.
const mostPages = 10

// pages reads all pages of a method that lists messages.
func (in *intake) pages(ctx context.Context, method string, args url.Values) (all []object, err error) {
	args.Set("limit", "200")
	for range mostPages {
		o, _, err := in.web.ask(ctx, method, args)
		if err != nil {
			return nil, err
		}
		for _, raw := range o.list("messages") {
			if ev, err := objectFrom(raw); err == nil {
				all = append(all, ev)
			}
		}
		next := o.in("response_metadata").text("next_cursor")
		if next == "" {
			return all, nil
		}
		args.Set("cursor", next)
	}
	in.log.WarnContext(ctx, "more was said than is read back", "method", method, "messages", len(all))
	return all, nil
}
