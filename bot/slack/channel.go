package slack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"bgbot/bot"
)

// condition is what Slack says of our channel. In any but usable nobody acts.
type condition string

const (
	usable   condition = ""
	shared   condition = "is shared with another workspace, or is about to be"
	archived condition = "is archived"
	absent   condition = "does not have me as a member"
	missing  condition = "does not exist, or is private and does not have me as a member"
)

// mends say what to do about a condition.
var mends = map[condition]string{
	shared:   "Stop sharing it, or set slack.channel to a private channel of this workspace alone. In Slack Connect, outsiders are ordinary IDs that can press buttons.",
	archived: "Unarchive it, or set slack.channel to another one.",
	absent:   "Type /invite @bgbot in it.",
	missing:  "Type /invite @bgbot in it, or mend slack.channel: it is the channel's ID (C…), which Slack shows at the bottom of the channel's details.",
}

// channel is what Slack said of our channel last.
type channel struct {
	mu sync.Mutex // guards what follows
	is condition
	at time.Time // when Slack said so
}

// learn notes what the channel is, and returns what it was.
func (c *channel) learn(is condition, at time.Time) (was condition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, c.is = c.is, is
	if at.After(c.at) {
		c.at = at
	}
	return was
}

func (c *channel) now() condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.is
}

// bar is an error while nobody may act in the channel, whoever they are. What Slack said counts as long as it does of
// [people].
func (c *channel) bar() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch age := time.Since(c.at); {
	case c.is == shared:
		return refuseAloud("the channel is shared", "Nothing was done: this channel "+string(shared)+", and I act in none that is.")
	case c.is == archived:
		return refuseAloud("the channel is archived", "Nothing was done: my channel is archived. Unarchive it.")
	case c.is != usable: // Slack goes on delivering commands and the page's clicks
		return refuseAloud("the channel "+string(c.is), "Nothing was done: I am not in my channel any more. Type /invite @bgbot there.")
	case age > trusted:
		return refuseForNow("the channel's record is too old", fmt.Sprintf("Nothing was done: I have to check now and then that nobody else can write here, and Slack has not answered that for %d min. I keep asking; use `bgbot console` until then.", int(age.Minutes())))
	}
	return nil
}

// conditionOf reads the answer of conversations.info.
func conditionOf(info object, h home) condition {
	if slices.ContainsFunc([]string{"is_shared", "is_ext_shared", "is_pending_ext_shared", "is_org_shared", "is_global_shared"}, info.set) {
		return shared
	}
	for _, teams := range []string{"shared_team_ids", "connected_team_ids", "pending_connected_team_ids", "pending_shared"} {
		if info.set(teams) && string(info[teams]) != `["`+h.team+`"]` {
			return shared
		}
	}
	switch {
	case info.other("context_team_id", h.team):
		return shared
	case info.text("id") != h.channel, info.set("is_im"), info.set("is_mpim"):
		return missing
	case info.set("is_archived"):
		return archived
	case !info.yes("is_member"):
		return absent
	}
	return usable
}

// askChannel asks Slack what our channel is now.
func askChannel(ctx context.Context, w *web, h home) (is condition, private bool, err error) {
	o, _, err := w.ask(ctx, "conversations.info", url.Values{"channel": {h.channel}})
	if no, ok := errors.AsType[*webError](err); ok && no.code == "channel_not_found" {
		return missing, true, nil
	}
	if err != nil {
		return missing, true, err
	}
	info := o.in("channel")
	return conditionOf(info, h), info.yes("is_private"), nil
}

// turn notes what the channel is and tells whom it concerns. In a channel that we may still write to, that is the
// channel; else it is the log alone.
func (in *intake) turn(ctx context.Context, is condition, at time.Time) {
	if is == usable && in.channelState.now() == shared {
		in.ledger.skip(in.clock.now()) // what was said while others could write stays unsaid; first, or a reading back takes it
		in.gaps.forget()
	}
	was := in.channelState.learn(is, at)
	if was == is {
		return
	}
	in.log.WarnContext(ctx, "the channel has changed", "now", string(is), "before", string(was))
	id := "channel/" + stamp(time.Now())
	switch {
	case is == shared:
		in.notice(ctx, id, "⚠️ This channel "+string(is)+", so I act on nothing here, whoever says it. "+mends[is])
	case is != usable:
		in.log.ErrorContext(ctx, "nobody can reach the bot in its channel", "channel", string(is), "mend", mends[is])
	case was == shared:
		in.notice(ctx, id, "✅ This channel belongs to this workspace alone again: I act on what is said from now on.")
	default:
		in.gap(ctx, time.Now())
	}
}

// watch keeps what Slack says of the channel and of the people current until ctx ends. Its error is a token that Slack
// does not take any more.
func (in *intake) watch(ctx context.Context, complete bool) error {
	pause := in.pace.look
	if !complete {
		pause = in.pace.lookAgain
	}
	failed, last := "", time.Time{}
	for wait(ctx, pause, in.stale) && wait(ctx, time.Until(last.Add(in.pace.lookGap)), nil) {
		last = time.Now()
		err := in.lookAround(ctx)
		if _, fatal := errors.AsType[*bot.Fatal](err); fatal {
			return err
		}
		pause = in.pace.look
		text := ""
		if err != nil {
			pause, text = in.pace.lookAgain, err.Error()
		}
		if text != failed && err != nil && ctx.Err() == nil {
			in.log.WarnContext(ctx, "the channel and the people could not be looked at", "err", err)
		}
		failed = text
	}
	return nil
}

// wait returns after some time, or when somebody wakes it; it is false once ctx has ended.
func wait(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timer.C:
	}
	return ctx.Err() == nil
}

// lookAround asks once for the channel and the people.
func (in *intake) lookAround(ctx context.Context) error {
	is, _, err := askChannel(ctx, in.web, in.home)
	if err == nil {
		in.turn(ctx, is, time.Now())
	}
	return errors.Join(err, in.people.refresh(ctx))
}
