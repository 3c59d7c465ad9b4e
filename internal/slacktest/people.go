package slacktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A person acts here as with a client of Slack: only where the client would offer it.

var (
	escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	links   = regexp.MustCompile(`https?://[^\s<>|]+`)
)

// Say posts what a person types into [Server.Channel], or into a thread there. Slack escapes & < > and marks up links.
func (s *Server) Say(user, thread, text string) (Sent, error) {
	return s.SayIn(channelID, user, thread, text)
}

// SayIn is Say in any channel.
func (s *Server) SayIn(channel, user, thread, text string) (Sent, error) {
	marked := links.ReplaceAllString(escaper.Replace(text), "<$0>")
	return s.post(channel, user, thread, marked, text, nil)
}

// SayMarkup is Say with Slack's own markup, such as <@U123>, and with more fields in the message than a person's have.
func (s *Server) SayMarkup(user, thread, markup string, more map[string]any) (Sent, error) {
	return s.post(channelID, user, thread, markup, markup, more)
}

func (s *Server) post(channel, user, thread, text, typed string, more object) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, u, err := s.present(channel, user)
	if err != nil {
		return Sent{}, err
	}
	if root := c.find(thread); thread != "" && root == nil {
		return Sent{}, fmt.Errorf("slacktest: no thread %s in %s", thread, channel)
	} else if root != nil && root.ThreadTS != "" {
		thread = root.ThreadTS // a reply to a reply goes into the same thread
	}
	var blocks []Block
	if typed != "" {
		blocks = []Block{{Type: "rich_text", ID: "typed", Text: typed, Raw: richText(typed)}}
	}
	m := &Message{
		TS: s.stamp(time.Now()), ThreadTS: thread, User: user, Text: text, Blocks: blocks, At: time.Now(), clientID: s.uuid(),
		team: u.TeamID,
	}
	m.more = object{}
	if u.TeamID != teamID { // somebody from outside in a shared channel
		m.more["user_team"], m.more["source_team"] = u.TeamID, u.TeamID
	}
	maps.Copy(m.more, more)
	m.Subtype = str(more, "subtype")
	return s.add(c, m), nil
}

// present finds a channel and somebody who is in it.
func (s *Server) present(channel, user string) (*channel, *User, error) {
	c, u := s.channels[channel], s.users[user]
	switch {
	case c == nil || u == nil:
		return nil, nil, fmt.Errorf("slacktest: no channel %s or no user %s", channel, user)
	case c.Archived:
		return nil, nil, fmt.Errorf("slacktest: %s is archived", channel)
	case !slices.Contains(c.members, user):
		return nil, nil, fmt.Errorf("slacktest: %s is not in %s", user, channel)
	}
	return c, u, nil
}

// Edit changes a person's own message.
func (s *Server) Edit(user, ts, text string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, m, err := s.seen(user, ts)
	if err != nil {
		return Sent{}, err
	}
	if m.User != user {
		return Sent{}, fmt.Errorf("slacktest: %s did not write %s", user, ts)
	}
	was := *m
	m.Text = escaper.Replace(text)
	m.Blocks = []Block{{Type: "rich_text", ID: "typed", Text: text, Raw: richText(text)}}
	return s.edited(c, &was, m, true), nil
}

// Delete takes a message away: an own one, or any for an administrator.
func (s *Server) Delete(user, ts string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, m, err := s.seen(user, ts)
	if err != nil {
		return Sent{}, err
	}
	if m.User != user && !s.users[user].Admin {
		return Sent{}, fmt.Errorf("slacktest: %s may not delete %s", user, ts)
	}
	return s.remove(c, m), nil
}

// seen finds a message that a person sees in some channel.
func (s *Server) seen(user, ts string) (*channel, *Message, error) {
	for _, c := range s.channels {
		if m := c.find(ts); m != nil && slices.Contains(c.members, user) {
			return c, m, nil
		}
	}
	return nil, nil, fmt.Errorf("slacktest: %s sees no message %s", user, ts)
}

// Slash types a command into a channel; without a channel, into [Server.Channel]. Threads take no commands. It fails with
// [ErrDispatch] when the app has no socket.
func (s *Server) Slash(user, channel, command, text string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if channel == "" {
		channel = channelID
	}
	c, u, err := s.present(channel, user)
	if err != nil {
		return Sent{}, err
	}
	if !slices.Contains(s.opt.Commands, command) {
		return Sent{}, fmt.Errorf("slacktest: %s is not a valid command", command)
	}
	payload := s.command(c, u, command, text)
	if len(s.openSockets()) == 0 {
		return Sent{}, ErrDispatch
	}
	e := s.dispatch("slash_commands", encode(payload), true)
	e.onAnswer = func(answer json.RawMessage) { s.answerCommand(c, user, answer) }
	return Sent{Envelope: e.id, Trigger: str(payload, "trigger_id")}, nil
}

