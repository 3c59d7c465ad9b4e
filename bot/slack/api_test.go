package slack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

func TestEachShapeOfARateLimitSaysWhenToAskAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault slacktest.Fault
		want  time.Duration
	}{
		"429 with Retry-After":    {slacktest.Fault{Kind: slacktest.RateLimited, RetryAfter: 7}, 7 * time.Second},
		"429 without":             {slacktest.Fault{Kind: slacktest.RateLimitedNoHeader}, noHeader},
		"200 and ratelimited":     {slacktest.Fault{Kind: slacktest.RateLimitedOK}, noHeader},
		"200 and another wording": {slacktest.Fault{Kind: slacktest.ErrorCode, Error: "rate_limited"}, noHeader},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := saying(t, slacktest.Options{Unlimited: true})
			p := s.thread(t)
			id := s.persist(t, p, bot.Text{Body: "x"})
			s.server.Inject(c.fault)
			for call, err := range s.everything(p, id) {
				busy, ok := errors.AsType[*bot.Busy](err)
				if !ok || busy.After < c.want-time.Second || busy.After > c.want {
					t.Errorf("%s: %v", call, err)
				}
			}
		})
	}
}

// everything calls each method once.
func (s says) everything(p bot.Place, id string) map[string]error {
	_, post := s.Post(s.ctx, p, bot.Text{Body: "x"})
	_, whisper := s.Post(s.ctx, p, bot.Text{Body: "x", Only: operator})
	return map[string]error{
		"post": post, "whisper": whisper, "edit": s.Edit(s.ctx, p, id, bot.Text{Body: "y"}),
		"home": s.Home(s.ctx, operator, bot.Text{Body: "x"}), "working": s.Working(s.ctx, p, "x"),
	}
}

func TestARetryAfterThatIsNoNumberIsARateLimitAllTheSame(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{"Mon, 30 Nov 2026 16:00:00 GMT": noHeader, "0": time.Second, "-3": time.Second} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		defer server.Close()
		s := newSender(newClient("xoxb-1", server.URL, &silence{}, silent), "C1", quietLog(t))
		_, err := s.Post(t.Context(), bot.Place{Channel: "C1"}, bot.Text{Body: "x"})
		if busy, ok := errors.AsType[*bot.Busy](err); !ok || busy.After != want {
			t.Errorf("%s: %v", header, err)
		}
	}
}

func TestAPersonReadsWhatToMend(t *testing.T) {
	t.Parallel()
	for code, c := range map[string]struct {
		fatal   bool
		refused bool // this message alone
		said    string
	}{
		"invalid_auth":      {true, false, "slack.bot_token is refused (invalid_auth): Slack does not know it. " + installAgain},
		"token_revoked":     {true, false, "slack.bot_token is refused (token_revoked): it was revoked. " + installAgain},
		"missing_scope":     {true, false, "The Slack app lacks a scope (missing_scope). Take over `bgbot slack manifest`, install the app again and restart me."},
		"not_in_channel":    {false, false, "I am not in the Slack channel any more (not_in_channel). Invite me again with /invite; what I have to say waits until then."},
		"channel_not_found": {false, false, "I am not in the Slack channel any more (channel_not_found). Invite me again with /invite; what I have to say waits until then."},
		"is_archived":       {false, false, "The Slack channel is archived. Unarchive it and invite me again; what I have to say waits until then."},
		"restricted_action": {false, false, "The settings of the Slack channel do not let me post (restricted_action). Allow the app to post there; what I have to say waits until then."},
		"invalid_blocks":    {false, true, "Slack refused a message (invalid_blocks). I try again."},
		"internal_error":    {false, false, "Slack refused a message (internal_error). I try again."},
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			s := saying(t, slacktest.Options{Unlimited: true})
			p := s.thread(t)
			id := s.persist(t, p, bot.Text{Body: "x"})
			s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage", "chat.update"}, Kind: slacktest.ErrorCode, Error: code})
			_, post := s.Post(s.ctx, p, bot.Text{Body: "x"})
			for _, err := range []error{post, s.Edit(s.ctx, p, id, bot.Text{Body: "y"})} {
				var said interface{ UserMessage() string }
				_, fatal := errors.AsType[*bot.Fatal](err)
				_, refused := errors.AsType[*bot.Refused](err)
				if !errors.As(err, &said) || said.UserMessage() != c.said || fatal != c.fatal || refused != c.refused || isGone(err) {
					t.Errorf("%T %v", err, err)
				}
			}
		})
	}
}

func TestALockedThreadIsGoneForUs(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{Unlimited: true})
	p := s.thread(t)
	s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: slacktest.ErrorCode, Error: "restricted_action_thread_locked", Times: 1})
	if _, err := s.Post(s.ctx, p, bot.Text{Body: "x"}); !isGone(err) {
		t.Errorf("%T %v", err, err)
	}
}

