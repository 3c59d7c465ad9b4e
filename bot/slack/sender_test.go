package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// says is a sender in a workspace, with one operator in its channel.
type says struct {
	*sender
	server *slacktest.Server
	limits *silence
	ctx    context.Context
}

func saying(t *testing.T, o slacktest.Options) says {
	t.Helper()
	server, err := slacktest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	server.AddUser(slacktest.User{ID: operator, Name: "operator"})
	if _, err := server.Join(server.Channel(), operator); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patientTest)
	t.Cleanup(func() {
		cancel()
		_ = server.Close()
	})
	limits := &silence{}
	s := newSender(newClient(server.BotToken(), server.URL(), limits, silent), server.Channel(), quietLog(t))
	s.settle, s.gap, s.bot = 20*time.Millisecond, 0, server.BotID()
	return says{s, server, limits, ctx}
}

// thread is a new one, begun by the operator.
func (s says) thread(t *testing.T) bot.Place {
	t.Helper()
	sent, err := s.server.Say(operator, "", "devvm is frozen")
	if err != nil {
		t.Fatal(err)
	}
	return bot.Place{Chat: chatName, Channel: s.channel, Thread: sent.TS}
}

// persist does what the core does: it tries again until it is done.
func (s says) persist(t *testing.T, p bot.Place, text bot.Text) string {
	t.Helper()
	for try := 0; ; try++ {
		id, err := s.Post(s.ctx, p, text)
		if err == nil {
			return id
		}
		if _, busy := errors.AsType[*bot.Busy](err); busy { // the core waits
			s.limits.mu.Lock()
			clear(s.limits.until)
			s.limits.mu.Unlock()
		}
		if try == 10 || s.ctx.Err() != nil {
			t.Fatalf("after %d tries: %v", try, err)
		}
	}
}

// replies are ours in a thread, without what began it.
func (s says) replies(p bot.Place) []slacktest.Message { return s.server.Thread(p.Thread)[1:] }

// reads is what a person reads in the thread.
func (s says) reads(p bot.Place) string {
	var all []string
	for _, m := range s.replies(p) {
		all = append(all, m.Shown())
	}
	return strings.Join(all, "\n")
}

func TestAPostIsMarkdownThatNeitherPingsNorUnfurls(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	id, err := s.Post(s.ctx, p, bot.Text{Body: "⏳ **Working** on <!channel>\nsee https://a.example", Key: "k1", Quiet: true})
	if err != nil {
		t.Fatal(err)
	}
	call := s.server.Calls("chat.postMessage")[0]
	for arg, want := range map[string]string{
		"channel": s.channel, "thread_ts": p.Thread, "text": "⏳ Working on &lt;!channel&gt;",
		"unfurl_links": "false", "unfurl_media": "false", "parse": "none", "link_names": "false",
		"blocks": `[{"type":"markdown","text":"⏳ **Working** on \u0026lt;!channel\u003e  \nsee https://a.example"}]`,
	} {
		if got := call.Args[arg]; got != want {
			t.Errorf("%s is %q, want %q", arg, got, want)
		}
	}
	if meta := call.Args["metadata"]; !strings.Contains(meta, `"bgbot_post"`) || strings.Contains(meta, "k1") {
		t.Errorf("the metadata is %s", meta)
	}
	if m := s.replies(p)[0]; m.TS != id || m.Unfurls {
		t.Errorf("got %+v", m)
	}
}

