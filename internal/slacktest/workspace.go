package slacktest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The workspace has one app. Its ids look like Slack's and are the same in every run.
const (
	teamID    = "T0TESTING"
	teamName  = "testing"
	appID     = "A0BGBOTAPP"
	botUserID = "U0BGBOTUSR"
	botID     = "B0BGBOTBOT"
	channelID = "C0INCIDENT"
)

// object is a JSON object.
type object = map[string]any

// TeamID is the id of the workspace.
func (s *Server) TeamID() string { return teamID }

// AppID is the id of the app.
func (s *Server) AppID() string { return appID }

// BotUserID is the app as a member of channels.
func (s *Server) BotUserID() string { return botUserID }

// BotID is the app as the author of messages.
func (s *Server) BotID() string { return botID }

// Channel is the private channel that the app is in.
func (s *Server) Channel() string { return channelID }

// AppToken opens sockets.
func (s *Server) AppToken() string { return "xapp-1-" + appID + "-1-slacktest" }

// BotToken calls everything else.
func (s *Server) BotToken() string { return "xoxb-1-slacktest" }

// User is somebody in the workspace. The zero flags are those of a full member with a confirmed address.
type User struct {
	ID       string
	Name     string // what @ completes; ID in lower case when it is empty
	RealName string
	TeamID   string // the home of a person from elsewhere

	Bot, Restricted, UltraRestricted, Stranger, Deleted, AppUser, WorkflowBot, EmailUnconfirmed, Admin bool
}

// conversation is a channel and who is in it.
type channel struct {
	Channel
	members  []string
	messages []*Message // oldest first
	private  []*Message // ephemeral ones
}

// Channel is a conversation.
type Channel struct {
	ID, Name                                           string
	Public, Archived                                   bool
	Shared, ExtShared, PendingExtShared, OrgShared, IM bool
}

// settle makes the first members and the channel.
func (s *Server) settle() {
	s.scopes = strings.Join(s.opt.Scopes, ",")
	s.users[botUserID] = &User{ID: botUserID, Name: "bgbot", RealName: "bgbot", Bot: true, TeamID: teamID}
	s.channels[channelID] = &channel{Channel: Channel{ID: channelID, Name: "incident"}, members: []string{botUserID}}
}

// AddUser lets somebody into the workspace, and into no channel.
func (s *Server) AddUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Name == "" {
		u.Name = strings.ToLower(u.ID)
	}
	if u.RealName == "" {
		u.RealName = u.Name
	}
	if u.TeamID == "" {
		u.TeamID = teamID
	}
	s.users[u.ID] = &u // again: the same person with other flags
}

// AddChannel opens another channel, or changes the flags of one that is there; members stay.
func (s *Server) AddChannel(c Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.channels[c.ID]; was != nil {
		was.Channel = c
		return
	}
	s.channels[c.ID] = &channel{Channel: c}
}

// Archive closes the channel, or opens it again.
func (s *Server) Archive(channel string, archived bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.channels[channel]; c != nil {
		c.Archived = archived
	}
}

// Join puts a user into a channel; the app hears of it when it is there, or when it is the one who comes.
func (s *Server) Join(channel, user string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, u := s.channels[channel], s.users[user]
	if c == nil || u == nil {
		return Sent{}, fmt.Errorf("slacktest: no channel %s or no user %s", channel, user)
	}
	if slices.Contains(c.members, user) {
		return Sent{}, nil
	}
	c.members = append(c.members, user)
	if !slices.Contains(c.members, botUserID) {
		return Sent{}, nil
	}
	return s.event(object{
		"type": "member_joined_channel", "user": user, "channel": channel, "channel_type": c.letter(), "team": u.TeamID,
		"event_ts": s.stamp(time.Now()),
	}, nil), nil
}

// Leave takes a user out of a channel. The app hears of others only.
func (s *Server) Leave(channel, user string) (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[channel]
	if c == nil || !slices.Contains(c.members, user) {
		return Sent{}, fmt.Errorf("slacktest: %s is not in %s", user, channel)
	}
	c.members = slices.DeleteFunc(slices.Clone(c.members), func(m string) bool { return m == user })
	if !slices.Contains(c.members, botUserID) {
		return Sent{}, nil
	}
	return s.event(object{
		"type": "member_left_channel", "user": user, "channel": channel, "channel_type": c.letter(), "team": teamID,
		"event_ts": s.stamp(time.Now()),
	}, nil), nil
}

