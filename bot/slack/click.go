package slack

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"bgbot/bot"
)

// click decodes the press of a button. Whoever sees a message can press its buttons, for as long as it exists; what the
// press may do stands in the core's records, never in the payload.
func (in *intake) click(o object) (bot.Message, error) {
	user := o.in("user")
	m := bot.Message{From: in.person(user.text("id"))}
	switch {
	case o.text("type") != "block_actions":
		return m, refuse("no press of a button")
	case o.set("team") && o.in("team").text("id") != in.team || user.text("team_id") != in.team || o.set("is_enterprise_install"):
		// In an organization of several workspaces Slack leaves team empty; the person's own never.
		return m, refuse("a click from another workspace")
	case o.text("api_app_id") != in.app:
		return m, refuse("another app's click")
	case !userPattern.MatchString(user.text("id")):
		return m, refuse("a click from nobody")
	}
	actions := o.list("actions")
	if len(actions) != 1 {
		return m, refuse("not exactly one action")
	}
	action, err := objectFrom(actions[0])
	if err != nil || action.text("type") != "button" || action.text("value") == "" {
		return m, refuse("no button of ours")
	}
	if err := in.pressed(o, &m); err != nil {
		return m, err
	}
	at, late, err := in.timely(action.text("action_ts"))
	if err != nil {
		return m, err
	}
	m.ID = strings.Join([]string{"click", m.Card, action.text("action_id"), action.text("action_ts"), m.From.ID}, "/")
	switch {
	case in.taken.has(m.ID):
		return m, uninteresting("a click that was taken before")
	case late > young && m.Card == "": // the answer takes the place of the page and its buttons
		return m, refuseAloud("a click that comes late", "That click reached me too late, so nothing was done. Open this page again and press there.")
	case late > young:
		return m, refuseAloud("a click that comes late", "That click reached me late, and I run no late clicks. Look here whether it has been done; if not, press again.")
	}
	m.Name, m.Click, m.At = in.people.name(m.From.ID), action.text("value"), at
	return m, in.may(m.From.ID)
}

// pressed says where a button stood: in a message of ours in our channel, or on our own page.
func (in *intake) pressed(o object, m *bot.Message) error {
	box := o.in("container")
	switch box.text("type") {
	case "message":
		said := o.in("message")
		switch {
		case box.text("channel_id") != in.channel, o.in("channel").other("id", in.channel):
			return refuse("a click in another channel")
		case said.other("bot_id", in.bot) || said.other("app_id", in.app):
			return refuse("a button that another app made")
		case said.other("ts", box.text("message_ts")):
			return refuse("a click on two messages")
		}
		m.Card = box.text("message_ts")
		thread := box.text("thread_ts")
		if thread == m.Card { // the message began a thread later; it stands in the channel itself
			thread = ""
		}
		m.Place = in.place(thread)
		for _, ts := range []string{m.Card, cmp.Or(thread, m.Card)} {
			if _, ok := moment(ts); !ok {
				return refuse("a click on no message")
			}
		}
	case "view":
		view := o.in("view")
		if view.text("type") != "home" || view.other("app_id", in.app) || view.other("bot_id", in.bot) || view.other("team_id", in.team) {
			return refuse("a click in another view")
		}
		m.Place = in.place("")
	default:
		return refuse("a click on something unknown")
	}
	return nil
}

// respond says something to whoever pressed a button. The address comes with the click and is good for half an hour; no
// token goes there.
func (in *intake) respond(ctx context.Context, address, text string) {
	err := in.postTo(ctx, address, whisper(text))
	if err != nil {
		in.log.WarnContext(ctx, "a refusal was not delivered", "err", err)
	}
}

func (in *intake) postTo(ctx context.Context, address string, body any) error {
	u, err := url.Parse(address)
	if err != nil || !in.ofSlack(u) {
		return errors.New("response_url is no address of Slack's")
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(data))
	if err != nil {
		return errors.New("response_url is no address")
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := in.web.http.Do(req)
	if err != nil {
		if wrong, ok := errors.AsType[*url.Error](err); ok { // it repeats the address, which is good for posting as us
			err = wrong.Err
		}
		return fmt.Errorf("response_url: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("response_url: HTTP %s", resp.Status)
	}
	return nil
}

// ofSlack says that an address is Slack's, or that of the stand-in which is configured.
func (in *intake) ofSlack(u *url.URL) bool {
	if api, err := url.Parse(in.web.url); err == nil && u.Scheme == api.Scheme && u.Host == api.Host {
		return true
	}
	return u.Scheme == "https" && (u.Host == "slack.com" || strings.HasSuffix(u.Host, ".slack.com"))
}
