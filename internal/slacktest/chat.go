package slacktest

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// talk finds the channel of a call and says why the app may not write there.
func (s *Server) talk(id string) (*channel, error) {
	c := s.channels[id]
	switch {
	case c == nil, !c.Public && !slices.Contains(c.members, botUserID):
		return nil, refuse("channel_not_found") // a private channel does not show itself to those outside
	case !slices.Contains(c.members, botUserID):
		return nil, refuse("not_in_channel")
	case c.Archived:
		return nil, refuse("is_archived")
	}
	return c, nil
}

// content is what a call wants to say.
type content struct {
	text     string
	blocks   []Block
	metadata json.RawMessage
}

// content reads and checks text, blocks, markdown_text and metadata of a call.
func (s *Server) content(c *call) (content, error) {
	out := content{text: c.arg("text")}
	blocks, err := s.blocks(c.arg("blocks"), maxBlocks)
	if err != nil {
		return out, err
	}
	out.blocks = blocks
	if md := c.arg("markdown_text"); md != "" {
		if out.text != "" || len(blocks) > 0 {
			return out, refuse("markdown_text_conflict")
		}
		if utf8.RuneCountInString(md) > maxMarkdown {
			return out, refuse("msg_too_long")
		}
		raw, _ := json.Marshal([]object{{"type": "markdown", "text": md}})
		if out.blocks, err = s.blocks(string(raw), maxBlocks); err != nil {
			return out, err
		}
		out.text = md
	}
	if m := c.arg("metadata"); m != "" {
		var parsed struct {
			Type    string          `json:"event_type"`
			Payload json.RawMessage `json:"event_payload"`
		}
		if json.Unmarshal([]byte(m), &parsed) != nil || parsed.Type == "" || len(parsed.Payload) == 0 {
			return out, refuse("invalid_metadata_format")
		}
		out.metadata = json.RawMessage(m)
	}
	return out, nil
}

// threadOf checks a thread_ts and gives it back. A reply cannot be a thread's beginning.
func threadOf(c *channel, ts string) (string, error) {
	if ts == "" {
		return "", nil
	}
	if root := c.find(ts); root == nil || root.ThreadTS != "" && root.ThreadTS != root.TS {
		return "", refuse("thread_not_found")
	}
	return ts, nil
}

// Slack advises 4,000 characters, splits a longer text and cuts what is beyond 40,000.
const (
	adviceText = 4000
	maxText    = 40000
)

func (s *Server) chatPostMessage(c *call) (object, error) {
	ch, err := s.talk(c.arg("channel"))
	if err != nil {
		return nil, err
	}
	said, err := s.content(c)
	if err != nil {
		return nil, err
	}
	if said.text == "" && len(said.blocks) == 0 {
		return nil, refuse("no_text")
	}
	thread, err := threadOf(ch, c.arg("thread_ts"))
	if err != nil {
		return nil, err
	}
	text := []rune(said.text)
	text = text[:min(len(text), maxText)]
	var first *Message
	for n := 0; first == nil || n < len(text); n += adviceText {
		part := text[n:]
		if len(said.blocks) == 0 { // otherwise the text is but a fallback
			part = part[:min(len(part), adviceText)]
		}
		m := &Message{
			TS: s.stamp(time.Now()), ThreadTS: thread, User: botUserID, BotID: botID, team: teamID, Text: string(part),
			Blocks: said.blocks, Metadata: said.metadata, At: time.Now(),
			Unfurls: c.arg("unfurl_links") != "false" || c.arg("unfurl_media") != "false",
		}
		if c.yes("reply_broadcast") && thread != "" {
			m.Subtype = "thread_broadcast"
		}
		s.add(ch, m)
		if first == nil {
			first = m
		}
		if len(said.blocks) > 0 {
			break
		}
	}
	return object{"channel": ch.ID, "ts": first.TS, "message": s.wire(ch, first, true)}, nil
}

// own finds a message that the app wrote.
func (s *Server) own(c *call, notMine string) (*channel, *Message, error) {
	ch, err := s.talk(c.arg("channel"))
	if err != nil {
		return nil, nil, err
	}
	m := ch.find(c.arg("ts"))
	switch {
	case c.arg("ts") == "":
		return nil, nil, invalid("invalid_arguments", "[ERROR] missing required field: ts")
	case m == nil || m.Subtype == "tombstone":
		return nil, nil, refuse("message_not_found")
	case !m.bot():
		return nil, nil, refuse(notMine)
	}
	return ch, m, nil
}

