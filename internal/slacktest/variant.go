package slacktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"
)

// Verdict is what a bot in one channel owes a payload.
type Verdict string

// Verdicts.
const (
	Must    Verdict = "must act"     // it is what a person in the channel did just now
	MustNot Verdict = "must not act" // it is not, or not there, or not now
	May     Verdict = "may act"      // harmless either way, or a matter of taste
)

// Variant is one of the shapes in which envelopes come.
type Variant struct {
	Name    string
	Kind    string // of the envelope
	Payload json.RawMessage
	Verdict Verdict
	Attempt int // retry_attempt
}

// SendVariant sends it.
func (s *Server) SendVariant(v Variant) Sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &envelope{id: s.uuid(), kind: v.Kind, payload: v.Payload, answers: v.Kind != "events_api", attempt: v.Attempt}
	s.envelopes[e.id] = e
	s.order = append(s.order, e)
	s.route(e)
	return Sent{Envelope: e.id}
}

// Foreign ids, for what comes from elsewhere.
const (
	foreignTeam = "T0ELSEWHERE"
	foreignApp  = "A0SOMEAPP"
	foreignBot  = "B0SOMEBOT"
	elsewhere   = "C0ELSEWHERE"
)

// SendEvent wraps an event as the Events API does and sends it; over replaces fields of the wrapping, nil removes them.
func (s *Server) SendEvent(event, over map[string]any) Sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Sent{Envelope: s.dispatch("events_api", encode(with(s.callback(event, nil), over)), false).id}
}

// NewMessage is the event of a message that a person typed just now, as it is sent; the message stands in no channel.
func (s *Server) NewMessage(user, thread, text string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.typed(user, thread, text)
}

func (s *Server) typed(user, thread, text string) object {
	ts := s.stamp(time.Now())
	o := object{
		"type": "message", "user": user, "ts": ts, "event_ts": ts, "client_msg_id": s.uuid(), "text": escaper.Replace(text),
		"team": teamID, "channel": channelID, "channel_type": "group", "blocks": []any{richText(text)},
	}
	if thread != "" {
		o["thread_ts"], o["parent_user_id"] = thread, user
	}
	return o
}