func TestAnEditReplacesTextAndButtons(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	id := s.persist(t, p, bot.Text{Body: "⏳ Working", Choices: []bot.Choice{{ID: "stop:1", Label: "Stop"}}})
	before := s.replies(p)[0].Buttons()[0]
	if err := s.Edit(s.ctx, p, id, bot.Text{Body: "⏳ Still working", Choices: []bot.Choice{{ID: "stop:1", Label: "Stop"}}}); err != nil {
		t.Fatal(err)
	}
	m := s.replies(p)[0]
	if b := m.Buttons()[0]; m.Shown() != "⏳ Still working" || b.Value != "stop:1" || b.ActionID != before.ActionID || b.BlockID == before.BlockID {
		t.Errorf("got %q with %+v, before %+v", m.Shown(), b, before)
	}
	if err := s.Edit(s.ctx, p, id, bot.Text{Body: "☑ Done"}); err != nil {
		t.Fatal(err)
	}
	if m := s.replies(p)[0]; m.Shown() != "☑ Done" || len(m.Buttons()) != 0 || m.Edited || m.Text != "☑ Done" {
		t.Errorf("got %+v", m)
	}
	args := s.server.Calls("chat.update")[0].Args
	if args["parse"] != "none" || args["link_names"] != "false" || args["text"] != "⏳ Still working" {
		t.Errorf("the edit was %v", args)
	}
}

func TestButtonsFitAThumbAndAskWhereItMatters(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	choices := []bot.Choice{
		{ID: "confirm:9f2c", Label: "Cycle devvm", Danger: true},
		{ID: "cancel:9f2c", Label: "Cancel"},
		{ID: "verb:reset", Label: "Reset …", Danger: true},
		{ID: "long", Label: strings.Repeat("very ", 40), Danger: true},
	}
	for i := range 6 {
		choices = append(choices, bot.Choice{ID: fmt.Sprint(i), Label: "More"})
	}
	s.persist(t, p, bot.Text{Body: "🔴 Cycle devvm?", Choices: choices})
	m := s.replies(p)[0]
	var rows []int
	for _, b := range m.Blocks[1:] {
		rows = append(rows, len(b.Buttons))
	}
	if !slices.Equal(rows, []int{1, 1, 2, 5, 1}) {
		t.Fatalf("the buttons stand in rows of %v", rows)
	}
	ids := map[string]bool{}
	for i, b := range m.Buttons() {
		ids[b.ActionID] = true
		if b.Value != choices[i].ID {
			t.Errorf("button %d is worth %q", i, b.Value)
		}
	}
	got := m.Buttons()
	want := slacktest.Confirm{Title: "Cycle devvm?", Text: "It is done at once and cannot be taken back.", OK: "Cycle devvm", Deny: "Not now"}
	if len(ids) != len(choices) || got[0].Style != "danger" || got[0].Confirm == nil || *got[0].Confirm != want {
		t.Errorf("the dangerous one is %+v", got[0])
	}
	if got[1].Style != "" || got[1].Confirm != nil || got[2].Style != "danger" || got[2].Confirm != nil {
		t.Errorf("the others are %+v %+v", got[1], got[2])
	}
}

// paragraphs of a long answer make three messages.
const paragraphs = 200

func longAnswer() string {
	var b strings.Builder
	b.WriteString("🤖 The disk path is dead.\n\n")
	for i := range paragraphs {
		fmt.Fprintf(&b, "Paragraph %d says something that is worth reading at night, slowly.\n\n```sh\necho %d | tee >(wc)\n```\n\n", i, i)
	}
	return b.String() + "The end."
}

func TestALongAnswerGoesOnInTheThreadAndItsButtonsStandLast(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	id := s.persist(t, p, bot.Text{Body: longAnswer(), Choices: []bot.Choice{{ID: "x", Label: "Continue"}}})
	all := s.replies(p)
	if len(all) < 3 || all[0].TS != id || len(all[0].Buttons()) != 0 || len(all[len(all)-1].Buttons()) != 1 {
		t.Fatalf("%d messages", len(all))
	}
	for i := range paragraphs {
		if n := strings.Count(s.reads(p), fmt.Sprintf("Paragraph %d says", i)); n != 1 {
			t.Errorf("paragraph %d stands there %d times", i, n)
		}
	}
	for i, m := range all {
		if left(m.Shown()) {
			t.Errorf("message %d leaves its code open", i)
		}
	}
}

