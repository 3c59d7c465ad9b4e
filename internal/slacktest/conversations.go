package slacktest

import (
	"encoding/base64"
	"slices"
	"strconv"
)

// look finds a channel that the app may read.
func (s *Server) look(id string) (*channel, error) {
	c := s.channels[id]
	if c == nil || !c.Public && !slices.Contains(c.members, botUserID) {
		return nil, refuse("channel_not_found")
	}
	return c, nil
}

func (s *Server) conversationsInfo(c *call) (object, error) {
	ch, err := s.look(c.arg("channel"))
	if err != nil {
		return nil, err
	}
	o := ch.wire()
	if c.yes("include_num_members") {
		o["num_members"] = len(ch.members)
	}
	return object{"channel": o}, nil
}

func (s *Server) conversationsMembers(c *call) (object, error) {
	ch, err := s.look(c.arg("channel"))
	if err != nil {
		return nil, err
	}
	from, to, next, err := page(c, len(ch.members))
	if err != nil {
		return nil, err
	}
	return object{"members": slices.Clone(ch.members[from:to]), "response_metadata": object{"next_cursor": next}}, nil
}

func (s *Server) conversationsHistory(c *call) (object, error) {
	ch, err := s.look(c.arg("channel"))
	if err != nil {
		return nil, err
	}
	if !slices.Contains(ch.members, botUserID) {
		return nil, refuse("not_in_channel")
	}
	var found []*Message
	for _, m := range slices.Backward(ch.messages) { // newest first
		if m.top() && within(c, m.TS) {
			found = append(found, m)
		}
	}
	return s.pageOf(c, ch, found)
}

func (s *Server) conversationsReplies(c *call) (object, error) {
	ch, err := s.look(c.arg("channel"))
	if err != nil {
		return nil, err
	}
	root := ch.find(c.arg("ts"))
	if root == nil {
		return nil, refuse("thread_not_found")
	}
	found := []*Message{root} // always, whatever oldest says
	for _, m := range ch.messages {
		if m != root && m.ThreadTS == root.TS && within(c, m.TS) {
			found = append(found, m)
		}
	}
	return s.pageOf(c, ch, found)
}

func (s *Server) pageOf(c *call, ch *channel, found []*Message) (object, error) {
	from, to, next, err := page(c, len(found))
	if err != nil {
		return nil, err
	}
	messages := make([]object, 0, to-from)
	for _, m := range found[from:to] {
		messages = append(messages, s.wire(ch, m, c.yes("include_all_metadata")))
	}
	o := object{"messages": messages, "has_more": next != "", "pin_count": 0}
	if next != "" {
		o["response_metadata"] = object{"next_cursor": next}
	}
	return o, nil
}

// within says whether ts lies between oldest and latest, which themselves count only with inclusive.
func within(c *call, ts string) bool {
	at := micros(ts)
	if o := c.arg("oldest"); o != "" {
		if from := micros(o); at < from || at == from && !c.yes("inclusive") {
			return false
		}
	}
	if l := c.arg("latest"); l != "" {
		if to := micros(l); at > to || at == to && !c.yes("inclusive") {
			return false
		}
	}
	return true
}

// micros reads a ts, which may come without a fraction or with a short one.
func micros(ts string) int64 {
	f, _ := strconv.ParseFloat(ts, 64)
	return int64(f*1e6 + 0.5)
}

// page reads limit and cursor and gives the part of n things to answer with and the cursor of the next.
func page(c *call, n int) (from, to int, next string, err error) {
	limit := 100
	if l := c.arg("limit"); l != "" && l != "0" {
		if limit, err = strconv.Atoi(l); err != nil || limit < 0 || limit > 1000 {
			return 0, 0, "", refuse("invalid_limit")
		}
	}
	if cursor := c.arg("cursor"); cursor != "" {
		raw, _ := base64.StdEncoding.DecodeString(cursor)
		if from, err = strconv.Atoi(string(raw)); err != nil || from > n {
			return 0, 0, "", refuse("invalid_cursor")
		}
	}
	to = min(n, from+limit)
	if to < n {
		next = base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(to)))
	}
	return from, to, next, nil
}

func (s *Server) usersInfo(c *call) (object, error) {
	u := s.users[c.arg("user")]
	if u == nil {
		return nil, refuse("user_not_found")
	}
	return object{"user": u.wire()}, nil
}
