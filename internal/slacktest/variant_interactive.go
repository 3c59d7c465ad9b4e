package slacktest

import (
	"encoding/json"
	"fmt"
	"time"
)

// CommandVariants is every shape in which a command of user comes.
func (s *Server) CommandVariants(user, command, text string) ([]Variant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, u, err := s.present(channelID, user)
	if err != nil {
		return nil, err
	}
	var all []Variant
	for _, o := range []struct {
		name    string
		verdict Verdict
		attempt int
		over    object
	}{
		{"typed", Must, 0, nil},
		{"typed, without is_enterprise_install", Must, 0, object{"is_enterprise_install": nil}},
		{"redelivered", MustNot, 1, nil},
		{"in another channel", MustNot, 0, object{"channel_id": elsewhere, "channel_name": "general"}},
		{"in a direct message", MustNot, 0, object{"channel_id": "D0DIRECT", "channel_name": "directmessage"}},
		{"by somebody unknown", MustNot, 0, object{"user_id": "U0NOBODY"}},
		{"by nobody", MustNot, 0, object{"user_id": nil}},
		{"from another team", MustNot, 0, object{"team_id": foreignTeam}},
		{"without a team", MustNot, 0, object{"team_id": nil}},
		{"for another app", MustNot, 0, object{"api_app_id": foreignApp}},
		{"another command", MustNot, 0, object{"command": "/somethingelse"}},
		{"of an organisation's installation", May, 0, object{"is_enterprise_install": "true", "enterprise_id": "E0GRID", "enterprise_name": "grid"}},
		{"text is a number", MustNot, 0, object{"text": 7}},
		{"channel is an object", MustNot, 0, object{"channel_id": object{"id": channelID}}},
	} {
		payload := with(s.command(c, u, command, text), o.over)
		all = append(all, Variant{Name: "command " + o.name, Kind: "slash_commands", Payload: encode(payload), Verdict: o.verdict, Attempt: o.attempt})
	}
	return append(all, Variant{Name: "command is null", Kind: "slash_commands", Payload: json.RawMessage("null"), Verdict: MustNot}), nil
}

// ClickVariants is every shape in which a click of user on this button comes. Each has an action_ts and a trigger of its own;
// a bot that counts clicks by the button's nonce must be given a fresh button for each that must act.
func (s *Server) ClickVariants(user, ts, actionID string) ([]Variant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Variant
	add := func(name string, verdict Verdict, attempt int, change func(payload, action, container object)) error {
		payload, err := s.press(user, ts, actionID)
		if err != nil {
			return err
		}
		actions, _ := payload["actions"].([]object)
		container, _ := payload["container"].(object)
		if change != nil {
			change(payload, actions[0], container)
		}
		all = append(all, Variant{Name: "click " + name, Kind: "interactive", Payload: encode(payload), Verdict: verdict, Attempt: attempt})
		return nil
	}
	if err := add("pressed", Must, 0, nil); err != nil {
		return nil, err
	}
	if err := add("redelivered at once", May, 1, nil); err != nil {
		return nil, err
	}
	for _, o := range clickChanges() {
		if err := add(o.name, o.verdict, 0, o.change); err != nil {
			return nil, err
		}
	}
	return append(all, Variant{Name: "click is null", Kind: "interactive", Payload: json.RawMessage("null"), Verdict: MustNot}), nil
}

type clickChange struct {
	name    string
	verdict Verdict
	change  func(payload, action, container object)
}

func clickChanges() []clickChange {
	user := func(p object) object { u, _ := p["user"].(object); return u }
	kind := func(k string) func(p, a, c object) {
		return func(p, _, _ object) {
			p["type"] = k
			delete(p, "actions")
			p["callback_id"] = "some-callback"
		}
	}
	return []clickChange{
		{"two minutes old", MustNot, func(_, a, _ object) { a["action_ts"] = fmt.Sprintf("%d.000100", time.Now().Add(-2*time.Minute).Unix()) }},
		{"without action_ts", MustNot, func(_, a, _ object) { delete(a, "action_ts") }},
		{"action_ts is a number", MustNot, func(_, a, _ object) { a["action_ts"] = time.Now().Unix() }},
		{"in another channel", MustNot, func(p, _, c object) { c["channel_id"], p["channel"] = elsewhere, object{"id": elsewhere, "name": "x"} }},
		{"channel and container differ", MustNot, func(p, _, _ object) { p["channel"] = object{"id": elsewhere, "name": "x"} }},
		{"container and channel differ", MustNot, func(_, _, c object) { c["channel_id"] = elsewhere }},
		{"on another message", MustNot, func(_, _, c object) { c["message_ts"] = "1700000000.000001" }},
		{"by a user of another team", MustNot, func(p, _, _ object) { user(p)["team_id"] = foreignTeam }},
		{"by a user without a team", MustNot, func(p, _, _ object) { delete(user(p), "team_id") }},
		{"by somebody unknown", MustNot, func(p, _, _ object) { user(p)["id"] = "U0NOBODY" }},
		{"by nobody", MustNot, func(p, _, _ object) { delete(p, "user") }},
		{"in another team", MustNot, func(p, _, _ object) { p["team"] = object{"id": foreignTeam, "domain": "elsewhere"} }},
		{"on Enterprise Grid, team is null", May, func(p, _, _ object) { p["team"], p["enterprise"] = nil, object{"id": "E0GRID", "name": "grid"} }},
		{"for another app", MustNot, func(p, _, _ object) { p["api_app_id"] = foreignApp }},
		{"with another value", MustNot, func(_, a, _ object) { a["value"] = "guessed" }},
		{"without a value", MustNot, func(_, a, _ object) { delete(a, "value") }},
		{"with two actions", MustNot, func(p, a, _ object) { p["actions"] = []object{a, a} }},
		{"with no action", MustNot, func(p, _, _ object) { p["actions"] = []object{} }},
		{"actions is an object", MustNot, func(p, a, _ object) { p["actions"] = a }},
		{"without a container", MustNot, func(p, _, _ object) { delete(p, "container") }},
		{"interactive_message", MustNot, kind("interactive_message")},
		{"message_action", MustNot, kind("message_action")},
		{"shortcut", MustNot, kind("shortcut")},
		{"block_suggestion", MustNot, kind("block_suggestion")},
		{"view_submission", MustNot, kind("view_submission")},
		{"view_closed", MustNot, kind("view_closed")},
		{"invented_yesterday", MustNot, kind("invented_yesterday")},
	}
}

// MessageAction chooses the app's shortcut from the menu of a message.
func (s *Server) MessageAction(user, ts, callbackID string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, m, err := s.seen(user, ts)
	if err != nil {
		return Sent{}, err
	}
	payload := s.interaction("message_action", s.users[user])
	payload["callback_id"], payload["message_ts"], payload["action_ts"] = callbackID, m.TS, s.stamp(time.Now())
	payload["channel"] = object{"id": c.ID, "name": "privategroup"}
	payload["message"] = s.wire(c, m, false)
	payload["response_url"] = s.responseURL("actions", c, user, nil)
	return s.interact(payload, false), nil
}