func TestALongAnswerIsNeitherDoubledNorLostWhateverBreaks(t *testing.T) {
	t.Parallel()
	for _, kind := range []slacktest.FaultKind{
		slacktest.Reset, slacktest.ResetAfterDone, slacktest.HTML502, slacktest.Garbage, slacktest.NoCode, slacktest.RateLimitedNoHeader,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			s := saying(t, slacktest.Options{Unlimited: true})
			p := s.thread(t)
			s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: kind, Every: 2})
			s.persist(t, p, bot.Text{Body: longAnswer(), Key: "answer"})
			got := s.reads(p)
			for i := range paragraphs {
				if n := strings.Count(got, fmt.Sprintf("Paragraph %d says", i)); n != 1 {
					t.Fatalf("paragraph %d stands there %d times", i, n)
				}
			}
			if n := strings.Count(got, "The end."); n != 1 {
				t.Errorf("the end stands there %d times", n)
			}
		})
	}
}

func TestAPostWhoseAnswerWasLostIsLookedForBeforeItIsRepeated(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]func(says) bot.Place{
		"in a thread":    func(s says) bot.Place { return s.thread(t) },
		"in the channel": func(s says) bot.Place { return bot.Place{Chat: chatName, Channel: s.channel} },
	} {
		for _, kind := range []slacktest.FaultKind{slacktest.ResetAfterDone, slacktest.HangAfterDone} {
			t.Run(name+" "+kind.String(), func(t *testing.T) {
				t.Parallel()
				s := saying(t, slacktest.Options{Unlimited: true})
				p := in(s)
				s.persist(t, p, bot.Text{Body: "before", Key: "before"})
				s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: kind, Times: 1})
				ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
				defer cancel()
				if _, err := s.Post(ctx, p, bot.Text{Body: "🔴 Cycle devvm?", Key: "nonce"}); err == nil {
					t.Fatal("no error")
				}
				id, err := s.Post(s.ctx, p, bot.Text{Body: "🔴 Cycle devvm?", Key: "nonce"})
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, m := range s.server.Messages(s.channel) {
					if m.Text == "🔴 Cycle devvm?" && m.TS == id {
						n++
					}
				}
				for _, m := range s.server.Thread(p.Thread) {
					if p.Thread != "" && m.Text == "🔴 Cycle devvm?" && m.TS == id {
						n++
					}
				}
				if calls := s.server.Calls("chat.postMessage"); n < 1 || len(calls) != 2 {
					t.Errorf("it stands there %d times after %d posts", n, len(calls))
				}
				look := s.server.Calls("conversations.replies", "conversations.history")
				if len(look) != 1 || look[0].Args["include_all_metadata"] != "1" || look[0].Args["oldest"] == "" {
					t.Errorf("it looked like this: %+v", look)
				}
			})
		}
	}
}

func TestAPostThatNeverArrivedIsSaidAgainOnce(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{Unlimited: true})
	p := s.thread(t)
	s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: slacktest.Reset, Times: 1})
	s.persist(t, p, bot.Text{Body: "✅ devvm is back", Key: "k"})
	if all := s.replies(p); len(all) != 1 {
		t.Errorf("%d messages", len(all))
	}
}

func TestTheSameWordsTwiceAreTwoMessages(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{Unlimited: true})
	p := s.thread(t)
	s.persist(t, p, bot.Text{Body: "Nothing was done.", Key: "a"})
	s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: slacktest.Reset, Times: 1})
	s.persist(t, p, bot.Text{Body: "Nothing was done.", Key: "b"})
	if all := s.replies(p); len(all) != 2 {
		t.Errorf("%d messages", len(all))
	}
}

func TestWhereNobodyMayReadALostPostIsSaidAgain(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{Unlimited: true})
	p := s.thread(t)
	s.server.Inject(slacktest.Fault{Methods: []string{"conversations.replies"}, Kind: slacktest.ErrorCode, Error: "missing_scope"})
	s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: slacktest.Reset, Times: 1})
	s.persist(t, p, bot.Text{Body: "✅ devvm is back", Key: "k"})
	if all := s.replies(p); len(all) != 1 {
		t.Errorf("%d messages", len(all))
	}
}

