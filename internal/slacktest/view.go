package slacktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"
)

// View is a home tab or a dialog.
type View struct {
	ID, Type, User string
	CallbackID     string
	Hash           string // changes with each version
	Blocks         []Block
	Raw            json.RawMessage // as the app gave it
	private        string
	external       string
}

// Buttons is what a person can press in it.
func (v View) Buttons() []Button { return Message{Blocks: v.Blocks}.Buttons() }

// Shown is what a person reads in it.
func (v View) Shown() string { return Message{Blocks: v.Blocks}.Shown() }

// maxView is how many bytes a view may have.
const maxView = 250_000

type trigger struct {
	user string
	at   time.Time
	used bool
}

// trigger mints a trigger_id. The lock is held by the caller.
func (s *Server) trigger(user string) string {
	id := s.id("trigger.")
	s.triggers[id] = &trigger{user: user, at: s.now()}
	return id
}

// exchange takes the one use of a trigger_id.
func (s *Server) exchange(id string) (string, error) {
	t := s.triggers[id]
	switch {
	case t == nil:
		return "", refuse("invalid_trigger_id")
	case t.used:
		return "", refuse("exchanged_trigger_id")
	case s.now().Sub(t.at) > triggerLife:
		return "", refuse("expired_trigger_id")
	}
	t.used = true
	return t.user, nil
}

// view reads and checks the argument view. The lock is held by the caller.
func (s *Server) view(c *call) (*View, error) {
	raw := c.arg("view")
	if len(raw) > maxView {
		return nil, refuse("view_too_large")
	}
	var in struct {
		Type     string          `json:"type"`
		Callback string          `json:"callback_id"`
		External string          `json:"external_id"`
		Private  string          `json:"private_metadata"`
		Title    object          `json:"title"`
		Blocks   json.RawMessage `json:"blocks"`
	}
	if err := json.Unmarshal([]byte(raw), &in); err != nil {
		return nil, invalid("invalid_arguments", "[ERROR] failed to match all allowed schemas [json-pointer:/view]")
	}
	home := c.method == "views.publish"
	switch {
	case in.Type != "home" && in.Type != "modal", home != (in.Type == "home") && c.method != "views.update":
		return nil, invalid("invalid_arguments", "[ERROR] unsupported type [json-pointer:/view/type]")
	case len(in.Blocks) == 0:
		return nil, invalid("invalid_arguments", "[ERROR] missing required field: blocks [json-pointer:/view]")
	case in.Type == "modal" && len(str(in.Title, "text")) == 0:
		return nil, invalid("invalid_arguments", "[ERROR] missing required field: title [json-pointer:/view]")
	}
	blocks, err := s.blocks(string(in.Blocks), maxViewBlocks)
	if err != nil {
		if e, ok := errors.AsType[*slackError](err); ok {
			e.code = "invalid_arguments"
		}
		return nil, err
	}
	return &View{
		Type: in.Type, CallbackID: in.Callback, Blocks: blocks, Raw: json.RawMessage(raw), private: in.Private, external: in.External,
	}, nil
}

// draw puts a version of a view before a person.
func (s *Server) draw(v *View) object {
	v.Hash = fmt.Sprintf("%d.%s", time.Now().Unix(), s.id("h"))
	s.views[v.ID] = v
	s.happen(Happening{Kind: Drawn, View: *v})
	return object{"view": v.wire()}
}

func (v *View) wire() object {
	o := object{}
	_ = json.Unmarshal(v.Raw, &o) // it was read before
	blocks := make([]json.RawMessage, len(v.Blocks))
	for i, b := range v.Blocks {
		blocks[i] = b.Raw
	}
	maps.Copy(o, object{
		"id": v.ID, "team_id": teamID, "type": v.Type, "hash": v.Hash, "blocks": blocks, "callback_id": v.CallbackID,
		"private_metadata": v.private, "external_id": v.external, "state": object{"values": object{}}, "root_view_id": v.ID,
		"previous_view_id": nil, "app_id": appID, "bot_id": botID, "app_installed_team_id": teamID,
	})
	return o
}

