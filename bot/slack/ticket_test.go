package slack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// Each error that waiting cannot mend ends the link with a sentence that names the key and the mend.
func TestARefusedTokenEndsTheLink(t *testing.T) {
	t.Parallel()
	for code, why := range map[string]string{
		"invalid_auth":            "Slack does not know it. Copy the app-level token (xapp-…) of your app again, or make a new one",
		"not_authed":              "none was sent. Copy the app-level token (xapp-…) of your app",
		"account_inactive":        "its app or its workspace is gone. Install the app again, make a new app-level token",
		"token_revoked":           "it was revoked. Make a new app-level token with the scope connections:write",
		"token_expired":           "it has expired. Make a new app-level token with the scope connections:write",
		"missing_scope":           "it lacks the scope connections:write. Make a new app-level token with that scope",
		"not_allowed_token_type":  "it is of another kind. Make an app-level token, which begins with xapp-",
		"no_permission":           "it may not open connections. Make a new app-level token with the scope connections:write, as an admin of the app",
		"team_access_not_granted": "the app was not granted access to this workspace. Let an admin approve the app, make a new app-level token",
		"user_removed_from_team":  "the person who made it has left the workspace. Let somebody who is in it make a new app-level token",
		"team_disabled":           "the workspace is disabled. Let its owner enable it, make a new app-level token",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, briskly(), quick)
			r.RefuseToken(r.AppToken(), code)
			r.start(t)
			select {
			case <-r.ended:
			case <-time.After(10 * time.Second):
				t.Fatal("run goes on")
			}
			want := "slack: the app token is refused (" + code + "): " + why + " and put it into slack.app_token_file, then start bgbot again. App-level tokens are on api.slack.com/apps, your app, Basic Information."
			fatal, ok := errors.AsType[*bot.Fatal](r.err)
			if !ok || fatal.UserMessage() != want {
				t.Errorf("got  %v\nwant %s", r.err, want)
			}
			if n := len(r.Calls("apps.connections.open")); n != 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
	if len(appTokenMends) != 11 {
		t.Errorf("%d codes end the link, and 11 are tested", len(appTokenMends))
	}
}

// Everything else passes: it is asked again, with pauses, and not before Retry-After.
func TestTroubleAtTheDoorPasses(t *testing.T) {
	t.Parallel()
	timing := quick
	timing.open = 300 * time.Millisecond
	for _, f := range []slacktest.Fault{
		{Kind: slacktest.RateLimited, RetryAfter: 1},
		{Kind: slacktest.RateLimitedNoHeader},
		{Kind: slacktest.RateLimitedOK},
		{Kind: slacktest.HTML502},
		{Kind: slacktest.HTML503},
		{Kind: slacktest.ErrorCode, Error: "internal_error"},
		{Kind: slacktest.NoCode},
		{Kind: slacktest.Garbage},
		{Kind: slacktest.Hang},
		{Kind: slacktest.Reset},
		{Kind: slacktest.HangAfterDone},
	} {
		t.Run(f.Kind.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, briskly(), timing)
			f.Times = 2
			r.Inject(f)
			r.open(t)
			calls := r.Calls("apps.connections.open")
			if len(calls) != 3 || slices.ContainsFunc(calls, func(c slacktest.Call) bool { return c.Inside }) {
				t.Errorf("calls: %+v", calls)
			}
		})
	}
}

// A network that is down costs nobody anything, so Slack is asked again soon; what Slack itself says is obeyed.
func TestWhetherSlackWasReached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind    slacktest.FaultKind
		reached bool
	}{
		{slacktest.Reset, false},
		{slacktest.HTML502, false},
		{slacktest.Garbage, false},
		{slacktest.RateLimited, true},
		{slacktest.NoCode, true},
	} {
		r := newRig(t, briskly(), quick)
		r.Inject(slacktest.Fault{Kind: c.kind})
		_, err := r.link.openSocket(t.Context())
		if _, away := errors.AsType[*unreached](err); err == nil || away == c.reached {
			t.Errorf("%s: %v", c.kind, err)
		}
	}
}

func TestTheDialIsRefusedForAWhile(t *testing.T) {
	t.Parallel()
	for _, status := range []int{403, 404, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, briskly(), quick)
			r.SetLink(slacktest.Link{Status: status})
			r.start(t)
			eventually(t, "it was refused twice", func() bool {
				asked := 0
				for _, c := range r.Calls() {
					if c.Method == "apps.connections.open" {
						asked++
					}
				}
				return asked > 2 && strings.Contains(r.log.String(), fmt.Sprintf("bad handshake, HTTP %d", status)) // the log has it once
			})
			r.SetLink(slacktest.Link{})
			r.until(t, "it is connected", func() bool { return len(r.gaps) > 0 })
		})
	}
}