func TestALookThatFailsRepeatsNothing(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{Unlimited: true})
	p := s.thread(t)
	s.server.Inject(slacktest.Fault{Methods: []string{"conversations.replies"}, Kind: slacktest.HTML503, Times: 2})
	s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: slacktest.ResetAfterDone, Times: 1})
	s.persist(t, p, bot.Text{Body: "✅ devvm is back", Key: "k"})
	if all := s.replies(p); len(all) != 1 || len(s.server.Calls("chat.postMessage")) != 1 {
		t.Errorf("%d messages", len(all))
	}
}

func TestAnEditThatHasGrownLosesNothingAndOneThatShrinksLeavesNothing(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{Unlimited: true})
	p := s.thread(t)
	id := s.persist(t, p, bot.Text{Body: "⏳ Working"})
	edit := func(s *sender, body string) {
		t.Helper()
		if err := s.Edit(t.Context(), p, id, bot.Text{Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	edit(s.sender, longAnswer())
	grown := len(s.replies(p))
	if n := strings.Count(s.reads(p), "Paragraph "); n != paragraphs || grown < 3 {
		t.Fatalf("%d paragraphs in %d messages", n, grown)
	}
	edit(s.sender, strings.ReplaceAll(longAnswer(), "slowly", "again"))
	restarted := newSender(s.api, s.channel, s.log)
	restarted.bot, restarted.gap = s.bot, 0
	edit(restarted, strings.ReplaceAll(longAnswer(), "slowly", "once more"))
	if n := strings.Count(s.reads(p), "once more"); n != paragraphs || len(s.replies(p)) != grown {
		t.Errorf("%d paragraphs in %d messages, before %d", n, len(s.replies(p)), grown)
	}
	edit(restarted, "☑ Done")
	if got := s.reads(p); got != "☑ Done" {
		t.Errorf("left: %s", got)
	}
}

func TestWhatSlackFindsTooLongIsHalvedAndStandsThereOnce(t *testing.T) {
	t.Parallel()
	for skip := range 3 {
		s := saying(t, slacktest.Options{Unlimited: true})
		p := s.thread(t)
		s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: slacktest.ErrorCode, Error: "msg_blocks_too_long", Skip: skip, Times: 1})
		s.server.Inject(slacktest.Fault{Methods: []string{"chat.postMessage"}, Kind: slacktest.Reset, Skip: skip + 2, Times: 1})
		id := s.persist(t, p, bot.Text{Body: longAnswer(), Key: "k"})
		for i := range paragraphs {
			if n := strings.Count(s.reads(p), fmt.Sprintf("Paragraph %d says", i)); n != 1 {
				t.Fatalf("skip %d: paragraph %d stands there %d times", skip, i, n)
			}
		}
		s.server.Inject(slacktest.Fault{Methods: []string{"chat.update"}, Kind: slacktest.ErrorCode, Error: "msg_too_long", Times: 1})
		if err := s.Edit(s.ctx, p, id, bot.Text{Body: longAnswer()}); err != nil {
			if err = s.Edit(s.ctx, p, id, bot.Text{Body: longAnswer()}); err != nil { // the reset may be still to come
				t.Fatal(err)
			}
		}
		if n := strings.Count(s.reads(p), "Paragraph "); n != paragraphs {
			t.Errorf("skip %d: %d paragraphs after the edit", skip, n)
		}
	}
}

func TestAMessageThatIsGoneIsSaidToBeGone(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	for name, id := range map[string]string{"deleted": "1700000000.000001", "of one person": "", "another's": p.Thread} {
		if err := s.Edit(s.ctx, p, id, bot.Text{Body: "x"}); !isGone(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Post(s.ctx, bot.Place{Channel: s.channel, Thread: "1700000000.000001"}, bot.Text{Body: "x"}); !isGone(err) {
		t.Errorf("a thread that is not there: %v", err)
	}
	if _, err := s.Post(s.ctx, bot.Place{Channel: "C0ELSEWHERE"}, bot.Text{Body: "x"}); !isGone(err) || len(s.server.Calls("chat.postMessage")) != 1 {
		t.Errorf("another channel: %v", err)
	}
}

func quietLog(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
