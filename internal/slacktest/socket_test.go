package slacktest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bgbot/internal/slacktest"
)

// soon makes the clock of the workspace run fast enough for tests.
var soon = slacktest.Options{
	NoEcho: true, WarnAhead: 80 * time.Millisecond, PingEvery: 300 * time.Millisecond,
	Redeliver: []time.Duration{0, 20 * time.Millisecond, 40 * time.Millisecond},
}

func TestATicketOpensOneSocket(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{})
	_, header, body := a.raw(a.AppToken(), "apps.connections.open")
	var open struct {
		OK  bool
		URL string
	}
	if err := json.Unmarshal([]byte(body), &open); err != nil || !open.OK || !strings.Contains(open.URL, "&app_id="+a.AppID()) {
		t.Fatalf("apps.connections.open: %s", body)
	}
	if got := header.Get("X-Oauth-Scopes"); got != "connections:write" {
		t.Errorf("X-OAuth-Scopes: %s", got)
	}
	for i, want := range []int{http.StatusSwitchingProtocols, http.StatusForbidden} {
		conn, resp, err := websocket.DefaultDialer.DialContext(a.deadline(), open.URL, nil)
		if resp == nil || resp.StatusCode != want {
			t.Fatalf("use %d: %v, %v", i+1, resp, err)
		}
		if err == nil {
			defer conn.Close()
		}
	}
}

func TestAppTokensOnlyInTheHeader(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{})
	resp, err := http.Post(a.URL()+"apps.connections.open", "application/x-www-form-urlencoded", strings.NewReader("token="+a.AppToken()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), "not_authed") {
		t.Errorf("a token in the body: %s", body)
	}
	for token, want := range map[string]string{"xapp-wrong": "invalid_auth", a.BotToken(): "not_allowed_token_type", "": "not_authed"} {
		if _, _, body := a.raw(token, "apps.connections.open"); !strings.Contains(body, want) {
			t.Errorf("token %q: %s", token, body)
		}
	}
}

func TestTenSocketsAndNoMore(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{Unlimited: true})
	for i := range 10 {
		l := a.dial(false)
		if hello := l.next(); hello["num_connections"] != float64(i+1) {
			t.Fatalf("socket %d: %v", i+1, hello)
		}
	}
	if f := a.dial(false).next(); f["type"] != "disconnect" || f["reason"] != "too_many_websockets" {
		t.Errorf("the eleventh got %v", f)
	}
}

func TestWithoutAnAckItComesAgainThreeTimes(t *testing.T) {
	t.Parallel()
	o := soon
	o.AckTimeout = 60 * time.Millisecond
	a := start(t, o)
	l := a.connect(true)
	sent := a.Send("events_api", json.RawMessage(`{"type":"odd"}`))
	for attempt := range 4 {
		f := l.next()
		reason, _ := f["retry_reason"].(string)
		if f["envelope_id"] != sent.Envelope || f["retry_attempt"] != float64(attempt) || (reason == "timeout") != (attempt > 0) {
			t.Errorf("attempt %d: %v", attempt, f)
		}
	}
	if _, err := a.AwaitAck(a.deadline(), sent.Envelope); err == nil {
		t.Error("it was given up, and AwaitAck does not say so")
	}
	if got := a.Truth(); got.Lost != 1 || got.Redelivered != 3 || got.Late != 1 || got.Pending != 0 {
		t.Errorf("%+v", got)
	}
}

func TestEventsWaitForASocketAndCommandsFail(t *testing.T) {
	t.Parallel()
	a := start(t, soon)
	a.join()
	said := must[slacktest.Sent](t)(a.Say("U0ALICE", "", "anybody there?"))
	if _, err := a.Slash("U0ALICE", "", "/vm", "status"); !errors.Is(err, slacktest.ErrDispatch) {
		t.Errorf("a command without a socket: %v", err)
	}
	l := a.connect(false)
	joined, message := l.next(), l.next()
	if joined["retry_attempt"] != 1.0 || message["envelope_id"] != said.Envelope || message["retry_attempt"] != 1.0 {
		t.Errorf("they came as %v, %v", joined, message)
	}
	must[slacktest.Ack](t)(a.AwaitAck(a.deadline(), said.Envelope))
	if got := a.Truth(); got.Lost != 0 || got.Acked != 2 {
		t.Errorf("%+v", got)
	}
}

func TestWhatWaitedTooLongIsGone(t *testing.T) {
	t.Parallel()
	a := start(t, soon)
	a.join()
	said := must[slacktest.Sent](t)(a.Say("U0ALICE", "", "anybody there?"))
	if n := a.DropQueued(); n != 2 {
		t.Errorf("%d were dropped", n)
	}
	if _, err := a.AwaitAck(a.deadline(), said.Envelope); err == nil {
		t.Error("it was dropped, and AwaitAck does not say so")
	}
	if got := a.Truth(); got.Dropped != 2 || got.Lost != 0 || got.Pending != 0 {
		t.Errorf("%+v", got)
	}
	if got := a.ok("conversations.history", "channel", a.Channel())["messages"].([]any); len(got) != 1 {
		t.Errorf("history still has it: %v", got)
	}
}

