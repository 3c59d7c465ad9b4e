package slack

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	slackgo "github.com/slack-go/slack"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// What an agent says, others may have had it say. No part of it looks as if the bot itself had begun to speak, not even on
// a locked phone.
func TestAFurtherPartOfAMessageSaysThatItIsOne(t *testing.T) {
	t.Parallel()
	filler := strings.Repeat("All of it was read. ", 548)
	const forged = "✅ devvm is back after 41 s (cycle by operator, op c81f)."
	for body, want := range map[string]string{
		"🤖 " + filler + "\n\n" + forged:                  "🤖 ⋯ " + forged,
		filler + "\n\n" + forged:                         "⋯ " + forged,
		filler + "\n\n# " + forged:                       "⋯ " + forged,
		"🤖 " + filler + "\n\n```\n" + forged + "\n```\n": "🤖 ⋯ " + forged,
	} {
		all := messages(bot.Text{Body: body}, -1)
		if len(all) != 2 || all[1].text != want {
			t.Fatalf("%d parts; the last begins %q, want %q", len(all), all[len(all)-1].text, want)
		}
		if block := all[1].blocks[0].(*slackgo.MarkdownBlock); !strings.HasPrefix(block.Text, strings.TrimSuffix(want, forged)[:len("⋯")]) {
			t.Errorf("it shows %q", block.Text)
		}
	}
}

// The key of a further part can be computed by everybody, so what another app posts with it is not taken for ours.
func TestWhatAnotherAppPostsIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{NoEcho: true})
	p := s.thread(t)
	s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: slacktest.Hang, Times: 1})
	s.api = newClient(s.server.BotToken(), s.server.URL(), &silence{}, 100*time.Millisecond)
	text := bot.Text{Body: "✅ done", Key: "k1"}
	if _, err := s.Post(s.ctx, p, text); err == nil {
		t.Fatal("it hangs")
	}
	meta := mark("k1")
	if _, err := s.server.SayMarkup(operator, p.Thread, "forged", map[string]any{"bot_id": "B0OTHER", "app_id": "A0OTHER", "metadata": map[string]any{"event_type": meta.EventType, "event_payload": meta.EventPayload}}); err != nil {
		t.Fatal(err)
	}
	s.persist(t, p, text)
	if !strings.Contains(s.reads(p), "✅ done") {
		t.Errorf("the thread reads %q", s.reads(p))
	}
}

// A redirect would take the token with it.
func TestNoRedirectIsFollowed(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- r.Header.Get("Authorization") + string(body)
	}))
	defer thief.Close()
	front := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer front.Close()
	s := newSender(newClient("xoxb-secret", front.URL, &silence{}, silent), "C1", quietLog(t))
	if _, err := s.Post(t.Context(), bot.Place{Channel: "C1"}, bot.Text{Body: "x"}); err == nil {
		t.Error("it was posted")
	}
	if len(asked) > 0 {
		t.Errorf("it went elsewhere: %s", <-asked)
	}
}

// Whoever meets a rate limit, nobody asks the same inside of it.
func TestARateLimitHoldsForSenderAndReader(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	w := newWeb(s.server.URL(), s.server.BotToken())
	s.api = newClient(s.server.BotToken(), s.server.URL(), w.silence, silent)
	s.server.Inject(slacktest.Fault{Methods: []string{"conversations.replies"}, Kind: slacktest.RateLimited, RetryAfter: 30, Times: 1})
	if _, _, err := w.ask(s.ctx, "conversations.replies", url.Values{"channel": {s.channel}, "ts": {p.Thread}}); err == nil {
		t.Fatal("no limit")
	}
	_, _, _, err := s.api.GetConversationRepliesContext(s.ctx, &slackgo.GetConversationRepliesParameters{ChannelID: s.channel, Timestamp: p.Thread})
	if busy, ok := errors.AsType[*bot.Busy](classify("conversations.replies", err)); !ok || busy.After < 20*time.Second {
		t.Errorf("%v", err)
	}
	if n := len(s.server.Calls("conversations.replies")); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// A rate limit that comes as an answer like any other is one too.
func TestARateLimitInTheBodyHoldsForEverybody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header      int
		least, most time.Duration
	}{{0, noHeader / 2, noHeader}, {40, 35 * time.Second, 40 * time.Second}} {
		s := saying(t, slacktest.Options{})
		p := s.thread(t)
		w := newWeb(s.server.URL(), s.server.BotToken())
		s.api = newClient(s.server.BotToken(), s.server.URL(), w.silence, silent)
		s.server.Inject(slacktest.Fault{Methods: []string{"conversations.replies"}, Kind: slacktest.RateLimitedOK, RetryAfter: c.header})
		ask := &slackgo.GetConversationRepliesParameters{ChannelID: s.channel, Timestamp: p.Thread}
		if _, _, _, err := s.api.GetConversationRepliesContext(s.ctx, ask); err == nil {
			t.Fatal("no limit")
		}
		_, _, err := w.ask(s.ctx, "conversations.replies", url.Values{"channel": {s.channel}, "ts": {p.Thread}})
		if busy, ok := errors.AsType[*bot.Busy](err); !ok || busy.After < c.least || busy.After > c.most {
			t.Errorf("%v", err)
		}
		if n := len(s.server.Calls("conversations.replies")); n != 1 {
			t.Errorf("asked %d times", n)
		}
	}
}
