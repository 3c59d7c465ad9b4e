package slack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bgbot/bot"
)

// slackAPI is where the Web API is.
const slackAPI = "https://slack.com/api/"

// appTokenMends says, for each error of apps.connections.open that waiting cannot mend, what is wrong and what mends it.
// Codes that are not here are tried again.
var appTokenMends = map[string]string{
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
}

// appTokenRefused is the end of the link, as a sentence with the key and the mend; nil for any other code.
func appTokenRefused(code string) error {
	mend, ok := appTokenMends[code]
	if !ok {
		return nil
	}
	return &bot.Fatal{Reason: fmt.Sprintf("slack: the app token is refused (%s): %s and put it into slack.app_token_file, then start bgbot again. App-level tokens are on api.slack.com/apps, your app, Basic Information.", code, mend)}
}

// openSocket asks Slack for the address of a new socket: good for one use, and a secret, since whoever has it receives in
// our place. Its error is [web.ask]'s.
func (l *link) openSocket(ctx context.Context) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timing.open)
	defer cancel()
	o, _, err := l.web.ask(ctx, "apps.connections.open", nil)
	if err != nil {
		return nil, err
	}
	return l.socketAddress(o.text("url"))
}

// socketAddress parses what Slack gave, without repeating it in an error. Only a stand-in that is not encrypted itself may
// name a socket that is not.
func (l *link) socketAddress(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return nil, errors.New("apps.connections.open: the answer has no address that could be used")
	case u.Scheme != "wss" && !strings.HasPrefix(l.web.url, "http://"):
		return nil, errors.New("apps.connections.open: the answer's address is not encrypted")
	}
	return u, nil
}

// retryAfterOf is how long the answer asks us to wait; 0 when it does not say.
func retryAfterOf(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}