// door is an apps.connections.open that answers with this address.
func door(t *testing.T, address func() string) *link {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer xapp-secret" || r.URL.RawQuery != "" {
			t.Errorf("the token belongs into the header only: %s %v", r.URL, r.Header)
		}
		fmt.Fprintf(w, `{"ok":true,"url":%q}`, address())
	}))
	t.Cleanup(s.Close)
	return newLink(linkOptions{web: appWeb(s.URL+"/", "xapp-secret"), timing: quick})
}

// The address of a socket is a secret: who has it receives in our place.
func TestNoErrorTellsTheAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"ws://127.0.0.1:1/link/?ticket=hush", "ws://no such host.invalid/?ticket=hush", "http://127.0.0.1/?ticket=hush",
		"ws://[::1/?ticket=hush", "ws://u:hush@127.0.0.1:1/?ticket=hush", "ticket=hush", "", "%zz?ticket=hush",
	} {
		l := door(t, func() string { return address })
		_, err := l.connect(t.Context())
		if err == nil || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "xapp") {
			t.Errorf("%q gives the error %v", address, err)
		}
	}
}

func TestASocketThatIsNotEncryptedIsRefused(t *testing.T) {
	t.Parallel()
	l := newLink(linkOptions{web: appWeb(slackAPI, "")})
	if u, err := l.socketAddress("ws://wss-primary.slack.com/?ticket=hush"); err == nil || err.Error() != "apps.connections.open: the answer's address is not encrypted" {
		t.Errorf("got %v, %v", u, err)
	}
	if u, err := l.socketAddress("wss://wss-primary.slack.com/?ticket=hush"); err != nil || u.Host != "wss-primary.slack.com" {
		t.Errorf("got %v, %v", u, err)
	}
}

// A redirect would take the token to another place.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var followed bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		followed = followed || r.URL.Path == "/elsewhere"
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	_, err := newLink(linkOptions{web: appWeb(s.URL+"/", ""), timing: quick}).openSocket(t.Context())
	if followed || err == nil || err.Error() != "apps.connections.open: HTTP 307 Temporary Redirect" {
		t.Errorf("followed: %v, error %v", followed, err)
	}
}

// A dial that hangs in the handshake ends with its context.
func TestAHangingHandshakeEnds(t *testing.T) {
	t.Parallel()
	dialled, release := make(chan struct{}), make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(dialled); <-release }))
	defer hang.Close()
	defer close(release)
	timing := quick
	timing.open = time.Minute
	l := door(t, func() string { return "ws" + strings.TrimPrefix(hang.URL, "http") })
	l.timing = timing
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-dialled; cancel(errStop) }()
	began := time.Now()
	if _, err := l.connect(ctx); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// Slack drops continuation frames, so the largest acknowledgement leaves in one.
func TestAnAcknowledgementIsOneFrame(t *testing.T) {
	t.Parallel()
	head := make(chan []byte, 1)
	var up websocket.Upgrader
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		if r.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Error("it offers compression")
		}
		b := make([]byte, 4)
		conn.UnderlyingConn().Read(b)
		head <- b
	}))
	defer s.Close()
	l := newLink(linkOptions{web: appWeb(s.URL+"/", ""), timing: quick})
	u, err := l.socketAddress("ws" + strings.TrimPrefix(s.URL, "http"))
	if err != nil {
		t.Fatal(err)
	}
	socket, err := dialSocket(t.Context(), u, quick)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.close()
	if err := socket.write(make([]byte, maxAck)); err != nil {
		t.Fatal(err)
	}
	// FIN and text; masked, two bytes of length; the length
	if b, want := <-head, []byte{0x81, 0xFE, maxAck >> 8, maxAck & 0xFF}; !slices.Equal(b, want) {
		t.Errorf("the frame begins with % x, want % x", b, want)
	}
}

// The doctor connects once, without serving.
func TestOneConnectionTellsThatSocketModeIsOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick)
	r.SetLink(slacktest.Link{Refuse: linkDisabled})
	for range 10 { // the reason and the end of the socket come at once, and the reason is what counts
		_, err := r.link.connect(t.Context())
		if fatal, ok := errors.AsType[*bot.Fatal](err); !ok || fatal.Reason != switchedOff {
			t.Errorf("got %v", err)
		}
	}
}
