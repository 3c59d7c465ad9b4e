package slacktest

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// stream is a message that is being written by chat.appendStream.
type stream struct {
	channel *channel
	message *Message
	user    string // the one recipient
	at      time.Time
	stopped bool // by the button that people have
	done    bool
}

// streaming says whether a native stream owns the message now.
func (s *Server) streaming(ts string) bool {
	t := s.streams[ts]
	return t != nil && !t.done && s.now().Sub(t.at) <= streamLife
}

func (s *Server) chatStartStream(c *call) (object, error) {
	ch, err := s.talk(c.arg("channel"))
	if err != nil {
		return nil, err
	}
	if c.arg("thread_ts") == "" {
		return nil, invalid("invalid_arguments", "[ERROR] missing required field: thread_ts")
	}
	thread, err := threadOf(ch, c.arg("thread_ts"))
	if err != nil {
		return nil, err
	}
	user := c.arg("recipient_user_id")
	switch {
	case ch.IM: // there is but one who could be meant
	case user == "":
		return nil, refuse("missing_recipient_user_id")
	case c.arg("recipient_team_id") == "":
		return nil, refuse("missing_recipient_team_id")
	case s.users[user] == nil:
		return nil, refuse("user_not_found")
	}
	m := &Message{
		TS: s.stamp(time.Now()), ThreadTS: thread, User: botUserID, BotID: botID, team: teamID, At: time.Now(), Unfurls: true,
	}
	if err := s.grow(m, c); err != nil {
		return nil, err
	}
	s.streams[m.TS] = &stream{channel: ch, message: m, user: user, at: s.now()}
	s.add(ch, m)
	return object{"channel": ch.ID, "ts": m.TS}, nil
}

// running finds the stream of a call.
func (s *Server) running(c *call) (*stream, error) {
	_, m, err := s.own(c, "message_not_owned_by_app")
	if err != nil {
		return nil, err
	}
	t := s.streams[m.TS]
	switch {
	case t != nil && t.stopped:
		return nil, refuse("stopped_by_user")
	case !s.streaming(m.TS):
		return nil, refuse("message_not_in_streaming_state")
	}
	return t, nil
}

func (s *Server) chatAppendStream(c *call) (object, error) {
	t, err := s.running(c)
	if err != nil {
		return nil, err
	}
	if c.arg("markdown_text") == "" && c.arg("chunks") == "" {
		return nil, refuse("no_text")
	}
	if err := s.grow(t.message, c); err != nil {
		return nil, err
	}
	t.message.Edits++
	t.message.ChangedAt = time.Now()
	s.happen(Happening{Kind: Changed, Message: *t.message})
	return object{"channel": t.channel.ID, "ts": t.message.TS}, nil
}

func (s *Server) chatStopStream(c *call) (object, error) {
	t, err := s.running(c)
	if err != nil {
		return nil, err
	}
	blocks, err := s.blocks(c.arg("blocks"), maxBlocks)
	if err != nil {
		return nil, err
	}
	if err := s.grow(t.message, c); err != nil {
		return nil, err
	}
	was := *t.message
	t.message.Blocks = append(t.message.Blocks, blocks...)
	t.done = true
	s.edited(t.channel, &was, t.message, false)
	return object{"channel": t.channel.ID, "ts": t.message.TS, "message": s.wire(t.channel, t.message, true)}, nil
}

// grow adds what a call brings to a streamed message: Markdown, or chunks of it.
func (s *Server) grow(m *Message, c *call) error {
	text := c.arg("markdown_text")
	if raw := c.arg("chunks"); raw != "" {
		if text != "" {
			return refuse("markdown_text_conflict")
		}
		var chunks []object
		if json.Unmarshal([]byte(raw), &chunks) != nil {
			return refuse("invalid_chunks")
		}
		for _, k := range chunks {
			switch str(k, "type") {
			case "markdown_text":
				text += str(k, "text")
			case "task_update", "plan_update":
				text += fmt.Sprintf("\n- %s: %s", str(k, "title"), str(k, "status"))
			case "blocks":
			default:
				return refuse("invalid_chunks")
			}
		}
	}
	if utf8.RuneCountInString(text) > maxMarkdown {
		return refuse("msg_too_long")
	}
	m.Text += text
	if m.Text == "" {
		return nil
	}
	m.Blocks = []Block{{Type: "markdown", ID: "stream", Text: m.Text, Raw: encode(object{"type": "markdown", "block_id": "stream", "text": m.Text})}}
	return nil
}

// StopStream presses the button that ends a native stream.
func (s *Server) StopStream(user, ts string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.streams[ts]
	if t == nil || !s.streaming(ts) {
		return Sent{}, fmt.Errorf("slacktest: nothing streams into %s", ts)
	}
	t.stopped, t.done = true, true
	return s.event(object{
		"type": "agent_session_stopped", "channel": t.channel.ID, "thread_ts": t.message.ThreadTS, "user": user,
		"streaming_message_ts": []string{ts}, "event_ts": s.stamp(time.Now()),
	}, t.channel), nil
}
