package slacktest

import (
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Message is something in a channel as it stands. What was before is in the feed.
type Message struct {
	Channel, TS string
	ThreadTS    string // of the message that began the thread; empty outside of threads
	Subtype     string
	User        string // who wrote it; for a bot, its member id
	BotID       string
	Text        string // as sent: with blocks, the fallback of notifications
	Blocks      []Block
	Files       []File
	Metadata    json.RawMessage
	Reactions   []Reaction
	Only        string // the one who sees it, when it is ephemeral
	Edited      bool   // people see "(edited)"
	Edits       int
	Unfurls     bool // links in it would unfurl
	At          time.Time
	ChangedAt   time.Time

	clientID string // client_msg_id; messages of people have one
	team     string
	more     object // fields of odd messages
}

// File is an attachment.
type File struct {
	ID, Name, Title, Type string
	Data                  []byte
}

// Reaction is an emoji under a message and who put it there.
type Reaction struct {
	Name  string
	Users []string
}

// Shown is what a person reads: the blocks, or the text when there are none.
func (m Message) Shown() string {
	if len(m.Blocks) == 0 {
		return m.Text
	}
	var texts []string
	for _, b := range m.Blocks {
		if b.Text != "" {
			texts = append(texts, b.Text)
		}
	}
	return strings.Join(texts, "\n\n")
}

// pinging is the markup that notifies people. A markdown block is not known to be safe from it.
var pinging = regexp.MustCompile(`<(![a-z]+|@[UW]|!subteam\^)[^>]*>`)

// Pings is the markup in the message that would notify people.
func (m Message) Pings() []string { return pinging.FindAllString(m.Text+"\n"+m.Shown(), -1) }

// Buttons is what a person can press.
func (m Message) Buttons() []Button {
	var all []Button
	for _, b := range m.Blocks {
		all = append(all, b.Buttons...)
	}
	return all
}

// Thread is the thread that began with this message, oldest first, itself included.
func (s *Server) Thread(ts string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Message
	for _, c := range s.channels {
		for _, m := range c.messages {
			if m.TS == ts || m.ThreadTS == ts {
				all = append(all, *m)
			}
		}
	}
	return all
}

// Messages is what stands in a channel outside of threads, oldest first.
func (s *Server) Messages(channel string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Message
	if c := s.channels[channel]; c != nil {
		for _, m := range c.messages {
			if m.top() {
				all = append(all, *m)
			}
		}
	}
	return all
}

// Ephemerals is what this user alone sees, oldest first; with an empty user, what anybody alone sees.
func (s *Server) Ephemerals(user string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Message
	for _, c := range s.channels {
		for _, m := range c.private {
			if user == "" || m.Only == user {
				all = append(all, *m)
			}
		}
	}
	slices.SortFunc(all, func(a, b Message) int { return cmp.Compare(a.TS, b.TS) })
	return all
}

// top says whether the message stands in the channel itself.
func (m *Message) top() bool {
	return m.ThreadTS == "" || m.ThreadTS == m.TS || m.Subtype == "thread_broadcast"
}

// bot says whether the app itself wrote it.
func (m *Message) bot() bool { return m.BotID == botID }

// add puts a message into its channel, at its place in time, and tells everybody. The lock is held by the caller.
func (s *Server) add(c *channel, m *Message) Sent {
	m.Channel, m.ChangedAt = c.ID, m.At
	c.messages = append(c.messages, m)
	if root := c.find(m.ThreadTS); root != nil && root.ThreadTS == "" {
		root.ThreadTS = root.TS // a message with replies carries its own ts
	}
	s.happen(Happening{Kind: Posted, Message: *m})
	if m.bot() && s.opt.NoEcho || !slices.Contains(c.members, botUserID) {
		return Sent{TS: m.TS}
	}
	event := s.wire(c, m, false)
	maps.Copy(event, object{"channel": c.ID, "event_ts": m.TS, "channel_type": c.kind()})
	for _, k := range []string{"reply_count", "reply_users", "reply_users_count", "latest_reply", "subscribed"} {
		delete(event, k)
	}
	if len(m.Files) > 0 {
		event["subtype"] = "file_share"
	}
	sent := s.event(event, c)
	sent.TS = m.TS
	return sent
}

// wire is the message as conversations.history has it.
func (s *Server) wire(c *channel, m *Message, metadata bool) object {
	o := object{"type": "message", "ts": m.TS, "text": m.Text}
	put := func(key, v string) {
		if v != "" {
			o[key] = v
		}
	}
	put("subtype", m.Subtype)
	put("user", m.User)
	put("team", m.team)
	put("client_msg_id", m.clientID)
	put("bot_id", m.BotID)
	put("thread_ts", m.ThreadTS)
	if m.bot() {
		o["app_id"] = appID
		o["bot_profile"] = object{
			"id": botID, "app_id": appID, "user_id": botUserID, "name": "bgbot", "team_id": teamID, "deleted": false,
			"updated": 1700000000,
		}
	}
	if len(m.Blocks) > 0 {
		raw := make([]json.RawMessage, len(m.Blocks))
		for i, b := range m.Blocks {
			raw[i] = b.Raw
		}
		o["blocks"] = raw
	}
	if len(m.Files) > 0 {
		o["files"], o["upload"] = filesWire(m.Files), false
	}
	if m.Edited {
		o["edited"] = object{"user": m.User, "ts": m.more["edited_ts"]}
	}
	if metadata && len(m.Metadata) > 0 {
		o["metadata"] = m.Metadata
	}
	if len(m.Reactions) > 0 {
		var all []object
		for _, r := range m.Reactions {
			all = append(all, object{"name": r.Name, "users": r.Users, "count": len(r.Users)})
		}
		o["reactions"] = all
	}
	for k, v := range m.more {
		if k != "edited_ts" {
			o[k] = v
		}
	}
	s.threadWire(c, m, o)
	return o
}

// threadWire adds what a message says about its thread.
func (s *Server) threadWire(c *channel, m *Message, o object) {
	if m.ThreadTS == "" {
		return
	}
	if m.ThreadTS != m.TS {
		if root := c.find(m.ThreadTS); root != nil {
			o["parent_user_id"] = root.User
		}
		return
	}
	var users []string
	count, latest := 0, ""
	for _, r := range c.messages {
		if r.ThreadTS == m.TS && r != m {
			count++
			latest = r.TS
			if !slices.Contains(users, r.User) {
				users = append(users, r.User)
			}
		}
	}
	maps.Copy(o, object{
		"reply_count": count, "reply_users": users, "reply_users_count": len(users), "latest_reply": latest, "is_locked": false,
		"subscribed": false,
	})
}

func filesWire(files []File) []object {
	all := make([]object, 0, len(files))
	for _, f := range files {
		all = append(all, object{
			"id": f.ID, "name": f.Name, "title": f.Title, "mimetype": f.Type, "size": len(f.Data), "mode": "hosted",
			"is_external": false, "user": botUserID, "user_team": teamID, "file_access": "visible",
			"url_private": "https://files.slack.com/files-pri/" + teamID + "-" + f.ID + "/" + f.Name,
		})
	}
	return all
}
