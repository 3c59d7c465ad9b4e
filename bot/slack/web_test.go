package slack

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"bgbot/bot"
)

// Whoever asks, nobody asks inside a Retry-After; other methods are not held up.
func TestARateLimitHoldsForEverybody(t *testing.T) {
	t.Parallel()
	calls := map[string]int{}
	slack := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls[r.URL.Path]++
		if r.URL.Path == "/users.info" { // without a Retry-After
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		_, _ = w.Write([]byte(`{"ok":true}`))
	}))
	t.Cleanup(slack.Close)
	w := newWeb(slack.URL+"/", "xoxb-secret")
	for range 3 {
		_, _, err := w.ask(t.Context(), "users.info", nil)
		if busy, ok := errors.AsType[*bot.Busy](err); !ok || busy.After <= 0 || busy.After > noHeader {
			t.Errorf("got %v", err)
		}
	}
	if _, _, err := w.ask(t.Context(), "auth.test", nil); err != nil || calls["/users.info"] != 1 {
		t.Errorf("%v, asked %v", err, calls)
	}
}

// A proxy that sends us elsewhere does not get the token there.
func TestTheTokenIsNotRedirected(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it went there") }))
	t.Cleanup(elsewhere.Close)
	slack := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(slack.Close)
	_, _, err := newWeb(slack.URL+"/", "xoxb-secret").ask(t.Context(), "auth.test", nil)
	if err == nil || err.Error() != "auth.test: HTTP 307 Temporary Redirect" {
		t.Errorf("got %v", err)
	}
}