// RefuseToken answers every call with this token with code, for example token_revoked; an empty code lets it in again.
func (s *Server) RefuseToken(token, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal[token] = code
}

// SetScopes changes what the bot token may do.
func (s *Server) SetScopes(scopes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopes = strings.Join(scopes, ",")
}

// stamp is a ts: unique and rising, whatever the clock does. The lock is held by the caller.
func (s *Server) stamp(at time.Time) string {
	s.lastTS = max(s.lastTS+1, at.UnixMicro())
	return fmt.Sprintf("%d.%06d", s.lastTS/1e6, s.lastTS%1e6)
}

// id gives a new id with this first letter. The lock is held by the caller.
func (s *Server) id(letter string) string {
	s.minted++
	return fmt.Sprintf("%s0%08d", letter, s.minted)
}

// uuid is the form that envelope_id and client_msg_id have.
func (s *Server) uuid() string {
	s.minted++
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", s.minted, time.Now().UnixMicro())
}

// letter is how events name the kind of a conversation when somebody joins it.
func (c *channel) letter() string {
	if c.Public {
		return "C"
	}
	return "G"
}

// kind is how messages name the kind of a conversation.
func (c *channel) kind() string {
	switch {
	case c.IM:
		return "im"
	case c.Public:
		return "channel"
	default:
		return "group"
	}
}

func (c *channel) find(ts string) *Message {
	if i := slices.IndexFunc(c.messages, func(m *Message) bool { return m.TS == ts }); i >= 0 {
		return c.messages[i]
	}
	return nil
}

// wire is the channel as conversations.info has it.
func (c *channel) wire() object {
	return object{
		"id": c.ID, "name": c.Name, "name_normalized": c.Name, "is_channel": !c.IM, "is_im": c.IM, "is_mpim": false,
		"is_group":   false, // that is for private channels made before 2021
		"is_private": !c.Public, "created": 1700000000, "creator": botUserID,
		"is_archived": c.Archived, "is_general": false, "is_member": slices.Contains(c.members, botUserID),
		"is_shared": c.Shared || c.ExtShared || c.OrgShared, "is_ext_shared": c.ExtShared, "is_org_shared": c.OrgShared,
		"is_pending_ext_shared": c.PendingExtShared, "pending_shared": []string{}, "shared_team_ids": []string{teamID},
		"context_team_id": teamID, "unlinked": 0,
		"topic":   object{"value": "", "creator": "", "last_set": 0},
		"purpose": object{"value": "", "creator": "", "last_set": 0},
	}
}

// wire is the user as users.info has it.
func (u *User) wire() object {
	o := object{
		"id": u.ID, "team_id": u.TeamID, "name": u.Name, "real_name": u.RealName, "deleted": u.Deleted, "color": "9f69e7",
		"tz": "Etc/UTC", "tz_label": "UTC", "tz_offset": 0, "updated": 1700000000, "is_app_user": u.AppUser, "is_bot": u.Bot,
		"profile": object{
			"real_name": u.RealName, "real_name_normalized": u.RealName, "display_name": u.Name,
			"display_name_normalized": u.Name, "team": u.TeamID, "avatar_hash": "g0", "status_text": "", "status_emoji": "",
		},
	}
	if u.Deleted {
		return o // the rest is not told of people who left
	}
	for k, v := range map[string]bool{
		"is_admin": u.Admin, "is_owner": false, "is_primary_owner": false, "is_restricted": u.Restricted || u.UltraRestricted,
		"is_ultra_restricted": u.UltraRestricted,
	} {
		o[k] = v
	}
	if u.Stranger {
		o["is_stranger"] = true
	}
	if u.WorkflowBot {
		o["is_workflow_bot"] = true
	}
	if !u.Bot {
		o["is_email_confirmed"] = !u.EmailUnconfirmed
	}
	return o
}
