package slack

import (
	"context"
	"fmt"
	"time"

	"bgbot/bot"
)

// event decodes what happened in the workspace. A message without an ID and without an error is nothing for the core.
func (in *intake) event(ctx context.Context, o object) (bot.Message, error) {
	if o.text("type") == "app_rate_limited" {
		return in.rateLimited(o)
	}
	if err := in.wrapped(o); err != nil {
		return bot.Message{}, err
	}
	ev := o.in("event")
	switch kind := ev.text("type"); kind {
	case "message":
		return in.message(ctx, o, ev)
	case "app_home_opened":
		return in.homeOpened(ev)
	case "agent_session_stopped":
		return in.stopped(ev)
	case "member_joined_channel":
		return in.joined(ev)
	case "channel_shared":
		if ev.text("channel") == in.channel {
			in.turn(ctx, shared, time.Time{})
		}
		fallthrough
	case "channel_unshared", "channel_id_changed", "member_left_channel", "app_uninstalled", "tokens_revoked",
		"group_archive", "group_unarchive", "group_left", "group_deleted",
		"channel_archive", "channel_unarchive", "channel_left", "channel_deleted":
		in.look()
		return bot.Message{}, nil
	default:
		return bot.Message{}, refuse("an unknown event")
	}
}

// homeOpened is somebody who looks at the bot's own page.
func (in *intake) homeOpened(ev object) (bot.Message, error) {
	user := ev.text("user")
	m := bot.Message{ID: "home/" + user + "/" + ev.text("event_ts"), Place: in.place(""), From: in.person(user), Name: in.people.name(user), Home: true}
	if ev.text("tab") != "home" || !userPattern.MatchString(user) {
		return bot.Message{}, refuse("another page")
	}
	at, _, err := in.timely(ev.text("event_ts"))
	if err != nil {
		return m, err
	}
	m.At = at
	return m, in.may(user)
}

// stopped is the Stop button that Slack itself shows beside a stream.
func (in *intake) stopped(ev object) (bot.Message, error) {
	user, thread := ev.text("user"), ev.text("thread_ts")
	m := bot.Message{ID: "stopped/" + thread + "/" + ev.text("event_ts"), Place: in.place(thread), From: in.person(user), Name: in.people.name(user), Text: "stop"}
	if _, ok := moment(thread); !ok || ev.text("channel") != in.channel || !userPattern.MatchString(user) {
		return bot.Message{}, refuse("a stop of nothing here")
	}
	at, _, err := in.timely(ev.text("event_ts"))
	if err != nil {
		return m, err
	}
	m.At = at
	return m, in.may(user)
}

// joined announces who came into the channel and is not on the allowlist: from now on they read everything.
func (in *intake) joined(ev object) (bot.Message, error) {
	user := ev.text("user")
	switch {
	case ev.text("channel") != in.channel:
		return bot.Message{}, uninteresting("another channel")
	case user == in.user:
		in.look()
		return bot.Message{}, nil
	case in.people.listed(user):
		return bot.Message{}, nil
	case !userPattern.MatchString(user):
		return bot.Message{}, refuse("nobody joined")
	}
	in.look() // they may be the first from elsewhere
	in.behind(func(ctx context.Context) { in.announce(ctx, user, ev) })
	return bot.Message{}, nil
}

// announce names a stranger. Who they are is asked behind the acknowledgement: the warning does not hang on the answer.
func (in *intake) announce(ctx context.Context, user string, ev object) {
	what := ""
	r, err := in.people.read(ctx, user)
	if err == nil && r.barred != "" {
		what = " Their account " + r.barred + "."
	}
	text := fmt.Sprintf("⚠️ %s (%s) joined this channel and can read everything here; they are not on the allowlist (auth.slack), so I do nothing for them.%s", in.people.name(user), user, what)
	in.notice(ctx, "joined/"+user+"/"+ev.text("event_ts"), text)
}

// rateLimited is Slack keeping events from us.
func (in *intake) rateLimited(o object) (bot.Message, error) {
	if o.text("team_id") != in.team || o.text("api_app_id") != in.app {
		return bot.Message{}, refuse("another app's rate limit")
	}
	return bot.Message{
		ID: fmt.Sprintf("rate-limited/%.20s", o["minute_rate_limited"]), Place: in.place(""), At: time.Now(),
		Notice: "⚠️ Slack holds back what is said here, since it has more than 30,000 events an hour for me. I read the channel again every few minutes; `bgbot console` is faster.",
	}, nil
}

// notice says something to the channel that nobody asked for.
func (in *intake) notice(ctx context.Context, id, text string) {
	if err := in.handle(ctx, bot.Message{ID: id, Place: in.place(""), At: time.Now(), Notice: text}); err != nil {
		in.log.WarnContext(ctx, "a notice was not taken", "err", err)
	}
}
