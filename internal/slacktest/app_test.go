package slacktest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bgbot/internal/slacktest"
)

// app is a client of the plainest kind: net/http, a WebSocket and no library of Slack.
type app struct {
	*slacktest.Server
	t *testing.T
}

func start(t *testing.T, o slacktest.Options) *app {
	t.Helper()
	s, err := slacktest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.AddUser(slacktest.User{ID: "U0ALICE", Name: "alice"})
	s.AddUser(slacktest.User{ID: "U0MALLORY", Name: "mallory"})
	return &app{Server: s, t: t}
}

// join lets alice in and returns when nothing of it is under way.
func (a *app) join() {
	a.t.Helper()
	if _, err := a.Join(a.Channel(), "U0ALICE"); err != nil {
		a.t.Fatal(err)
	}
}

func (a *app) deadline() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	a.t.Cleanup(cancel)
	return ctx
}

// object is a JSON object.
type object = map[string]any

// call posts a form with the bot token and gives the HTTP status, the headers and the body.
func (a *app) raw(token, method string, args ...string) (int, http.Header, string) {
	a.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		form.Set(args[i], args[i+1])
	}
	req, err := http.NewRequestWithContext(a.deadline(), http.MethodPost, a.URL()+method, strings.NewReader(form.Encode()))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	return resp.StatusCode, resp.Header, string(body)
}

// call is raw with the bot token and gives the object of the answer.
func (a *app) call(method string, args ...string) object {
	a.t.Helper()
	_, _, body := a.raw(a.BotToken(), method, args...)
	var o object
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		a.t.Fatalf("%s: %v in %q", method, err, body)
	}
	return o
}

// ok is call that must succeed.
func (a *app) ok(method string, args ...string) object {
	a.t.Helper()
	o := a.call(method, args...)
	if o["ok"] != true {
		a.t.Fatalf("%s: %v", method, o)
	}
	return o
}

// code is call that must fail, and its error.
func (a *app) code(method string, args ...string) string {
	a.t.Helper()
	o := a.call(method, args...)
	if o["ok"] != false {
		a.t.Fatalf("%s succeeded: %v", method, o)
	}
	code, _ := o["error"].(string)
	return code
}

// line is a socket and what came over it.
type line struct {
	a    *app
	conn *websocket.Conn
	in   chan object
	pong chan string
	mute bool // it acks nothing by itself

	mu  sync.Mutex // of writes
	err chan error // how it ended
}

// connect opens a socket and waits for its first frame, which must be hello.
func (a *app) connect(mute bool) *line {
	a.t.Helper()
	l := a.dial(mute)
	if hello := l.next(); hello["type"] != "hello" {
		a.t.Fatalf("the first frame is %v", hello)
	}
	return l
}

func (a *app) dial(mute bool) *line {
	a.t.Helper()
	_, _, body := a.raw(a.AppToken(), "apps.connections.open")
	var open struct{ URL string }
	if err := json.Unmarshal([]byte(body), &open); err != nil || open.URL == "" {
		a.t.Fatalf("apps.connections.open: %s", body)
	}
	conn, _, err := websocket.DefaultDialer.DialContext(a.deadline(), open.URL, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	l := &line{a: a, conn: conn, in: make(chan object, 10000), pong: make(chan string, 10), mute: mute, err: make(chan error, 1)}
	a.t.Cleanup(func() { conn.Close() })
	conn.SetPongHandler(func(data string) error {
		l.pong <- data
		return nil
	})
	go l.read()
	return l
}

func (l *line) read() {
	for {
		_, data, err := l.conn.ReadMessage()
		if err != nil {
			l.err <- err
			close(l.in)
			return
		}
		var o object
		if json.Unmarshal(data, &o) != nil {
			o = object{"garbage": string(data)}
		}
		if id, ok := o["envelope_id"].(string); ok && !l.mute {
			l.ack(id, nil)
		}
		l.in <- o
	}
}

func (l *line) ack(id string, payload any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := object{"envelope_id": id}
	if payload != nil {
		o["payload"] = payload
	}
	l.conn.WriteJSON(o)
}

// next is the next frame; an empty object when the socket has ended.
func (l *line) next() object {
	l.a.t.Helper()
	select {
	case o := <-l.in:
		return o
	case <-l.a.deadline().Done():
		l.a.t.Fatal("no frame came")
		return nil
	}
}

// payload is the payload of the next envelope.
func (l *line) payload() object {
	l.a.t.Helper()
	o := l.next()
	p, ok := o["payload"].(object)
	if !ok {
		l.a.t.Fatalf("no envelope: %v", o)
	}
	return p
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
