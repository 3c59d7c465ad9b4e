package slack

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"bgbot/bot"
)

// silent is how long a host may be silent: slack-go's own client has no limit, and a black hole would hang for ever
// (measured).
const silent = 10 * time.Second

// newClient speaks to the Web API at base, or at Slack itself when base is empty; slack-go concatenates base and method,
// hence the slash. Its retries stay off: they know no shared budget and can post twice.
func newClient(token, base string, limits *silence, patience time.Duration) *slackgo.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	transport.TLSHandshakeTimeout = 5 * time.Second
	transport.ResponseHeaderTimeout = patience
	client := &http.Client{Transport: lean{gate{transport, limits}}, Timeout: 3 * patience, CheckRedirect: stayHere}
	options := []slackgo.Option{slackgo.OptionHTTPClient(client)}
	if base != "" {
		options = append(options, slackgo.OptionAPIURL(strings.TrimRight(base, "/")+"/"))
	}
	return slackgo.New(token, options...)
}

// declined is Slack's no to one call. It may be a yes later: somebody invites the app again, Slack recovers.
type declined struct{ call, code, said string }

func (e *declined) Error() string { return "slack: " + e.call + ": " + e.code }

// UserMessage is the refusal as a person reads it, with the mend.
func (e *declined) UserMessage() string { return e.said }

// noHeader is how long to wait after a rate limit that does not say how long. It is beyond Slack's usual bursts, and short
// enough for a decision to be still of use.
const noHeader = 10 * time.Second

// errNoID is an answer without the id of the message. slack-go takes {"ok":false} without a code for a success (measured).
var errNoID = errors.New("the answer carries no message id")

// classify says what a failed call means to the core. No URL goes into an error: that of an upload is a secret.
func classify(call string, err error) error {
	if err == nil {
		return nil
	}
	if after, busy := limited(err); busy {
		return &bot.Busy{After: after}
	}
	refused, ok := errors.AsType[slackgo.SlackErrorResponse](err)
	if !ok {
		if u, is := errors.AsType[*url.Error](err); is {
			err = u.Err
		}
		return fmt.Errorf("slack: %s: %w", call, err)
	}
	code := refused.Err
	switch code {
	case "message_not_found", "cant_update_message", "cant_delete_message", "edit_window_closed", "thread_not_found",
		"user_not_in_channel", "user_not_found", // these two of a message for one person only
		"restricted_action_thread_locked": // by somebody who wants no more said there
		return &bot.Gone{Reason: "slack: " + call + ": " + code}
	}
	if err := tokenRefused(code); err != nil {
		return err
	}
	if code == "missing_scope" {
		return &bot.Fatal{Reason: "The Slack app lacks a scope (" + strings.TrimSpace(code+" "+refused.Needed) + "). Take over `bgbot slack manifest`, install the app again and restart me."}
	}
	no := &declined{call: call, code: code, said: mendable(code, detail(refused))}
	if slices.Contains(unreadable, code) {
		return &bot.Refused{Err: no}
	}
	return no
}

// unreadable are the refusals of what a message holds; all others of the channel and of Slack itself.
var unreadable = []string{
	"invalid_blocks", "invalid_blocks_format", "invalid_attachments", "too_many_attachments", "no_text", "msg_too_long", "msg_blocks_too_long",
	"markdown_text_conflict", "invalid_arguments", "invalid_arg_name", "invalid_form_data", "invalid_metadata_format", "invalid_metadata_schema",
	"metadata_too_large", "metadata_must_be_sent_from_app",
}

// limited finds the shapes of a rate limit: 429 with Retry-After, without it, with a Retry-After that is no number (slack-go
// then returns the bare parse error), and 200 with a code.
func limited(err error) (after time.Duration, busy bool) {
	if busy, ok := errors.AsType[*bot.Busy](err); ok { // we did not even ask
		return busy.After, true
	}
	if limit, ok := errors.AsType[*slackgo.RateLimitedError](err); ok {
		return max(limit.RetryAfter, time.Second), true
	}
	if status, ok := errors.AsType[slackgo.StatusCodeError](err); ok && status.Code == http.StatusTooManyRequests {
		return noHeader, true
	}
	if _, ok := errors.AsType[*strconv.NumError](err); ok {
		return noHeader, true
	}
	return noHeader, isLimit(codeOf(err))
}

// codeOf is Slack's word for a refusal; empty for all other failures.
func codeOf(err error) string {
	if refused, ok := errors.AsType[slackgo.SlackErrorResponse](err); ok {
		return refused.Err
	}
	if refused, ok := errors.AsType[*declined](err); ok {
		return refused.code
	}
	return ""
}

// unsure says that the call may have had its effect although it failed.
func unsure(err error) bool {
	if _, busy := limited(err); busy || err == nil {
		return false
	}
	switch codeOf(err) {
	case "":
	case "fatal_error", "internal_error", "service_unavailable", "request_timeout": // "some aspect may have succeeded" (docs)
		return true
	default:
		return false
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "dial" || op.Op == "proxyconnect") {
		return false
	}
	if status, ok := errors.AsType[slackgo.StatusCodeError](err); ok {
		return status.Code >= 500
	}
	return true
}

// tooLong says that Slack counts more in a message than we did.
func tooLong(err error) bool {
	code := codeOf(err)
	return code == "msg_blocks_too_long" || code == "msg_too_long"
}

// mendable is what a person reads of a refusal that somebody can lift while we run. A private channel that the app was
// removed from is "not found" to it.
func mendable(code, detail string) string {
	switch code {
	case "not_in_channel", "channel_not_found":
		return "I am not in the Slack channel any more (" + code + "). Invite me again with /invite; what I have to say waits until then."
	case "is_archived":
		return "The Slack channel is archived. Unarchive it and invite me again; what I have to say waits until then."
	case "restricted_action", "restricted_action_thread_only_channel", "restricted_action_non_threadable_channel", "restricted_action_read_only_channel":
		return "The settings of the Slack channel do not let me post (" + code + "). Allow the app to post there; what I have to say waits until then."
	default:
		return "Slack refused a message (" + code + detail + "). I try again."
	}
}

// detail is what Slack adds to a code, such as the block that it does not take.
func detail(refused slackgo.SlackErrorResponse) string {
	if len(refused.ResponseMetadata.Messages) == 0 {
		return ""
	}
	return ": " + shorten(strings.Join(refused.ResponseMetadata.Messages, "; "), 300)
}
