package slacktest

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"time"
)

// responseUses is how often a response_url may be used.
const responseUses = 5

type response struct {
	channel *channel
	user    string
	message *Message // the one whose button was pressed; nil for a command
	at      time.Time
	uses    int
}

// responseURL mints one. The lock is held by the caller.
func (s *Server) responseURL(kind string, c *channel, user string, m *Message) string {
	id := s.id("r")
	s.responses[id] = &response{channel: c, user: user, message: m, at: s.now()}
	return "http://" + s.address + "/" + kind + "/" + id
}

// reply is what an app says to a response_url or in the ack of a command.
type reply struct {
	Text            string          `json:"text"`
	Blocks          json.RawMessage `json:"blocks"`
	Type            string          `json:"response_type"`
	Thread          string          `json:"thread_ts"`
	ReplaceOriginal *bool           `json:"replace_original"`
	DeleteOriginal  bool            `json:"delete_original"`
}

func (s *Server) respond(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return // the client left while it wrote
	}
	c := &call{method: "response_url", args: map[string]string{"body": string(body)}}
	s.serve(w, r, c, func() answer {
		if status, code := s.useResponse(r.PathValue("id"), body); code != "" {
			return failed(status, code)
		}
		return answer{status: http.StatusOK, text: "ok"}
	})
}

func (s *Server) useResponse(id string, body []byte) (int, string) {
	u := s.responses[id]
	switch {
	case u == nil:
		return http.StatusNotFound, "no_such_url"
	case s.now().Sub(u.at) > responseLife:
		return http.StatusNotFound, "expired_url"
	case u.uses >= responseUses:
		return http.StatusNotFound, "used_url"
	}
	var in reply
	if json.Unmarshal(body, &in) != nil {
		return http.StatusBadRequest, "invalid_payload"
	}
	u.uses++
	said := content{text: in.Text}
	var err error
	if said.blocks, err = s.blocks(plain(in.Blocks), maxBlocks); err != nil {
		return http.StatusBadRequest, err.Error()
	}
	switch replace := in.ReplaceOriginal != nil && *in.ReplaceOriginal; {
	case in.DeleteOriginal && u.message != nil:
		s.takeBack(u)
	case in.Text == "" && len(said.blocks) == 0:
		return http.StatusBadRequest, "no_text"
	case replace && u.message != nil:
		was := *u.message
		u.message.Text, u.message.Blocks = said.text, said.blocks
		if was.Only != "" {
			u.message.ChangedAt = time.Now()
			s.happen(Happening{Kind: Changed, Message: *u.message})
			break
		}
		s.edited(u.channel, &was, u.message, len(said.blocks) == 0)
	default:
		s.respondNew(u.channel, u.user, in, said)
	}
	return http.StatusOK, ""
}

// takeBack deletes the message whose button was pressed.
func (s *Server) takeBack(u *response) {
	if u.message.Only == "" {
		s.remove(u.channel, u.message)
		return
	}
	u.channel.private = slices.DeleteFunc(u.channel.private, func(m *Message) bool { return m == u.message })
	s.happen(Happening{Kind: Deleted, Message: *u.message})
}

func (s *Server) respondNew(c *channel, user string, in reply, said content) {
	if in.Type == "in_channel" {
		s.add(c, &Message{
			TS: s.stamp(time.Now()), ThreadTS: in.Thread, User: botUserID, BotID: botID, team: teamID, Text: said.text,
			Blocks: said.blocks, At: time.Now(), Unfurls: true,
		})
		return
	}
	s.whisper(c, user, in.Thread, said)
}

// answerCommand shows what an app put into its ack of a command.
func (s *Server) answerCommand(c *channel, user string, answer json.RawMessage) {
	var in reply
	if json.Unmarshal(answer, &in) != nil {
		return
	}
	blocks, err := s.blocks(plain(in.Blocks), maxBlocks)
	if err == nil && (in.Text != "" || len(blocks) > 0) {
		s.respondNew(c, user, in, content{text: in.Text, blocks: blocks})
	}
}