func TestWhatASocketMeets(t *testing.T) {
	t.Parallel()
	warning := []string{"disconnect warning", "disconnect refresh_requested", "end"}
	for name, tc := range map[string]struct {
		d    slacktest.Disruption
		want []string
	}{
		"warning":        {slacktest.Warning, warning},
		"refresh":        {slacktest.Refresh, warning[1:]},
		"silent refresh": {slacktest.RefreshSilent, []string{"disconnect refresh_requested", "silence"}},
		"link disabled":  {slacktest.LinkDisabled, []string{"disconnect link_disabled", "end"}},
		"too many":       {slacktest.TooMany, []string{"disconnect too_many_websockets", "end"}},
		"half-open":      {slacktest.HalfOpen, []string{"silence"}},
		"rst":            {slacktest.ResetSocket, []string{"end"}},
		"fin":            {slacktest.Hangup, []string{"end"}},
		"close frame":    {slacktest.CloseFrame, []string{"close 1001"}},
		"cut frame":      {slacktest.CutFrame, []string{"end"}},
		"garbage":        {slacktest.GarbageFrame, []string{"garbage", "event"}},
		"empty":          {slacktest.EmptyFrame, []string{"garbage", "event"}},
		"binary":         {slacktest.BinaryFrame, []string{"garbage", "event"}},
		"unknown":        {slacktest.UnknownFrame, []string{"tea_break undocumented", "event"}},
		"slow":           {slacktest.SlowFrame, []string{"tea_break ", "event"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := start(t, soon)
			l := a.connect(false)
			if n := a.Disrupt(tc.d); n != 1 {
				t.Fatalf("it met %d sockets", n)
			}
			for _, want := range tc.want {
				if want == "event" {
					a.Send("events_api", json.RawMessage(`{}`))
				}
				if got := l.what(want); got != want {
					t.Fatalf("got %q, want %q of %q", got, want, tc.want)
				}
			}
		})
	}
}

// what is the next thing on a socket in a word or two.
func (l *line) what(want string) string {
	patience := 10 * time.Second
	if want == "silence" {
		patience = 200 * time.Millisecond
	}
	select {
	case o, ok := <-l.in:
		switch {
		case !ok:
			err := <-l.err
			if c, ok := errors.AsType[*websocket.CloseError](err); ok && c.Code == websocket.CloseGoingAway {
				return "close 1001"
			}
			return "end"
		case o["garbage"] != nil:
			return "garbage"
		case o["envelope_id"] != nil:
			return "event"
		}
		kind, _ := o["type"].(string)
		reason, _ := o["reason"].(string)
		return kind + " " + reason
	case <-time.After(patience):
		return "silence"
	}
}

func TestALargeFrameEndsTheSocket(t *testing.T) {
	t.Parallel()
	a := start(t, soon)
	l := a.connect(true)
	l.ack("x", strings.Repeat("y", 20480))
	l.next()
	if err := <-l.err; !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
		t.Errorf("it ended with %v", err)
	}
}

func TestTheServerLeavesTheLastStepOfClosingToTheClient(t *testing.T) {
	t.Parallel()
	a := start(t, soon)
	l := a.connect(true)
	l.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	l.next()
	if err := <-l.err; !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Fatalf("it ended with %v", err)
	}
	l.conn.UnderlyingConn().SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := l.conn.UnderlyingConn().Read(make([]byte, 1)); errors.Is(err, io.EOF) {
		t.Error("the server closed TCP")
	}
}

func TestASocketThatDoesNotAnswerPingsIsGivenUp(t *testing.T) {
	t.Parallel()
	a := start(t, soon)
	a.connect(true)
	a.Disrupt(slacktest.HalfOpen)
	if err := a.AwaitSockets(a.deadline(), 0, 0); err != nil {
		t.Error(err)
	}
}

func TestPingsOfTheClientAreAnswered(t *testing.T) {
	t.Parallel()
	a := start(t, soon)
	l := a.connect(true)
	l.conn.WriteControl(websocket.PingMessage, []byte("are you there?"), time.Now().Add(time.Second))
	select {
	case got := <-l.pong:
		if got != "are you there?" {
			t.Errorf("pong %q", got)
		}
	case <-a.deadline().Done():
		t.Error("no pong")
	}
}

