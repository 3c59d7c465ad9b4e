package slack

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"bgbot/auth"
	"bgbot/bot"
)

// home is who and where the bot is. It is pinned at start by the bot token and the configuration, never by a payload.
type home struct {
	team, user, bot, app string
	channel              string
}

func (h home) person(id string) auth.Person { return auth.Person{Chat: chatName, ID: id} }
func (h home) place(thread string) bot.Place {
	return bot.Place{Chat: chatName, Channel: h.channel, Thread: thread}
}

// refusal says why a payload does not act.
type refusal struct {
	why   string // for the log; nothing of the payload is in it
	say   string // to the person alone; "" says nothing
	level slog.Level
	later bool // the same payload may act once Slack answers again
}

func (r *refusal) Error() string { return r.why }

func refuse(why string) error           { return &refusal{why: why, level: slog.LevelInfo} }
func refuseAloud(why, say string) error { return &refusal{why: why, say: say, level: slog.LevelWarn} }

func refuseForNow(why, say string) error {
	return &refusal{why: why, say: say, level: slog.LevelWarn, later: true}
}
func uninteresting(why string) error { return &refusal{why: why, level: slog.LevelDebug} }

// The bounds of what still counts as said now. Slack sends an event again for some minutes after a gap, and [Chat] reads
// back a day; the core decides what of that still runs.
const (
	oldest     = 26 * time.Hour  // older than this nothing is said any more
	young      = time.Minute     // older than this a message was missed, and a click is refused
	fromFuture = 2 * time.Minute // Slack's clock is one clock: a later time than its own is forged or broken
)

// wrapped checks what surrounds an event: it is for us, from our workspace, and to nobody else.
func (in *intake) wrapped(o object) error {
	switch {
	case o.text("type") != "event_callback":
		return refuse("no event_callback")
	case o.text("team_id") != in.team:
		return refuse("another workspace's event")
	case o.text("api_app_id") != in.app:
		return refuse("another app's event")
	case o.other("context_team_id", in.team):
		return refuse("context_team_id is another workspace")
	}
	authorizations := o.list("authorizations")
	if len(authorizations) == 0 {
		return refuse("an event without an authorization")
	}
	for _, raw := range authorizations {
		a, err := objectFrom(raw)
		if err != nil || a.text("team_id") != in.team || a.text("user_id") != in.user || a.set("is_enterprise_install") {
			return refuse("authorized by another installation")
		}
	}
	return nil
}

// forbidden are the fields that no message has which a person types. A post made by any app with a person's own token
// carries that person's user and is told by bot_id or app_id alone (anneschuth/claude-threads#526; one of the two may be
// missing, omnigent#4425).
var forbidden = []string{"bot_id", "app_id", "bot_profile", "workflow_id", "username", "edited", "hidden"}

// about are the subtypes that tell of another message, whose author is not whoever did that. Each edit of ours brings one
// (measured), so they are not worth a line in the log.
var about = []string{"message_changed", "message_deleted", "message_replied"}

// worded are the fields of a message that are strings if they are there at all. One that is not shows that we do not
// understand what Slack means by it.
var worded = []string{"bot_id", "app_id", "workflow_id", "username", "subtype", "text", "thread_ts", "team", "user_team", "source_team"}

// said checks that a person said this, in our workspace: a live event, or an item of the history, which has fewer fields.
// It does not check whether that person may do anything: the core does.
func (in *intake) said(ev object) error {
	switch {
	case ev.text("type") != "message":
		return refuse("no message")
	case ev.text("user") == in.user || ev.text("bot_id") == in.bot:
		return uninteresting("our own message")
	case slices.Contains(about, ev.text("subtype")):
		return uninteresting(ev.text("subtype"))
	}
	for _, key := range forbidden {
		if ev.set(key) {
			return refuse("a message with " + key)
		}
	}
	for _, key := range worded {
		if ev.wrong(key) {
			return refuse(key + " is no string")
		}
	}
	for _, key := range []string{"team", "user_team", "source_team"} {
		if ev.other(key, in.team) {
			return refuse(key + " is another workspace")
		}
	}
	if !userPattern.MatchString(ev.text("user")) {
		return refuse("no user")
	}
	switch ev.text("subtype") {
	case "":
	case "file_share": // a photo of a screen, with words; the words count, and it is said that nothing else does
	case "thread_broadcast":
		return refuseAloud("thread_broadcast", "I do not act on a reply that is also sent to the channel. Say it again in the thread alone.")
	default:
		return refuse("a message of a subtype")
	}
	return nil
}

