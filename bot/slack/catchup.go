package slack

import (
	"context"
	"fmt"
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
	} else {
		wakeUp(in.audience)
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
	var r *reading
	var failing time.Time // since when
	alarmed, pause := false, in.pace.readBack
	for wait(ctx, pause, in.gaps.wake) {
		pause = in.pace.readBack
		if in.channelState.bar() != nil {
			continue // nobody acts there now, so nothing was read, and the gap stays open
		}
		if r == nil {
			r = in.newReading()
		}
		if err := in.readBack(ctx, r); err != nil {
			if ctx.Err() != nil {
				return
			}
			pause = max(retry.pause(), time.Second)
			in.log.WarnContext(ctx, "the channel could not be read back", "again_in", pause, "err", err)
			in.look() // perhaps it is archived, or we are out of it
			if failing.IsZero() {
				failing = time.Now()
			} else if !alarmed && time.Since(failing) >= in.pace.grace {
				alarmed = true
				in.notice(ctx, "unread/"+stamp(time.Now()), "⚠️ I cannot read back what was said here: "+bot.Plain(err.Error(), 200)+".\nI keep trying. What stays unanswered, say again.")
			}
			continue
		}
		if r.young {
			again := in.newReading()
			again.found, again.cut = r.found, r.cut
			r, pause = again, in.pace.grace
			continue
		}
		in.gaps.close(r.upTo)
		text := recovered(r.away, r.found, !r.cut)
		if alarmed && text == "" {
			text = "I can read back what is said here again."
		}
		if text != "" {
			in.notice(ctx, "recovered/"+stamp(time.Now()), text)
		}
		retry.reset()
		r, alarmed, failing = nil, false, time.Time{}
		if _, _, more := in.gaps.open(); more { // it came while this one was read, and has perhaps woken us before
			pause = 0
		}
	}
}

// noteworthy is how long a gap without a loss must be before anybody hears of it.
const noteworthy = 2 * time.Minute

// recovered is what people are told after reading back, "" if that is nothing. A negative time means that nothing seemed
// wrong; whole says that everything was read.
func recovered(away time.Duration, found int, whole bool) string {
	messages, more := fmt.Sprintf("%d messages", found), ""
	if found == 1 {
		messages = "1 message"
	}
	if !whole {
		more = "\nMore was said than I read back: what stays unanswered, say again."
	}
	switch {
	case found == 0 && (away < 0 || whole && away < noteworthy):
		return ""
	case away < 0:
		return "Slack had not delivered " + messages + " to me; recovered by reading back." + more
	case away < time.Second:
		return "I was away for a moment, " + messages + " recovered." + more
	}
	what := ", " + messages + " recovered"
	if found == 0 && whole {
		what = ", nothing was missed"
	} else if found == 0 {
		what = ""
	}
	if away > readBackAtMost {
		what += " of the last day; what was said before stays unanswered"
	}
	return "I was away " + span(away) + what + "." + more
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