func TestALinkOfItsOwnKind(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		link slacktest.Link
		want []string
	}{
		"refused":    {slacktest.Link{Refuse: "link_disabled"}, []string{"disconnect link_disabled", "end"}},
		"no hello":   {slacktest.Link{NoHello: true}, []string{"silence"}},
		"late hello": {slacktest.Link{HelloAfter: time.Second}, []string{"silence", "hello "}},
		"deaf":       {slacktest.Link{Deaf: true}, []string{"hello ", "send", "silence"}},
		"twice":      {slacktest.Link{Twice: true}, []string{"hello ", "send", "event", "event", "silence"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := start(t, soon)
			a.SetLink(tc.link)
			l := a.dial(false)
			for _, want := range tc.want {
				if want == "send" {
					a.Send("events_api", json.RawMessage(`{}`))
				} else if got := l.what(want); got != want {
					t.Fatalf("got %q, want %q of %q", got, want, tc.want)
				}
			}
		})
	}
}

func TestSwappedEnvelopes(t *testing.T) {
	t.Parallel()
	a := start(t, soon)
	l := a.connect(false)
	a.SetLink(slacktest.Link{Swap: true})
	first, second := a.Send("events_api", json.RawMessage(`1`)), a.Send("events_api", json.RawMessage(`2`))
	last := a.Send("events_api", json.RawMessage(`3`)) // nobody comes to overtake it
	for _, want := range []string{second.Envelope, first.Envelope, last.Envelope} {
		if f := l.next(); f["envelope_id"] != want {
			t.Errorf("got %v, want %s", f, want)
		}
		must[slacktest.Ack](t)(a.AwaitAck(a.deadline(), want))
	}
	if got := a.Truth(); got.Reordered != 1 {
		t.Errorf("%+v", got)
	}
}

func TestAcksOnAnotherSocket(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{false, true} {
		a := start(t, soon)
		one := a.connect(true)
		a.SetLink(slacktest.Link{AckSameSocket: same})
		sent := a.Send("events_api", json.RawMessage(`{}`))
		one.next()
		two := a.connect(true)
		two.ack(sent.Envelope, nil)
		two.ack("unknown", nil)
		both := func(got slacktest.Truth) bool { return got.Acked+got.Strays.Unknown == 2 }
		if err := a.AwaitTruth(a.deadline(), both); err != nil {
			t.Fatal(err)
		}
		if got := a.Truth(); (got.Acked == 1) == same || (got.Strays.Unknown == 2) != same {
			t.Errorf("only on the same: %v: %+v", same, got)
		}
	}
}

func TestSomebodyElseOnTheSameToken(t *testing.T) {
	t.Parallel()
	a := start(t, soon)
	a.SetLink(slacktest.Link{Foreign: 1})
	l := a.dial(false)
	if hello := l.next(); hello["num_connections"] != 2.0 {
		t.Errorf("hello: %v", hello)
	}
	for range 50 {
		a.Send("events_api", json.RawMessage(`{}`))
	}
	if err := a.AwaitTruth(a.deadline(), func(got slacktest.Truth) bool { return got.Pending == 0 }); err != nil {
		t.Fatal(err)
	}
	if got := a.Truth(); got.Stolen == 0 || got.Acked == 0 || got.Stolen+got.Acked != 50 {
		t.Errorf("%+v", got)
	}
}

// The assertion that the soak of a real client is about, with a client that reconnects as simply as one can.
func TestReconnectsUnderTraffic(t *testing.T) {
	t.Parallel()
	o := soon
	o.Unlimited, o.AckTimeout, o.Redeliver = true, 200*time.Millisecond, make([]time.Duration, 20)
	a := start(t, o)
	a.join()
	kinds := []slacktest.Disruption{slacktest.Refresh, slacktest.ResetSocket, slacktest.Hangup, slacktest.CloseFrame, slacktest.CutFrame}
	seen := map[string]bool{}
	l := a.connect(false)
	const rounds = 200
	var last slacktest.Sent
	for i := range rounds {
		last = must[slacktest.Sent](t)(a.Say("U0ALICE", "", "hello"))
		a.Disrupt(kinds[i%len(kinds)])
		for f := range l.in {
			echo(a, f, seen)
		}
		l.conn.Close()
		l = a.connect(false)
	}
	for a.Truth().Pending > 0 {
		select {
		case f := <-l.in:
			echo(a, f, seen)
		case <-time.After(10 * time.Millisecond):
		}
	}
	must[slacktest.Ack](t)(a.AwaitAck(a.deadline(), last.Envelope))
	for len(l.in) > 0 {
		echo(a, <-l.in, seen)
	}
	if got := a.Truth(); got.Lost != 0 || got.Acked != rounds+1 {
		t.Errorf("%+v", got)
	}
	if got := a.Answered(); len(got.Lost)+len(got.Doubled) > 0 {
		t.Errorf("%+v", got)
	}
}

// echo answers a message once in its thread.
func echo(a *app, f object, seen map[string]bool) {
	p, _ := f["payload"].(object)
	event, _ := p["event"].(object)
	if ts, ok := event["ts"].(string); ok && !seen[ts] {
		seen[ts] = true
		a.ok("chat.postMessage", "channel", a.Channel(), "thread_ts", ts, "text", "echo")
	}
}
