package slacktest

import "slices"

// react is reactions.add and reactions.remove.
func (s *Server) react(c *call) (object, error) {
	ch, err := s.talk(c.arg("channel"))
	if err != nil {
		return nil, err
	}
	m := ch.find(c.arg("timestamp"))
	name := c.arg("name")
	switch {
	case m == nil:
		return nil, refuse("message_not_found")
	case name == "":
		return nil, refuse("invalid_name")
	}
	i := slices.IndexFunc(m.Reactions, func(r Reaction) bool { return r.Name == name })
	mine := i >= 0 && slices.Contains(m.Reactions[i].Users, botUserID)
	reactions := slices.Clone(m.Reactions) // what was told in the feed stays as it was
	switch add := c.method == "reactions.add"; {
	case add && mine:
		return nil, refuse("already_reacted")
	case !add && !mine:
		return nil, refuse("no_reaction")
	case add && i < 0:
		reactions = append(reactions, Reaction{Name: name, Users: []string{botUserID}})
	case add:
		reactions[i].Users = append(slices.Clone(reactions[i].Users), botUserID)
	default:
		reactions[i].Users = slices.DeleteFunc(slices.Clone(reactions[i].Users), func(u string) bool { return u == botUserID })
		if len(reactions[i].Users) == 0 {
			reactions = slices.Delete(reactions, i, i+1)
		}
	}
	m.Reactions = reactions
	s.happen(Happening{Kind: Reacted, Message: *m})
	return nil, nil
}

// setStatus shows a line beside a thread, or takes it away.
func (s *Server) setStatus(c *call) (object, error) {
	ch, err := s.talk(c.arg("channel_id"))
	if err != nil {
		return nil, err
	}
	root := ch.find(c.arg("thread_ts"))
	if root == nil {
		return nil, refuse("invalid_thread_ts")
	}
	s.happen(Happening{Kind: Status, Message: Message{Channel: ch.ID, ThreadTS: root.TS, Text: c.arg("status")}})
	return nil, nil
}

func (s *Server) teamInfo(*call) (object, error) {
	return object{"team": object{
		"id": teamID, "name": teamName, "domain": teamName, "url": "https://" + teamName + ".slack.com/", "email_domain": "",
	}}, nil
}

func (s *Server) botsInfo(c *call) (object, error) {
	if c.arg("bot") != botID {
		return nil, refuse("bot_not_found")
	}
	return object{"bot": object{
		"id": botID, "deleted": false, "name": "bgbot", "updated": 1700000000, "app_id": appID, "user_id": botUserID,
	}}, nil
}