func (s *Server) command(c *channel, u *User, command, text string) object {
	o := object{
		"token": "unused", "team_id": u.TeamID, "team_domain": teamName, "channel_id": c.ID, "channel_name": c.Name, "user_id": u.ID,
		"user_name": u.Name, "command": command, "text": text, "api_app_id": appID, "is_enterprise_install": "false",
		"response_url": s.responseURL("commands", c, u.ID, nil), "trigger_id": s.trigger(u.ID),
	}
	if !c.Public {
		o["channel_name"] = "privategroup"
	}
	if s.opt.Enterprise != "" {
		o["enterprise_id"], o["enterprise_name"] = s.opt.Enterprise, "testing"
	}
	return o
}

// Click presses a button of a message or of an ephemeral one. Any message that a person sees has its buttons, however old.
func (s *Server) Click(user, ts, actionID string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	payload, err := s.press(user, ts, actionID)
	if err != nil {
		return Sent{}, err
	}
	return s.interact(payload, false), nil
}

// press is block_actions for a button of a message. The lock is held by the caller.
func (s *Server) press(user, ts, actionID string) (object, error) {
	c, m, err := s.seen(user, ts)
	if err != nil {
		if c, m = s.whispered(user, ts); m == nil {
			return nil, err
		}
	}
	b, err := pick(m.Buttons(), actionID)
	if err != nil {
		return nil, err
	}
	payload := s.click(s.users[user], b)
	container := object{"type": "message", "message_ts": m.TS, "channel_id": c.ID, "is_ephemeral": m.Only != ""}
	if m.ThreadTS != "" {
		container["thread_ts"] = m.ThreadTS
	}
	payload["container"] = container
	payload["channel"] = object{"id": c.ID, "name": "privategroup"}
	if c.Public {
		payload["channel"] = object{"id": c.ID, "name": c.Name}
	}
	payload["response_url"] = s.responseURL("actions", c, user, m)
	if m.Only == "" { // an ephemeral message is not sent along
		payload["message"] = s.wire(c, m, false)
	}
	return payload, nil
}

// interact sends a payload of interactivity.
func (s *Server) interact(payload object, answers bool) Sent {
	e := s.dispatch("interactive", encode(payload), answers)
	return Sent{Envelope: e.id, Trigger: str(payload, "trigger_id")}
}

func (s *Server) whispered(user, ts string) (*channel, *Message) {
	for _, c := range s.channels {
		for _, m := range c.private {
			if m.TS == ts && m.Only == user {
				return c, m
			}
		}
	}
	return nil, nil
}

func pick(buttons []Button, actionID string) (Button, error) {
	i := slices.IndexFunc(buttons, func(b Button) bool { return b.ActionID == actionID })
	if i < 0 {
		return Button{}, fmt.Errorf("slacktest: there is no button %s", actionID)
	}
	return buttons[i], nil
}

// click is block_actions without the place where it happened.
func (s *Server) click(u *User, b Button) object {
	action := object{
		"type": "button", "action_id": b.ActionID, "block_id": b.BlockID, "text": b.raw["text"], "action_ts": s.stamp(time.Now()),
	}
	for _, k := range []string{"value", "style", "url", "confirm"} {
		if v, ok := b.raw[k]; ok {
			action[k] = v
		}
	}
	o := s.interaction("block_actions", u)
	o["actions"] = []object{action}
	o["state"] = object{"values": object{}}
	return o
}

// interaction is what all payloads of interactivity have.
func (s *Server) interaction(kind string, u *User) object {
	o := object{
		"type": kind, "token": "unused", "api_app_id": appID, "trigger_id": s.trigger(u.ID), "enterprise": nil,
		"is_enterprise_install": false,
		"user":                  object{"id": u.ID, "username": u.Name, "name": u.Name, "team_id": u.TeamID},
		"team":                  object{"id": teamID, "domain": teamName},
	}
	if s.opt.Enterprise != "" {
		maps.Copy(o, object{"enterprise": object{"id": s.opt.Enterprise, "name": "testing"}, "team": nil})
	}
	return o
}
