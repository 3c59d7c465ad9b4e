package slack

import (
	"strings"
	"testing"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

func TestAWordToOnePersonIsSeenByThatPersonOnly(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	s.persist(t, p, bot.Text{Body: "⏳ Working"})
	id, err := s.Post(s.ctx, p, bot.Text{Body: "You may not do **that** <!here>.", Only: operator, Choices: []bot.Choice{{ID: "a", Label: "Help"}}})
	if err != nil || id != "" {
		t.Fatalf("%q %v", id, err)
	}
	got := s.server.Ephemerals(operator)
	if len(got) != 1 || got[0].Shown() != "You may not do **that** &lt;!here>." || got[0].ThreadTS != p.Thread || len(got[0].Buttons()) != 1 {
		t.Fatalf("got %+v", got)
	}
	if n := len(s.replies(p)); n != 1 {
		t.Errorf("%d messages for all", n)
	}
	args := s.server.Calls("chat.postEphemeral")[0].Args
	if args["parse"] != "none" || args["link_names"] != "false" || args["user"] != operator {
		t.Errorf("the call was %v", args)
	}
	if len(s.server.Calls("conversations.replies")) != 0 {
		t.Error("a thread that we are in was looked at")
	}
}

// Slack shows such a word only in threads that have replies.
func TestAWordToOneWhoHasJustBegunAThreadStandsInTheChannel(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	fresh, older := s.thread(t), s.thread(t)
	if _, err := s.server.Say(operator, older.Thread, "anybody?"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []bot.Place{fresh, older} {
		if _, err := s.Post(s.ctx, p, bot.Text{Body: "You may not do that.", Only: operator}); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.server.Ephemerals(operator); got[0].ThreadTS != "" || got[1].ThreadTS != older.Thread {
		t.Errorf("got %+v", got)
	}
}

func TestALongWordToOnePersonIsWholeAndNoPartIsSaidTwice(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{Unlimited: true})
	p := s.thread(t)
	s.persist(t, p, bot.Text{Body: "⏳ Working"})
	s.server.Inject(slacktest.Fault{Methods: []string{"chat.postEphemeral"}, Kind: slacktest.HTML502, Every: 2})
	s.persist(t, p, bot.Text{Body: longAnswer(), Only: operator, Key: "help"})
	var all strings.Builder
	for _, m := range s.server.Ephemerals(operator) {
		all.WriteString(m.Shown())
	}
	if n := strings.Count(all.String(), "Paragraph "); n != paragraphs {
		t.Errorf("%d paragraphs", n)
	}
}

func TestAWordToOneWhoHasLeftIsGivenUp(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	if _, err := s.server.Leave(s.channel, operator); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{operator, "U0NOBODY"} {
		if _, err := s.Post(s.ctx, p, bot.Text{Body: "x", Only: who}); !isGone(err) {
			t.Errorf("%s: %v", who, err)
		}
	}
}

func TestFilesAreNotShownToAllForAWordToOne(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	if _, err := s.Post(s.ctx, p, bot.Text{Body: "x", Only: operator, Files: []bot.File{{Name: "a.txt", Data: []byte("x")}}}); err != nil {
		t.Fatal(err)
	}
	if calls := s.server.Calls("files.getUploadURLExternal"); len(calls) != 0 || len(s.replies(p)) != 0 {
		t.Errorf("%+v", calls)
	}
}
