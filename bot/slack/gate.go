package slack

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"sync"
	"time"

	"bgbot/bot"
)

// silence is what Slack's rate limits say, whoever met them: the sender and [web] ask some of the same methods.
type silence struct {
	unsaid time.Duration // how long a limit lasts that does not say so; 0 = noHeader

	mu    sync.Mutex           // guards until
	until map[string]time.Time // by method: not before this
}

// busy is the error of a method that may not be called yet, nil if it may.
func (s *silence) busy(method string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if left := time.Until(s.until[method]); left > 0 {
		return fmt.Errorf("%s: %w", method, &bot.Busy{After: left})
	}
	return nil
}

// limited notes a rate limit, 0 if it does not say for how long, and returns how long it is.
func (s *silence) limited(method string, after time.Duration) time.Duration {
	after = cmp.Or(after, s.unsaid, noHeader)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	s.until[method] = time.Now().Add(after)
	return after
}

// gate is a transport that asks nothing inside a Retry-After, whoever wants to know; a person's refusal is no exception.
type gate struct {
	http.RoundTripper
	limits *silence
}

// RoundTrip is one call; its error is a [bot.Busy] when it was not made.
func (g gate) RoundTrip(req *http.Request) (*http.Response, error) {
	method := path.Base(req.URL.Path)
	if err := g.limits.busy(method); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	resp, err := g.RoundTripper.RoundTrip(req)
	if err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusOK && saysLimited(resp)) {
		g.limits.limited(method, retryAfterOf(resp))
	}
	return resp, err
}

// saysLimited looks for a rate limit in the body of an answer that is none by its status. A no is short.
func saysLimited(resp *http.Response) bool {
	head, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // an error comes again when the rest is read
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	var answer struct{ Error string }
	return json.Unmarshal(head, &answer) == nil && isLimit(answer.Error)
}

// isLimit says that a code of Slack's is a rate limit.
func isLimit(code string) bool { return code == "ratelimited" || code == "rate_limited" }

// stayHere follows no redirect: the token, or what an address that is a secret is good for, goes nowhere else.
func stayHere(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
