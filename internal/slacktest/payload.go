package slacktest

import (
	"encoding/json"
	"time"
)

// encode is JSON of our own values, which cannot fail.
func encode(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// event wraps an event as the Events API does and sends it. c is where it happened, for what is told of shared channels.
// The lock is held by the caller.
func (s *Server) event(event object, c *channel) Sent {
	return Sent{Envelope: s.dispatch("events_api", encode(s.callback(event, c)), false).id}
}

func (s *Server) callback(event object, c *channel) object {
	o := object{
		"token": "unused", "team_id": teamID, "context_team_id": teamID, "context_enterprise_id": s.enterprise(),
		"api_app_id": appID, "event": event, "type": "event_callback", "event_id": s.id("Ev"), "event_time": time.Now().Unix(),
		"authorizations": []object{{
			"enterprise_id": s.enterprise(), "team_id": teamID, "user_id": botUserID, "is_bot": true, "is_enterprise_install": false,
		}},
		"is_ext_shared_channel": c != nil && c.ExtShared, "event_context": "4-" + s.id("ctx"),
	}
	if s.opt.Enterprise != "" {
		o["enterprise_id"] = s.opt.Enterprise
	}
	return o
}

// enterprise is the id of the organisation, or null.
func (s *Server) enterprise() any {
	if s.opt.Enterprise == "" {
		return nil
	}
	return s.opt.Enterprise
}

// richText is the block that Slack's clients make of what a person types.
func richText(text string) json.RawMessage {
	return encode(object{
		"type": "rich_text", "block_id": "typed",
		"elements": []object{{"type": "rich_text_section", "elements": []object{{"type": "text", "text": text}}}},
	})
}
