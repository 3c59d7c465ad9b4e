package slacktest

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Call is one request to the Web API.
type Call struct {
	Method string            // of the Web API, or upload, or response_url
	Args   map[string]string // without the token; what is not a string in a JSON body is kept as JSON
	Header http.Header       // without Authorization
	At     time.Time
	Took   time.Duration // until the answer was ready; zero while it hangs
	Status int           // of HTTP; 0 when no answer was given
	Error  string        // Slack's code, or what the fault was
	Inside bool          // it came before an open Retry-After had passed
}

// Calls is every request so far, oldest first; methods given limit it to them.
func (s *Server) Calls(methods ...string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.calls)
	if len(methods) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(c Call) bool { return !slices.Contains(methods, c.Method) })
}

// method is one of the Web API.
type method struct {
	scope string // one of these, separated by spaces; none is needed when it is empty
	do    func(*Server, *call) (object, error)
}

func (s *Server) methodTable() map[string]method {
	table := map[string]method{
		"apps.connections.open": {"", (*Server).connectionsOpen},
		"auth.test":             {"", (*Server).authTest},

		"chat.postMessage":   {"chat:write", (*Server).chatPostMessage},
		"chat.update":        {"chat:write", (*Server).chatUpdate},
		"chat.delete":        {"chat:write", (*Server).chatDelete},
		"chat.postEphemeral": {"chat:write", (*Server).chatPostEphemeral},
		"chat.getPermalink":  {"", (*Server).chatGetPermalink},
		"chat.startStream":   {"chat:write", (*Server).chatStartStream},
		"chat.appendStream":  {"chat:write", (*Server).chatAppendStream},
		"chat.stopStream":    {"chat:write", (*Server).chatStopStream},

		"conversations.info":    {"groups:read channels:read", (*Server).conversationsInfo},
		"conversations.history": {"groups:history channels:history", (*Server).conversationsHistory},
		"conversations.replies": {"groups:history channels:history", (*Server).conversationsReplies},
		"conversations.members": {"groups:read channels:read", (*Server).conversationsMembers},
		"users.info":            {"users:read", (*Server).usersInfo},

		"team.info":                   {"team:read groups:read channels:read users:read", (*Server).teamInfo},
		"bots.info":                   {"users:read", (*Server).botsInfo},
		"reactions.add":               {"reactions:write", (*Server).react},
		"reactions.remove":            {"reactions:write", (*Server).react},
		"assistant.threads.setStatus": {"chat:write assistant:write", (*Server).setStatus},
		"agents.sessions.setStatus":   {"chat:write assistant:write", (*Server).setStatus},

		"files.getUploadURLExternal":   {"files:write", (*Server).filesGetUploadURLExternal},
		"files.completeUploadExternal": {"files:write", (*Server).filesCompleteUploadExternal},

		"views.publish": {"", (*Server).viewsPublish},
		"views.open":    {"", (*Server).viewsOpen},
		"views.push":    {"", (*Server).viewsOpen},
		"views.update":  {"", (*Server).viewsUpdate},
	}
	if s.opt.NoAssistant {
		delete(table, "assistant.threads.setStatus")
		delete(table, "agents.sessions.setStatus")
	}
	return table
}

// call is a request on its way.
type call struct {
	method string
	args   map[string]string
	token  string
	bearer bool        // the token came in the header
	answer http.Header // headers to answer with
	index  int         // in Server.calls
}

func (c *call) arg(name string) string { return c.args[name] }

// yes is a boolean argument.
func (c *call) yes(name string) bool { v := c.args[name]; return v == "true" || v == "1" }

// slackError is an answer with ok false.
type slackError struct {
	code string
	more object
}

func (e *slackError) Error() string { return e.code }

func refuse(code string) error { return &slackError{code: code} }

// invalid is refuse with the reasons in response_metadata.messages.
func invalid(code string, why ...string) error {
	return &slackError{code, object{"response_metadata": object{"messages": why}}}
}

// answer is what goes back: an object as JSON, or a text.
type answer struct {
	status int
	code   string // Slack's, of a failure
	object object
	text   string
}

func (s *Server) api(w http.ResponseWriter, r *http.Request) {
	c := &call{method: r.PathValue("method"), answer: http.Header{}}
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return // the client left while it wrote
	}
	if err := c.read(r, body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.serve(w, r, c, func() answer { return s.do(c) })
}

