package slack

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
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
		if strings.HasPrefix(ev.text("subtype"), "channel_convert_to_") {
			wakeUp(in.audience)
		}
		return in.message(ctx, o, ev)
	case "app_home_opened":
		return in.homeOpened(ev)
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
	if in.arrivals.add(user, time.Now()) {
		in.wg.Go(in.announce)
	}
	return bot.Message{}, nil
}

// arrivals are strangers who came into the channel. Whoever comes and goes must not make us talk: each is announced once
// an hour, and those who come soon after one another together.
type arrivals struct {
	mu      sync.Mutex           // guards what follows
	told    map[string]time.Time // and who waits to be
	waiting []string
	telling bool
}

const (
	arrivalAgain = time.Hour
	namedAtMost  = 5 // in one announcement
)

// add notes somebody; begin says that nobody is announcing yet.
func (a *arrivals) add(user string, now time.Time) (begin bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.note(user, now) {
		return false
	}
	a.waiting = append(a.waiting, user)
	begin, a.telling = !a.telling, true
	return begin
}

// note says that somebody was not told of lately, and is now. Called with mu held.
func (a *arrivals) note(user string, now time.Time) bool {
	maps.DeleteFunc(a.told, func(_ string, at time.Time) bool { return now.Sub(at) > arrivalAgain })
	if _, known := a.told[user]; known {
		return false
	}
	if a.told == nil {
		a.told = map[string]time.Time{}
	}
	a.told[user] = now
	return true
}

// next are those who wait; if there are none, announcing has ended.
func (a *arrivals) next() (users []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	users, a.waiting = a.waiting, nil
	a.telling = len(users) > 0
	return users
}

// announce names strangers, until there are no more. Who they are is asked behind the acknowledgement: the warning does
// not hang on the answer.
func (in *intake) announce() {
	for users := in.arrivals.next(); len(users) > 0; users = in.arrivals.next() {
		ctx, cancel := context.WithTimeout(in.ctx, httpLimit)
		var named []string
		for _, user := range users[:min(len(users), namedAtMost)] {
			named = append(named, in.stranger(ctx, user))
		}
		who, what := named[0], "they are not on the allowlist (auth.slack), so I do nothing for them."
		if n := len(users); n > 1 {
			who = fmt.Sprintf("%d people (%s", n, strings.Join(named, ", "))
			if n > namedAtMost {
				who += ", …"
			}
			who += ")"
		}
		in.notice(ctx, "joined/"+users[0]+"/"+stamp(time.Now()), "⚠️ "+who+" joined this channel and can read everything here; "+what)
		cancel()
		if !wait(in.ctx, in.pace.merge, nil) {
			return
		}
	}
}

// stranger is how somebody is named: their name is what they like it to be.
func (in *intake) stranger(ctx context.Context, user string) string {
	r, err := in.people.read(ctx, user)
	is := bot.Plain(in.people.name(user), 40) + " (" + user
	if err == nil && r.barred != "" {
		is += ", whose account " + r.barred
	}
	return is + ")"
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