func (s *Server) viewsPublish(c *call) (object, error) {
	user := c.arg("user_id")
	if s.users[user] == nil {
		return nil, invalid("invalid_arguments", "invalid `user_id`")
	}
	v, err := s.view(c)
	if err != nil {
		return nil, err
	}
	v.User, v.ID = user, s.id("V")
	if was := s.homes[user]; was != nil {
		if hash := c.arg("hash"); hash != "" && hash != was.Hash {
			return nil, refuse("hash_conflict")
		}
		v.ID = was.ID
	}
	s.homes[user] = v
	return s.draw(v), nil
}

// viewsOpen is views.open and views.push.
func (s *Server) viewsOpen(c *call) (object, error) {
	v, err := s.view(c)
	if err != nil {
		return nil, err
	}
	if v.User, err = s.exchange(c.arg("trigger_id")); err != nil {
		return nil, err
	}
	v.ID = s.id("V")
	return s.draw(v), nil
}

func (s *Server) viewsUpdate(c *call) (object, error) {
	was := s.views[c.arg("view_id")]
	for _, v := range s.views {
		if v.external != "" && v.external == c.arg("external_id") {
			was = v
		}
	}
	if was == nil {
		return nil, refuse("not_found")
	}
	if hash := c.arg("hash"); hash != "" && hash != was.Hash {
		return nil, refuse("hash_conflict")
	}
	v, err := s.view(c)
	if err != nil {
		return nil, err
	}
	v.ID, v.User = was.ID, was.User
	if v.Type == "home" {
		s.homes[v.User] = v
	}
	return s.draw(v), nil
}

// Home is what a person sees on the app's own page; the zero View before anything was published.
func (s *Server) Home(user string) View {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.homes[user]; v != nil {
		return *v
	}
	return View{}
}

// OpenHome opens the app's own page.
func (s *Server) OpenHome(user string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[user] == nil {
		return Sent{}, fmt.Errorf("slacktest: no user %s", user)
	}
	event := object{
		"type": "app_home_opened", "user": user, "channel": "D0" + user, "tab": "home", "event_ts": s.stamp(time.Now()),
	}
	if v := s.homes[user]; v != nil {
		event["view"] = v.wire()
	}
	return s.event(event, nil), nil
}

// ClickHome presses a button on the app's own page.
func (s *Server) ClickHome(user, actionID string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.homes[user]
	if v == nil {
		return Sent{}, fmt.Errorf("slacktest: %s has no home", user)
	}
	b, err := pick(v.Buttons(), actionID)
	if err != nil {
		return Sent{}, err
	}
	payload := s.click(s.users[user], b)
	payload["container"] = object{"type": "view", "view_id": v.ID}
	payload["view"] = v.wire()
	return s.interact(payload, false), nil
}

// Submit sends a dialog off with these values, which are Slack's state.values.
func (s *Server) Submit(user, viewID string, values map[string]any) (Sent, error) {
	return s.leave("view_submission", user, viewID, values)
}

// Dismiss closes a dialog.
func (s *Server) Dismiss(user, viewID string) (Sent, error) {
	return s.leave("view_closed", user, viewID, object{})
}

func (s *Server) leave(kind, user, viewID string, values object) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.views[viewID]
	if v == nil || v.User != user || v.Type != "modal" {
		return Sent{}, fmt.Errorf("slacktest: %s has no dialog %s", user, viewID)
	}
	payload := s.interaction(kind, s.users[user])
	wire := v.wire()
	wire["state"] = object{"values": values}
	payload["view"] = wire
	if kind == "view_closed" {
		payload["is_cleared"] = false
		delete(payload, "trigger_id")
		return s.interact(payload, false), nil
	}
	payload["response_urls"] = []string{}
	return s.interact(payload, true), nil
}