// timely checks the time that Slack gave a message, click or event, by Slack's own clock, and returns it by ours.
func (in *intake) timely(ts string) (at time.Time, late time.Duration, err error) {
	slack, ok := moment(ts)
	if !ok {
		return at, 0, refuse("no timestamp")
	}
	switch late = in.clock.now().Sub(slack); {
	case late < -fromFuture:
		in.look() // the answer tells the time
		return at, late, refuseAloud("from the future", "Nothing was done: by my clock, this comes from the future. I ask Slack for the time; say it again in a minute.")
	case late > oldest:
		return at, late, refuse("older than a day")
	}
	return in.clock.ours(slack), late, nil
}

// may checks what Slack says of the channel and of the person now, from memory: an acknowledgement must not wait for the
// network. Who is not on the allowlist is not looked up; the core refuses them by their ID alone.
func (in *intake) may(user string) error {
	if err := in.channelState.bar(); err != nil {
		return err
	}
	return in.people.bar(user)
}

// message decodes a message. If it returns an error, the place and the person are still those to whom to say it.
func (in *intake) message(ctx context.Context, wrapper, ev object) (bot.Message, error) {
	m := bot.Message{}
	switch {
	case ev.text("channel") != in.channel:
		return m, uninteresting("another channel")
	case wrapper.set("is_ext_shared_channel"):
		in.turn(ctx, shared, time.Time{})
		in.look()
		return m, refuse("a shared channel")
	}
	if ev.text("subtype") == "message_changed" {
		return in.changed(ev)
	}
	return in.utterance(ev)
}

// changed never returns anything that acts: an edit may be made at any time, for other eyes. Whoever on the allowlist mends
// a text into a command waits for it in vain, though, and is told. What we post and edit ourselves comes by here as well.
func (in *intake) changed(ev object) (bot.Message, error) {
	quiet := uninteresting("message_changed")
	is, was := maps.Clone(ev.in("message")), ev.in("previous_message")
	user, by := is.text("user"), is.in("edited").text("user")
	delete(is, "edited")
	if !in.people.listed(user) || by != user || was.text("user") != user || in.said(is) != nil || in.may(user) != nil {
		return bot.Message{}, quiet
	}
	typed := bot.Command(in.plain(is.text("text")))
	if typed == "" || typed == bot.Command(in.plain(was.text("text"))) {
		return bot.Message{}, quiet
	}
	m := bot.Message{Place: in.place(cmp.Or(is.text("thread_ts"), is.text("ts"))), From: in.person(user)}
	return m, refuseAloud("an edit into a command", "I act on no edits, so your edit to `"+typed+"` did nothing.\nType it as a new message if you want it.")
}

// utterance decodes a message that is known to stand in our channel.
func (in *intake) utterance(ev object) (bot.Message, error) {
	err := in.said(ev)
	if r, ok := errors.AsType[*refusal](err); ok && r.say == "" {
		return bot.Message{}, err
	}
	ts, thread := ev.text("ts"), ev.text("thread_ts")
	if !ev.set("thread_ts") {
		thread = ts
	}
	if _, ok := moment(thread); !ok || thread > ts {
		return bot.Message{}, refuse("a thread that cannot be")
	}
	at, late, bad := in.timely(ts)
	m := bot.Message{
		ID: ts, Place: in.place(thread), Opens: thread == ts, From: in.person(ev.text("user")), Name: in.people.name(ev.text("user")),
		Text: in.plain(ev.text("text")), Files: len(ev.list("files")), At: at, Missed: late > young,
	}
	if bad != nil {
		return m, bad
	}
	if err == nil {
		err = in.may(m.From.ID)
	}
	if err == nil && m.Text == "" {
		err = refuseAloud("no text", "I read words only, no files and no pictures. Say in words what is wrong.")
	}
	return m, err
}