// serve records a call, does it with the lock held, and answers, or lets it go wrong.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, c *call, do func() answer) {
	s.mu.Lock()
	header := r.Header.Clone()
	header.Del("Authorization")
	index := len(s.calls)
	c.index = index
	s.calls = append(s.calls, Call{Method: c.method, Args: c.args, Header: header, At: time.Now()})
	f := s.fault(c)
	var a answer
	if f == nil || f.Kind.after() {
		a = do()
	}
	if f != nil && f.Kind != Slow {
		a.status, a.code = f.Kind.status(), f.Kind.String()
	}
	entry := &s.calls[index]
	entry.Status, entry.Error, entry.Took = a.status, a.code, time.Since(entry.At)
	s.notify()
	s.mu.Unlock()
	if f != nil && !s.fail(w, r, f) {
		return
	}
	maps.Copy(w.Header(), c.answer)
	if a.object == nil {
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.text)
		return
	}
	writeJSON(w, a.status, a.object)
}

// do is a method of the Web API. The lock is held by the caller.
func (s *Server) do(c *call) answer {
	m, known := s.methods[c.method]
	err := refuse("unknown_method")
	if known {
		err = s.admit(c, m)
	}
	if err == nil {
		if wait := s.limit(c); wait > 0 {
			c.answer.Set("Retry-After", strconv.Itoa(wait))
			return failed(http.StatusTooManyRequests, "ratelimited")
		}
		var reply object
		if reply, err = m.do(s, c); err == nil {
			o := object{"ok": true}
			maps.Copy(o, reply)
			return answer{status: http.StatusOK, object: o}
		}
	}
	a := failed(http.StatusOK, err.Error())
	if e, ok := errors.AsType[*slackError](err); ok {
		maps.Copy(a.object, e.more)
	}
	return a
}

func failed(status int, code string) answer {
	return answer{status: status, code: code, object: object{"ok": false, "error": code}}
}

// admit looks at the token and its scopes.
func (s *Server) admit(c *call, m method) error {
	app := c.method == "apps.connections.open"
	switch {
	case c.token == "" || app && !c.bearer:
		return refuse("not_authed")
	case s.refusal[c.token] != "":
		return refuse(s.refusal[c.token])
	case c.token != s.AppToken() && c.token != s.BotToken():
		return refuse("invalid_auth")
	case app != (c.token == s.AppToken()) && c.method != "auth.test":
		return refuse("not_allowed_token_type")
	case app || c.token == s.AppToken():
		c.answer.Set("X-OAuth-Scopes", "connections:write")
		return nil
	}
	c.answer.Set("X-OAuth-Scopes", s.scopes)
	needed := strings.Fields(m.scope)
	c.answer.Set("X-Accepted-OAuth-Scopes", strings.Join(needed, ","))
	have := strings.Split(s.scopes, ",")
	if len(needed) > 0 && !slices.ContainsFunc(needed, func(n string) bool { return slices.Contains(have, n) }) {
		return &slackError{"missing_scope", object{"needed": strings.Join(needed, ","), "provided": s.scopes}}
	}
	return nil
}

// read takes the arguments from the query, a form or JSON.
func (c *call) read(r *http.Request, body []byte) error {
	c.args = map[string]string{}
	for k, v := range r.URL.Query() {
		c.args[k] = v[0]
	}
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "application/json":
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(body, &fields); err != nil && len(body) > 0 {
			return err
		}
		for k, raw := range fields {
			c.args[k] = plain(raw)
		}
	case "multipart/form-data":
		form, err := multipartForm(body, params["boundary"])
		if err != nil {
			return err
		}
		maps.Copy(c.args, form)
	default:
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return err
		}
		for k, v := range form {
			c.args[k] = v[0]
		}
	}
	c.token = c.args["token"]
	delete(c.args, "token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		c.token, c.bearer = bearer, true
	}
	return nil
}

// plain is a JSON string without its quotes, null as nothing, and any other JSON as it is.
func plain(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	if string(raw) == "null" {
		return ""
	}
	return string(raw)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that left is no concern of ours
}

func (s *Server) authTest(c *call) (object, error) {
	o := object{
		"url": "https://" + teamName + ".slack.com/", "team": teamName, "team_id": teamID, "user": "bgbot", "user_id": botUserID,
		"bot_id": botID, "is_enterprise_install": false,
	}
	if c.token == s.AppToken() {
		o = object{"app_name": "bgbot", "app_id": appID}
	}
	if s.opt.Enterprise != "" {
		o["enterprise_id"] = s.opt.Enterprise
	}
	return o, nil
}
