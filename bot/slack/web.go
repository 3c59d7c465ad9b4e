package slack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bgbot/bot"
)

// web asks Slack's Web API what decides who and where we are, and what was said. It reads only, so asking again is safe;
// it asks once and leaves that to its callers. Answers stay raw, see [object]. Inside a Retry-After it does not ask at
// all, whoever wants to know.
type web struct {
	url     string // ends in /
	token   string
	refused func(code string) error // what a person reads of a code that waiting cannot mend; nil for any other
	http    *http.Client
	clock   *clock

	silence *silence
	longest int64 // how much of an answer is read, in bytes
}

func newWeb(address, token string) *web {
	limits := &silence{}
	client := &http.Client{Timeout: httpLimit, Transport: gate{http.DefaultTransport, limits}, CheckRedirect: stayHere}
	return &web{url: address, token: token, refused: tokenRefused, http: client, clock: &clock{}, silence: limits, longest: 16 << 20}
}

// forApp asks with the app token, whose one question is for a socket.
func (w *web) forApp(token string) *web {
	app := *w
	app.token, app.refused = token, appTokenRefused
	return &app
}

// webError is Slack's no to a question.
type webError struct {
	method, code, needed string
}

func (e *webError) Error() string {
	if e.needed != "" {
		return fmt.Sprintf("%s: %s (needs %s)", e.method, e.code, e.needed)
	}
	return e.method + ": " + e.code
}

// tokenFaults says what is wrong with a bot token that Slack refuses for good. Other codes may pass.
var tokenFaults = map[string]string{
	"invalid_auth":            "Slack does not know it",
	"not_authed":              "none was sent",
	"account_inactive":        "the app was removed from the workspace, or the workspace is gone",
	"token_revoked":           "it was revoked",
	"token_expired":           "it has expired; switch token rotation off",
	"not_allowed_token_type":  "it is of another kind",
	"no_permission":           "it may not do what bgbot needs",
	"team_access_not_granted": "the app was not granted access to this workspace; let an admin approve it",
	"user_removed_from_team":  "its user was removed from the workspace",
	"team_disabled":           "the workspace is disabled; let its owner enable it",
}

// installAgain is where a bot token comes from and where it goes.
const installAgain = "Install the app on api.slack.com/apps, your app, OAuth & Permissions, put the bot token (xoxb-…) from there into slack.bot_token_file and start bgbot again."

// tokenRefused is what a person reads when waiting cannot mend the bot token; nil for any other code.
func tokenRefused(code string) error {
	fault, ok := tokenFaults[code]
	if !ok {
		return nil
	}
	return &bot.Fatal{Reason: fmt.Sprintf("slack.bot_token is refused (%s): %s. %s", code, fault, installAgain)}
}

// errLong is an answer that may be readable when less is asked for.
var errLong = errors.New("the answer is too long, or breaks off")

// ask calls a method. The error is [bot.Busy], [bot.Fatal], a [*webError], or something that may pass, [*unreached] if Slack
// itself has not answered. The token goes into the header only.
func (w *web) ask(ctx context.Context, method string, args url.Values) (object, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+method, strings.NewReader(args.Encode()))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sent := time.Now()
	resp, err := w.http.Do(req)
	if _, busy := errors.AsType[*bot.Busy](err); busy {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, &unreached{err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, w.longest+1))
	if err != nil {
		return nil, nil, &unreached{fmt.Errorf("%s: %w: %w", method, errLong, err)}
	}
	if int64(len(body)) > w.longest {
		return nil, nil, fmt.Errorf("%s: %w", method, errLong)
	}
	o, notJSON := objectFrom(body)
	code := o.text("error")
	switch fatal := w.refused(code); {
	case resp.StatusCode == http.StatusTooManyRequests, isLimit(code):
		after := w.silence.limited(method, retryAfterOf(resp))
		return nil, nil, fmt.Errorf("%s: %w", method, &bot.Busy{After: after})
	case fatal != nil:
		return nil, nil, fatal
	case resp.StatusCode != http.StatusOK:
		return nil, nil, &unreached{fmt.Errorf("%s: HTTP %s", method, resp.Status)}
	case notJSON != nil: // a page of a proxy, or of Slack in trouble
		return nil, nil, &unreached{fmt.Errorf("%s: HTTP %s, but no JSON", method, resp.Status)}
	case !o.yes("ok"):
		return nil, nil, &webError{method: method, code: code, needed: o.text("needed")}
	}
	w.clock.learn(resp.Header, sent, time.Now())
	return o, resp.Header, nil
}
