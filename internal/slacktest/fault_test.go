package slacktest_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		fault  slacktest.Fault
		status int
		body   string // part of it
		done   bool   // the post took place
	}{
		{slacktest.Fault{Kind: slacktest.RateLimited, RetryAfter: 3}, 429, `"ratelimited"`, false},
		{slacktest.Fault{Kind: slacktest.RateLimitedNoHeader}, 429, `"ratelimited"`, false},
		{slacktest.Fault{Kind: slacktest.RateLimitedOK}, 200, `"error":"ratelimited"`, false},
		{slacktest.Fault{Kind: slacktest.HTML502}, 502, "<html>", false},
		{slacktest.Fault{Kind: slacktest.HTML503}, 503, "<html>", false},
		{slacktest.Fault{Kind: slacktest.ErrorCode, Error: "fatal_error"}, 200, `"error":"fatal_error"`, false},
		{slacktest.Fault{Kind: slacktest.NoCode}, 200, `{"ok":false}`, false},
		{slacktest.Fault{Kind: slacktest.Garbage}, 200, `{"ok":tr`, false},
		{slacktest.Fault{Kind: slacktest.Reset}, 0, "", false},
		{slacktest.Fault{Kind: slacktest.ResetAfterDone}, 0, "", true},
	} {
		t.Run(tc.fault.Kind.String(), func(t *testing.T) {
			t.Parallel()
			a := start(t, slacktest.Options{})
			tc.fault.Methods = []string{"chat.postMessage"}
			remove := a.Inject(tc.fault)
			status, header, body := a.raw(a.BotToken(), "chat.postMessage", "channel", a.Channel(), "text", "hi")
			if status != tc.status || !strings.Contains(body, tc.body) {
				t.Errorf("got %d %q, want %d %q", status, body, tc.status, tc.body)
			}
			if got, want := header.Get("Retry-After"), map[bool]string{true: "3"}[tc.fault.RetryAfter > 0]; got != want {
				t.Errorf("Retry-After %q, want %q", got, want)
			}
			if got := len(a.Messages(a.Channel())) == 1; got != tc.done {
				t.Errorf("posted: %v, want %v", got, tc.done)
			}
			if c := a.Calls("chat.postMessage"); len(c) != 1 || c[0].Status != tc.status || c[0].Args["text"] != "hi" {
				t.Errorf("the record says %+v", c)
			}
			remove()
			if tc.fault.Kind != slacktest.RateLimited {
				a.ok("chat.postMessage", "channel", a.Channel(), "text", "hi")
			}
		})
	}
}

func TestAHangLastsUntilTheClientLeaves(t *testing.T) {
	t.Parallel()
	for _, kind := range []slacktest.FaultKind{slacktest.Hang, slacktest.HangAfterDone} {
		a := start(t, slacktest.Options{})
		a.Inject(slacktest.Fault{Kind: kind})
		client := http.Client{Timeout: 100 * time.Millisecond}
		req, err := http.NewRequestWithContext(a.deadline(), http.MethodPost, a.URL()+"chat.postMessage",
			strings.NewReader(`{"channel":"`+a.Channel()+`","text":"hi"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+a.BotToken())
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("%s: it answered %s", kind, resp.Status)
		}
		if got := len(a.Messages(a.Channel())) == 1; got != (kind == slacktest.HangAfterDone) {
			t.Errorf("%s: posted: %v", kind, got)
		}
	}
}

func TestEveryFourthEditIsRefused(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{Unlimited: true})
	ts := a.ok("chat.postMessage", "channel", a.Channel(), "text", "0")["ts"].(string)
	a.Inject(slacktest.Fault{Methods: []string{"chat.update"}, Kind: slacktest.RateLimited, Every: 4, RetryAfter: 3})
	edit := func(n int) (int, string) {
		status, header, _ := a.raw(a.BotToken(), "chat.update", "channel", a.Channel(), "ts", ts, "text", strconv.Itoa(n))
		return status, header.Get("Retry-After")
	}
	for n := range 4 {
		if status, after := edit(n + 1); (status == 429) != (n == 3) || (after == "3") != (n == 3) {
			t.Errorf("edit %d: %d, Retry-After %q", n+1, status, after)
		}
	}
	if a.Truth().Inside != 0 {
		t.Error("nothing came inside the Retry-After yet")
	}
	if status, _ := edit(5); status != 429 || a.Truth().Inside != 1 {
		t.Errorf("inside the Retry-After: %d, %+v", status, a.Truth())
	}
	if got := a.Messages(a.Channel())[0].Text; got != "3" {
		t.Errorf("it reads %q", got)
	}
	a.ok("chat.postMessage", "channel", a.Channel(), "text", "another method is free")
}

func TestNominalRates(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{})
	a.AddChannel(slacktest.Channel{ID: "C0OTHER", Name: "other"})
	must[slacktest.Sent](t)(a.Join("C0OTHER", a.BotUserID()))
	post := func(channel string) (int, string) {
		status, header, _ := a.raw(a.BotToken(), "chat.postMessage", "channel", channel, "text", "x")
		return status, header.Get("Retry-After")
	}
	var refused int
	for range 8 {
		if status, after := post(a.Channel()); status == 429 {
			refused++
			if after != "1" {
				t.Errorf("Retry-After %q", after)
			}
		}
	}
	if refused < 2 || refused > 3 {
		t.Errorf("%d of 8 posts at once were refused", refused)
	}
	if got := a.Truth().Inside; got != refused-1 {
		t.Errorf("%d calls inside the Retry-After, want %d", got, refused-1)
	}
	if status, _ := post("C0OTHER"); status != 200 {
		t.Errorf("another channel has a limit of its own, got %d", status)
	}
	a.SetRates(slacktest.Rates{})
	if status, _ := post(a.Channel()); status != 200 {
		t.Errorf("without limits: %d", status)
	}
}

func TestTokensAndScopes(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{})
	a.RefuseToken(a.BotToken(), "token_revoked")
	if got := a.code("auth.test"); got != "token_revoked" {
		t.Error(got)
	}
	a.RefuseToken(a.BotToken(), "")
	a.SetScopes("chat:write")
	o := a.call("users.info", "user", a.BotUserID())
	if o["error"] != "missing_scope" || o["needed"] != "users:read" || o["provided"] != "chat:write" {
		t.Errorf("got %v", o)
	}
	a.Archive(a.Channel(), true)
	if got := a.code("chat.postMessage", "channel", a.Channel(), "text", "x"); got != "is_archived" {
		t.Error(got)
	}
	a.Archive(a.Channel(), false)
	must[slacktest.Sent](t)(a.Leave(a.Channel(), a.BotUserID()))
	if got := a.code("chat.postMessage", "channel", a.Channel(), "text", "x"); got != "channel_not_found" {
		t.Error(got)
	}
}