// with is o with other fields; a nil removes one.
func with(o, over object) object {
	out := maps.Clone(o)
	for k, v := range over {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

// odd is how a message differs from what a person typed in the channel just now.
type odd struct {
	name    string
	verdict Verdict
	event   object // fields of the event
	outer   object // fields of the wrapping
}

// Variants is every shape in which a message of user with this text comes. Those that must act are what user typed.
func (s *Server) Variants(user, text string) []Variant {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Variant
	for _, list := range [][]odd{s.genuine(), s.appPosts(), s.subtypes(user, text), s.foreign(), s.mistyped(), s.others(user)} {
		for _, o := range list {
			payload := with(s.callback(with(s.typed(user, "", text), o.event), nil), o.outer)
			all = append(all, Variant{Name: o.name, Kind: "events_api", Payload: encode(payload), Verdict: o.verdict})
		}
	}
	limited := object{
		"token": "unused", "type": "app_rate_limited", "team_id": teamID, "minute_rate_limited": time.Now().Unix() / 60 * 60,
		"api_app_id": appID,
	}
	late := Variant{Name: "redelivered", Kind: "events_api", Verdict: Must, Attempt: 2}
	late.Payload = encode(s.callback(s.typed(user, "", text), nil))
	return append(all,
		late,
		Variant{Name: "app_rate_limited", Kind: "events_api", Payload: encode(limited), Verdict: MustNot},
		Variant{Name: "payload is null", Kind: "events_api", Payload: json.RawMessage("null"), Verdict: MustNot},
		Variant{Name: "payload is text", Kind: "events_api", Payload: encode(text), Verdict: MustNot},
		Variant{Name: "unknown kind of envelope", Kind: "carrier_pigeon", Payload: late.Payload, Verdict: MustNot},
	)
}

func (s *Server) genuine() []odd {
	ts := s.stamp(time.Now())
	return []odd{
		{"typed", Must, nil, nil},
		{"typed, without client_msg_id", Must, object{"client_msg_id": nil}, nil},
		{"typed, without team", Must, object{"team": nil}, nil},
		{"typed, with user_team and source_team", Must, object{"user_team": teamID, "source_team": teamID}, nil},
		{"typed, as the beginning of a thread", Must, object{"ts": ts, "event_ts": ts, "thread_ts": ts}, nil},
		{"file_share", May, object{"subtype": "file_share", "files": []object{{"id": "F0FILE", "name": "a.txt"}}}, nil},
		{"typed on Enterprise Grid", May, object{"user_team": "E0GRID", "source_team": "E0GRID"}, object{
			"enterprise_id": "E0GRID", "context_enterprise_id": "E0GRID",
		}},
	}
}

// appPosts is what programs post; some of it carries a person's id.
func (s *Server) appPosts() []odd {
	profile := object{"id": foreignBot, "app_id": foreignApp, "name": "some app", "team_id": teamID, "deleted": false}
	return []odd{
		{"bot_message of a webhook", MustNot, object{
			"subtype": "bot_message", "bot_id": foreignBot, "username": "hook", "user": nil, "client_msg_id": nil,
		}, nil},
		{"post of the app itself", MustNot, object{"user": botUserID, "bot_id": botID, "app_id": appID, "client_msg_id": nil}, nil},
		{"post of another app", MustNot, object{
			"user": "U0SOMEBOT", "bot_id": foreignBot, "app_id": foreignApp, "bot_profile": profile, "client_msg_id": nil,
		}, nil},
		{"post with a person's token", MustNot, object{
			"bot_id": foreignBot, "app_id": foreignApp, "bot_profile": profile, "client_msg_id": nil,
		}, nil},
		{"post with a person's token, told only by bot_id", MustNot, object{"bot_id": foreignBot, "client_msg_id": nil}, nil},
		{"post with a person's token, told only by app_id", MustNot, object{"app_id": foreignApp, "client_msg_id": nil}, nil},
		{"post with a person's token, told only by bot_profile", MustNot, object{"bot_profile": profile, "client_msg_id": nil}, nil},
		{"post of a workflow", MustNot, object{
			"subtype": "bot_message", "bot_id": foreignBot, "workflow_id": "Wf0FLOW", "username": "flow", "client_msg_id": nil,
		}, nil},
		{"post of a workflow, told only by workflow_id", MustNot, object{"workflow_id": "Wf0FLOW", "client_msg_id": nil}, nil},
		{"post under another name", MustNot, object{"username": "alice (really)", "client_msg_id": nil}, nil},
		{"unfurl without a word", MustNot, object{"text": "", "blocks": nil, "attachments": []object{{"is_msg_unfurl": true, "text": "status"}}}, nil},
		{"empty", MustNot, object{"text": "", "blocks": nil}, nil},
	}
}

// subtypes is what is told about messages that are older, or that nobody typed.
func (s *Server) subtypes(user, text string) []odd {
	inner := s.typed(user, "", text)
	inner["edited"] = object{"user": user, "ts": s.stamp(time.Now())}
	about := func(subtype string, more object) object {
		return with(object{"subtype": subtype, "hidden": true, "user": nil, "text": nil, "blocks": nil, "client_msg_id": nil, "team": nil}, more)
	}
	all := []odd{
		{"message_changed", MustNot, about("message_changed", object{"message": inner, "previous_message": s.typed(user, "", "before")}), nil},
		{"message_changed that keeps user and text", MustNot, object{"subtype": "message_changed", "hidden": true, "message": inner}, nil},
		{"message_deleted", MustNot, about("message_deleted", object{"deleted_ts": inner["ts"], "previous_message": inner}), nil},
		{"message_replied", MustNot, about("message_replied", object{"message": inner}), nil},
		{"edited, without subtype", MustNot, object{"edited": inner["edited"]}, nil},
		{"hidden", MustNot, object{"hidden": true}, nil},
		{"thread_broadcast", MustNot, object{"subtype": "thread_broadcast", "thread_ts": inner["ts"], "root": inner}, nil},
		{"reply in a thread that is not the bot's", MustNot, object{"thread_ts": "1700000000.000001", "parent_user_id": user}, nil},
		{"an hour old", MustNot, aged(-time.Hour), nil},
		{"from tomorrow", MustNot, aged(24 * time.Hour), nil},
		{"app_mention", May, object{"type": "app_mention"}, nil},
	}
	for _, subtype := range []string{
		"me_message", "channel_join", "channel_leave", "channel_topic", "channel_name", "channel_archive", "group_join",
		"reminder_add", "pinned_item", "tombstone", "bot_add", "ekm_access_denied", "invented_yesterday",
	} {
		all = append(all, odd{subtype, MustNot, object{"subtype": subtype}, nil})
	}
	return all
}

func aged(by time.Duration) object {
	ts := fmt.Sprintf("%d.000100", time.Now().Add(by).Unix())
	return object{"ts": ts, "event_ts": ts}
}

// foreign is what comes from another channel, workspace, app or organisation.
func (s *Server) foreign() []odd {
	auth := func(team string) object {
		return object{"authorizations": []object{{"enterprise_id": nil, "team_id": team, "user_id": botUserID, "is_bot": true}}}
	}
	return []odd{
		{"in another channel", MustNot, object{"channel": elsewhere}, nil},
		{"in a direct message", MustNot, object{"channel": "D0DIRECT", "channel_type": "im"}, nil},
		{"by a person of another team", MustNot, object{"team": foreignTeam}, nil},
		{"by a user of another team", MustNot, object{"user_team": foreignTeam}, nil},
		{"from another team's client", MustNot, object{"source_team": foreignTeam}, nil},
		{"in a shared channel", MustNot, nil, object{"is_ext_shared_channel": true}},
		{"for another team", MustNot, nil, object{"team_id": foreignTeam}},
		{"for another app", MustNot, nil, object{"api_app_id": foreignApp}},
		{"for an installation of another team", MustNot, nil, auth(foreignTeam)},
		{"for no installation", MustNot, nil, object{"authorizations": []object{}}},
		{"without authorizations", MustNot, nil, object{"authorizations": nil}},
		{"by somebody unknown", MustNot, object{"user": "U0NOBODY"}, nil},
		{"by nobody", MustNot, object{"user": nil}, nil},
	}
}

// mistyped is what no reference has and every decoder meets one day.
func (s *Server) mistyped() []odd {
	return []odd{
		{"ts is a number", MustNot, object{"ts": 1700000000}, nil},
		{"ts is no time", MustNot, object{"ts": "yesterday"}, nil},
		{"no ts", MustNot, object{"ts": nil, "event_ts": nil}, nil},
		{"user is an object", MustNot, object{"user": object{"id": "U0ALICE"}}, nil},
		{"text is a number", MustNot, object{"text": 42, "blocks": nil}, nil},
		{"channel is a list", MustNot, object{"channel": []string{channelID}}, nil},
		{"event is a list", MustNot, nil, object{"event": []int{1}}},
		{"no event", MustNot, nil, object{"event": nil}},
		{"no team", MustNot, nil, object{"team_id": nil}},
		{"no app", MustNot, nil, object{"api_app_id": nil}},
		{"another type of wrapping", MustNot, nil, object{"type": "event_wrapped_differently"}},
		{"bot_id is false", MustNot, object{"bot_id": false}, nil},
	}
}

// others is events that are no messages.
func (s *Server) others(user string) []odd {
	event := func(kind string, more object) object {
		return with(object{
			"type": kind, "text": nil, "blocks": nil, "client_msg_id": nil, "ts": nil, "team": nil, "channel_type": nil,
		}, more)
	}
	all := []odd{
		{"app_home_opened", May, event("app_home_opened", object{"tab": "home", "channel": "D0" + user}), nil},
		{"app_home_opened, messages tab", May, event("app_home_opened", object{"tab": "messages", "channel": "D0" + user}), nil},
		{"member_joined_channel", May, event("member_joined_channel", object{"user": "U0STRANGER", "channel_type": "G", "team": teamID, "inviter": user}), nil},
		{"channel_shared", May, event("channel_shared", object{"connected_team_id": foreignTeam, "user": nil}), nil},
		{"channel_unshared", May, event("channel_unshared", object{"previously_connected_team_id": foreignTeam, "is_ext_shared": false, "user": nil}), nil},
		{"agent_session_stopped", May, event("agent_session_stopped", object{
			"thread_ts": strconv.FormatInt(time.Now().Unix(), 10) + ".000100", "streaming_message_ts": []string{},
		}), nil},
	}
	for _, kind := range []string{"tokens_revoked", "app_uninstalled", "channel_archive", "reaction_added", "link_shared", "invented_yesterday"} {
		all = append(all, odd{"event " + kind, May, event(kind, nil), nil})
	}
	return all
}
