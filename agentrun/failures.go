package agentrun

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// Ended says why a turn did not end by itself, or why nothing could be started.
type Ended struct {
	Reason string // a sentence for a person
	Err    error  // what is behind it, for the log; may be nil
}

func (e *Ended) Error() string {
	if e.Err != nil {
		return e.Reason + " (" + e.Err.Error() + ")"
	}
	return e.Reason
}

// UserMessage is the error as a person reads it.
func (e *Ended) UserMessage() string { return e.Reason }

func (e *Ended) Unwrap() error { return e.Err }

// Why a turn ended, beside time limits and failures.
var (
	ErrOver     = &Ended{Reason: "The turn has ended already."}
	ErrStopped  = &Ended{Reason: "The turn was stopped."}
	ErrClosed   = &Ended{Reason: "bgbot is shutting down. The conversation is kept; send a message to go on when it is back."}
	ErrRepeated = &Ended{Reason: "This message was handed to the agent before; it does not run twice."}
)

// because is the end of a turn whose context is done, with words for a person.
func because(ctx context.Context) error {
	cause := context.Cause(ctx)
	if _, ok := errors.AsType[interface {
		error
		UserMessage() string
	}](cause); ok {
		return cause
	}
	return &Ended{Reason: "The turn was cancelled.", Err: cause}
}

const (
	verbsWork  = " The verbs still work: type `vm status`."
	startAnew  = " Start a new thread."
	sayGoOn    = " Say \"go on\" and it continues."
	threadFull = "The conversation has grown too long for the model." + startAnew
)

// explain turns a failed result into one sentence that a person can act on. kind is the error of the synthetic message
// before it, such as rate_limit.
func (c *Config) explain(res *resultLine, kind, model string) (reason string, fromModel bool) {
	switch {
	case res.Subtype == "error_max_turns":
		return fmt.Sprintf("The agent has used up its %d steps (agent.limit.steps).", c.Steps) + sayGoOn, false
	case res.Subtype == "error_max_budget_usd":
		return fmt.Sprintf("The agent has used up its budget of $%.2f (agent.limit.budget_usd).", c.BudgetUSD) + sayGoOn, false
	case res.TerminalReason == "prompt_too_long":
		return threadFull + verbsWork, true
	case res.TerminalReason == "api_error" || res.APIErrorStatus != 0 || kind != "":
		return explainAPI(res.APIErrorStatus, kind, res.Result, model) + verbsWork, true
	}
	text := res.Result
	if len(res.Errors) > 0 {
		text = res.Errors[0]
	}
	return "The agent's turn was cut short: " + brief(text) + "." + sayGoOn, false
}

func explainAPI(status int, kind, text, model string) string {
	low := strings.ToLower(text)
	switch {
	case strings.Contains(low, "not logged in"):
		return "claude has no key: set agent.api_key_file or agent.oauth_token_file."
	case status == http.StatusForbidden:
		return "The model's API forbids this to the key (403): " + brief(text) + "."
	case status == http.StatusUnauthorized || kind == "authentication_failed":
		return "The model's API refuses the key (401): renew agent.api_key_file or agent.oauth_token_file."
	case kind == "billing_error" || status == http.StatusPaymentRequired || strings.Contains(low, "credit balance"):
		return "The model's account has no credit left: top it up."
	case kind == "model_not_found" || status == http.StatusNotFound:
		return fmt.Sprintf("The model %q does not exist or this key may not use it: say \"model NAME\" to take another one.", model)
	case status == http.StatusRequestEntityTooLarge:
		return "The conversation is too large for the model's API (413)." + startAnew
	case status == http.StatusBadRequest || kind == "invalid_request":
		return "The model's API rejects the conversation (400): " + brief(text) + "." + startAnew
	case kind == "rate_limit" && strings.HasPrefix(low, "you"): // of a subscription, whose limits last hours and days: "You've hit your limit · resets 4:02am (UTC)"
		return "The model's account is at its limit (429): " + brief(text) + "."
	case status == http.StatusTooManyRequests || kind == "rate_limit":
		return "The model's API is at its rate limit (429): try again in some minutes."
	case status == 529:
		return "The model is overloaded (529): try again in some minutes."
	case status >= 500:
		return fmt.Sprintf("The model's API is failing (%d): try again in some minutes.", status)
	}
	if why := unreachable(low); why != "" {
		return "The model cannot be reached (" + why + ")."
	}
	return "The model's API failed: " + brief(text) + "."
}

// unreachable names what keeps the CLI from the API, from the words of its error.
func unreachable(low string) string {
	for _, w := range []struct{ word, why string }{
		{"econnrefused", "connection refused"},
		{"connectionrefused", "connection refused"},
		{"enotfound", "its name does not resolve"},
		{"eai_again", "its name does not resolve"},
		{"enetunreach", "no route"},
		{"ehostunreach", "no route"},
		{"certificate", "its certificate is not trusted"},
		{"self_signed", "its certificate is not trusted"},
		{"self-signed", "its certificate is not trusted"},
		{"econnreset", "the connection is dropped"},
		{"socket connection was closed", "the connection is dropped"},
		{"connection closed", "the connection is dropped"},
		{"etimedout", "timed out"},
		{"timed out", "timed out"},
		{"timeout", "timed out"},
		{"stalled", "the answer stalled"},
		{"json", "what answers is not the API; is there a proxy in between?"},
		{"html", "what answers is not the API; is there a proxy in between?"},
		{"empty or malformed", "what answers is not the API; is there a proxy in between?"},
		{"connection error", "connection error"},
		{"unable to connect", "connection error"},
	} {
		if strings.Contains(low, w.word) {
			return w.why
		}
	}
	return ""
}

// retrying is the notice of an API call that is tried again.
func retrying(m *retryLine) Notice {
	what := "The model cannot be reached"
	switch {
	case m.ErrorStatus == http.StatusTooManyRequests:
		what = "The model's API is at its rate limit (429)"
	case m.ErrorStatus == 529:
		what = "The model is overloaded (529)"
	case m.ErrorStatus == http.StatusUnauthorized:
		what = "The model's API refuses the key (401)"
	case m.ErrorStatus != 0:
		what = fmt.Sprintf("The model's API is failing (%d)", m.ErrorStatus)
	}
	return Notice{Text: fmt.Sprintf("%s; trying again (%d of %d).%s", what, m.Attempt, m.MaxRetries, verbsWork), Model: true}
}

var keyLike = regexp.MustCompile(`sk-ant-[A-Za-z0-9_-]+`)

// mask hides the secrets by value, and whatever looks like a key of the API.
func mask(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[secret]")
		}
	}
	return keyLike.ReplaceAllString(text, "[secret]")
}

// brief is the first line of text, at most 200 bytes, without its final stop.
func brief(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(mask(clean(text))), "\n")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	if text = strings.TrimRight(strings.TrimSpace(text), "."); text == "" {
		return "it gave no reason"
	}
	return text
}