func TestTheChannelIsTakenAwayAndGivenBackWhileWeRun(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{Unlimited: true})
	p := s.thread(t)
	s.server.Archive(s.channel, true)
	_, err := s.Post(s.ctx, p, bot.Text{Body: "x", Key: "k"})
	if _, fatal := errors.AsType[*bot.Fatal](err); err == nil || fatal || isGone(err) {
		t.Fatalf("%v", err)
	}
	s.server.Archive(s.channel, false)
	s.persist(t, p, bot.Text{Body: "x", Key: "k"})
	if n := len(s.replies(p)); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestWhatMayPassIsAPlainError(t *testing.T) {
	t.Parallel()
	for _, kind := range []slacktest.FaultKind{
		slacktest.HTML502, slacktest.HTML503, slacktest.NoCode, slacktest.Garbage, slacktest.Hang, slacktest.Reset,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			s := saying(t, slacktest.Options{Unlimited: true})
			p := s.thread(t)
			id := s.persist(t, p, bot.Text{Body: "x"})
			s.server.Inject(slacktest.Fault{Kind: kind})
			ctx, cancel := context.WithTimeout(s.ctx, 500*time.Millisecond)
			defer cancel()
			_, post := s.Post(ctx, p, bot.Text{Body: "x"})
			for what, err := range map[string]error{"post": post, "edit": s.Edit(ctx, p, id, bot.Text{Body: "y"})} {
				_, fatal := errors.AsType[*bot.Fatal](err)
				_, busy := errors.AsType[*bot.Busy](err)
				if err == nil || fatal || busy || isGone(err) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestAnEditOfWhichSlackSaysNotOKIsNoEdit(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	id := s.persist(t, p, bot.Text{Body: "x"})
	s.server.Inject(slacktest.Fault{Methods: []string{"chat.update"}, Kind: slacktest.NoCode, Times: 1})
	if err := s.Edit(s.ctx, p, id, bot.Text{Body: "y"}); !errors.Is(err, errNoID) {
		t.Errorf("%v", err)
	}
}

func TestNoErrorCarriesATokenOrAnAddress(t *testing.T) {
	t.Parallel()
	const token = "xoxb-secret"
	var address string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/files.getUploadURLExternal":
			_, _ = fmt.Fprintf(w, `{"ok":true,"upload_url":"%s/upload/v1/secret-ticket","file_id":"F1"}`, address)
		case "/api/chat.postMessage":
			_, _ = io.WriteString(w, `{"ok":true,"ts":"1.000001"}`)
		default:
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	for _, to := range []string{server.URL, "https://files.elsewhere.example"} { // slack-go names a host that it does not trust
		address = to
		s := newSender(newClient(token, server.URL+"/api/", &silence{}, silent), "C1", quietLog(t))
		s.settle = 0
		p := bot.Place{Channel: "C1", Thread: "1.000000"}
		_, post := s.Post(t.Context(), p, bot.Text{Body: "x", Key: "k", Files: []bot.File{{Name: "a.txt", Type: "text/plain", Data: []byte("x")}}})
		for what, err := range map[string]error{
			"files": post, "edit": s.Edit(t.Context(), p, "1.0", bot.Text{Body: "y"}), "home": s.Home(t.Context(), "U1", bot.Text{Body: "x"}),
			"whisper": s.whisper(t.Context(), p, bot.Text{Body: "x", Only: "U1", Key: "w"}),
		} {
			if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "http://") || strings.Contains(err.Error(), "elsewhere") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestAHostThatIsSilentHoldsNobodyForEver(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	s.api = newClient(s.server.BotToken(), s.server.URL(), &silence{}, 100*time.Millisecond)
	s.server.Inject(slacktest.Fault{Kind: slacktest.Hang})
	ctx, cancel := context.WithTimeout(s.ctx, patientTest)
	defer cancel()
	if _, err := s.Post(ctx, p, bot.Text{Body: "x"}); err == nil || ctx.Err() != nil {
		t.Errorf("%v", err)
	}
}

// An answer repeats our message as Slack understood it, in blocks that a client may not know.
func TestAPostWhoseAnswerCannotBeReadWholeStands(t *testing.T) {
	t.Parallel()
	const odd = `{"type":"message","ts":"1.000001","blocks":[[{"type":"new"}],{"type":"rich_text","elements":"?"}]}`
	posts := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/chat.postMessage":
			posts++
			_, _ = io.WriteString(w, `{"ok":true,"channel":"C1","ts":"1.000001","message":`+odd+`}`)
		case "/chat.update":
			_, _ = io.WriteString(w, `{"ok":true,"channel":"C1","ts":"1.000001","message":`+odd+`}`)
		case "/views.publish":
			_, _ = io.WriteString(w, `{"ok":true,"view":`+odd+`}`)
		}
	}))
	defer server.Close()
	s := newSender(newClient("xoxb-1", server.URL, &silence{}, silent), "C1", quietLog(t))
	p := bot.Place{Channel: "C1"}
	id, err := s.Post(t.Context(), p, bot.Text{Body: "x"})
	if err != nil || id != "1.000001" || posts != 1 {
		t.Errorf("%q %v after %d posts", id, err, posts)
	}
	if err := errors.Join(s.Edit(t.Context(), p, id, bot.Text{Body: "y"}), s.Home(t.Context(), "U1", bot.Text{Body: "x"})); err != nil {
		t.Error(err)
	}
}

func TestTheBaseMayLackItsSlash(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	s.api = newClient(s.server.BotToken(), strings.TrimSuffix(s.server.URL(), "/"), &silence{}, silent)
	if _, err := s.Post(s.ctx, bot.Place{Channel: s.channel}, bot.Text{Body: "x"}); err != nil {
		t.Error(err)
	}
}
