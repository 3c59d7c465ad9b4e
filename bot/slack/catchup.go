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
	since time.Time  // of the first of them; zero if there is none
	until time.Time  // of the last
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

// take returns how long nobody listened, and forgets it.
func (g *gaps) take() (away time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.since.IsZero() {
		away = g.until.Sub(g.since)
	}
	g.since = time.Time{}
	return away
}

// readBackEvery is how often the channel is read back though nothing seems wrong: a socket may look alive and deliver
// nothing, for hours (openclaw#17847, slackapi/python-slack-sdk#1701).
const readBackEvery = 5 * time.Minute

// catchUp reads back after each gap, and now and then without one, until ctx ends.
func (in *intake) catchUp(ctx context.Context) {
	retry := backoff{least: time.Second, most: time.Minute}
	found, pause := 0, readBackEvery
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-in.gaps.wake:
			timer.Stop()
		case <-timer.C:
		}
		n, err := in.readBack(ctx)
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
		if text := recovered(in.gaps.take(), found); text != "" {
			in.notice(ctx, "recovered/"+stamp(time.Now()), text)
		}
		retry.reset()
		found, pause = 0, readBackEvery
	}
}

// noteworthy is how long a gap without a loss must be before anybody hears of it.
const noteworthy = 2 * time.Minute

// recovered is what people are told after reading back, "" if that is nothing.
func recovered(away time.Duration, found int) string {
	messages := fmt.Sprintf("%d messages", found)
	if found == 1 {
		messages = "1 message"
	}
	switch {
	case found == 0 && away < noteworthy:
		return ""
	case found == 0:
		return "I was away " + span(away) + ", nothing was missed."
	case away < time.Second:
		return "Slack had not delivered " + messages + " to me; recovered by reading back."
	}
	text := "I was away " + span(away) + ", " + messages + " recovered."
	if away > readBackAtMost {
		text += " What was said more than a day ago stays unanswered."
	}
	return text
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

// readBack hands the core everything that people on the allowlist said since the mark and that did not arrive, the oldest
// first, and moves the mark when the core has it all. What arrives twice the core knows by its ID.
func (in *intake) readBack(ctx context.Context) (found int, err error) {
	if err := in.channelState.bar(); err != nil {
		return 0, nil //nolint:nilerr // nobody acts there now; whoever opens it again asks for a reading back
	}
	said, upTo, err := in.unread(ctx, in.ledger.since())
	if err != nil {
		return 0, err
	}
	slices.SortFunc(said, func(a, b object) int { return strings.Compare(a.text("ts"), b.text("ts")) })
	for _, ev := range said {
		m, err := in.utterance(ev)
		if no, ok := errors.AsType[*refusal](err); ok && no.later {
			return found, err // nobody is passed over only because Slack does not answer
		}
		if err != nil || !in.people.listed(m.From.ID) || in.ledger.has(m.ID) {
			continue
		}
		m.Missed = true
		if err := in.handle(ctx, m); err != nil {
			return found, err
		}
		in.ledger.took(m)
		found++
	}
	in.ledger.readUpTo(upTo)
	return found, nil
}

// unread is what stands in the channel and its threads since a timestamp, and the time up to which that is all. The time
// is Slack's own, of the first answer: a thread read later may hold something newer, but nothing older is left out.
func (in *intake) unread(ctx context.Context, since string) (said []object, upTo string, err error) {
	asked := in.clock.now()
	dayAgo := stamp(asked.Add(-readBackAtMost))
	since = max(since, dayAgo)
	roots, err := in.pages(ctx, "conversations.history", url.Values{"channel": {in.channel}, "oldest": {dayAgo}})
	if err != nil {
		return nil, "", err
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
			return nil, "", err
		}
		for _, r := range replies {
			if r.text("ts") >= since && r.text("ts") != ts { // the message that began it comes with every page
				said = append(said, r)
			}
		}
	}
	return said, stamp(asked), nil
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