func (s *Server) chatUpdate(c *call) (object, error) {
	ch, m, err := s.own(c, "cant_update_message")
	if err != nil {
		return nil, err
	}
	said, err := s.content(c)
	if err != nil {
		return nil, err
	}
	_, textGiven := c.args["text"]
	_, blocksGiven := c.args["blocks"]
	switch {
	case !textGiven && !blocksGiven && c.arg("markdown_text") == "" || said.text == "" && len(said.blocks) == 0:
		return nil, refuse("no_text")
	case utf8.RuneCountInString(c.arg("text")) > adviceText:
		return nil, refuse("msg_too_long")
	case s.streaming(m.TS):
		return nil, refuse("streaming_state_conflict")
	}
	was := *m
	if textGiven || said.text != "" {
		m.Text = said.text
	}
	m.Blocks = said.blocks // text without blocks removes the blocks
	if said.metadata != nil {
		m.Metadata = said.metadata
	}
	s.edited(ch, &was, m, len(said.blocks) == 0)
	return object{"channel": ch.ID, "ts": m.TS, "text": m.Text, "message": s.wire(ch, m, true)}, nil
}

// edited tells everybody of a change; label says whether people see "(edited)". The lock is held by the caller.
func (s *Server) edited(c *channel, was, m *Message, label bool) Sent {
	m.Edits++
	m.ChangedAt = time.Now()
	ts := s.stamp(m.ChangedAt)
	if label {
		more := object{"edited_ts": ts}
		for k, v := range m.more {
			if k != "edited_ts" {
				more[k] = v
			}
		}
		m.Edited, m.more = true, more
	}
	s.happen(Happening{Kind: Changed, Message: *m})
	if m.bot() && s.opt.NoEcho || !slices.Contains(c.members, botUserID) {
		return Sent{TS: m.TS}
	}
	sent := s.event(object{
		"type": "message", "subtype": "message_changed", "hidden": true, "channel": c.ID, "channel_type": c.kind(), "ts": ts,
		"event_ts": ts, "message": s.wire(c, m, false), "previous_message": s.wire(c, was, false),
	}, c)
	sent.TS = m.TS
	return sent
}

func (s *Server) chatDelete(c *call) (object, error) {
	ch, m, err := s.own(c, "cant_delete_message")
	if err != nil {
		return nil, err
	}
	s.remove(ch, m)
	return object{"channel": ch.ID, "ts": m.TS}, nil
}

// remove deletes a message; the beginning of a thread leaves a tombstone behind. The lock is held by the caller.
func (s *Server) remove(c *channel, m *Message) Sent {
	was := *m
	ts := s.stamp(time.Now())
	if m.ThreadTS == m.TS {
		*m = Message{
			Channel: m.Channel, TS: m.TS, ThreadTS: m.ThreadTS, Subtype: "tombstone", User: "USLACKBOT",
			Text: "This message was deleted.", At: m.At, ChangedAt: time.Now(), more: object{"hidden": true},
		}
	} else {
		c.messages = slices.DeleteFunc(c.messages, func(x *Message) bool { return x == m })
	}
	s.happen(Happening{Kind: Deleted, Message: was})
	if was.bot() && s.opt.NoEcho || !slices.Contains(c.members, botUserID) {
		return Sent{TS: was.TS}
	}
	sent := s.event(object{
		"type": "message", "subtype": "message_deleted", "hidden": true, "channel": c.ID, "channel_type": c.kind(), "ts": ts,
		"event_ts": ts, "deleted_ts": was.TS, "previous_message": s.wire(c, &was, false),
	}, c)
	sent.TS = was.TS
	return sent
}

func (s *Server) chatPostEphemeral(c *call) (object, error) {
	ch, err := s.talk(c.arg("channel"))
	if err != nil {
		return nil, err
	}
	said, err := s.content(c)
	if err != nil {
		return nil, err
	}
	switch {
	case said.text == "" && len(said.blocks) == 0:
		return nil, refuse("no_text")
	case s.users[c.arg("user")] == nil:
		return nil, refuse("user_not_found")
	case !slices.Contains(ch.members, c.arg("user")):
		return nil, refuse("user_not_in_channel")
	}
	thread, err := threadOf(ch, c.arg("thread_ts"))
	if err != nil {
		return nil, err
	}
	m := s.whisper(ch, c.arg("user"), thread, said)
	return object{"message_ts": m.TS}, nil
}

// whisper shows something to one person. The lock is held by the caller.
func (s *Server) whisper(c *channel, user, thread string, said content) *Message {
	m := &Message{
		Channel: c.ID, TS: s.stamp(time.Now()), ThreadTS: thread, User: botUserID, BotID: botID, team: teamID, Text: said.text,
		Blocks: said.blocks, Only: user, At: time.Now(),
	}
	m.ChangedAt = m.At
	c.private = append(c.private, m)
	s.happen(Happening{Kind: Whispered, Message: *m})
	return m
}

func (s *Server) chatGetPermalink(c *call) (object, error) {
	ch, err := s.talk(c.arg("channel"))
	if err != nil {
		return nil, err
	}
	m := ch.find(c.arg("message_ts"))
	if m == nil {
		return nil, refuse("message_not_found")
	}
	link := "https://" + teamName + ".slack.com/archives/" + ch.ID + "/p" + strings.ReplaceAll(m.TS, ".", "")
	if m.ThreadTS != "" && m.ThreadTS != m.TS {
		link += "?" + url.Values{"thread_ts": {m.ThreadTS}, "cid": {ch.ID}}.Encode()
	}
	return object{"channel": ch.ID, "permalink": link}, nil
}
