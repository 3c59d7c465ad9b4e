package slack

import (
	"slices"
	"strings"
	"testing"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// theCoreDecides are variants that are for the core: which threads are sessions, and which buttons mean something.
var theCoreDecides = []string{"reply in a thread that is not the bot's", "click with another value"}

// Every shape of payload that our stand-in of Slack knows, over a real socket, against its own opinion of who may act.
func TestEveryShapeOfPayload(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	chat := s.run(nil)
	card, err := chat.Post(t.Context(), chat.home.place(""), bot.Text{Body: "Cycle?", Choices: []bot.Choice{{ID: "confirm:n", Label: "Cycle"}}})
	if err != nil {
		t.Fatal(err)
	}
	commands, err := s.CommandVariants(operator, "/vm", "status")
	if err != nil {
		t.Fatal(err)
	}
	clicks, err := s.ClickVariants(operator, card, s.button(card))
	if err != nil {
		t.Fatal(err)
	}
	count, seen := map[slacktest.Verdict]int{}, map[string]bool{}
	for _, v := range slices.Concat(s.Variants(operator, "devvm is frozen"), commands, clicks) {
		if strings.HasPrefix(v.Name, "channel_shared") {
			continue // everything after it would be refused
		}
		before := len(s.core.all())
		if _, err := s.AwaitAck(s.deadline(), s.SendVariant(v).Envelope); err != nil {
			t.Fatalf("%s: not acknowledged: %v", v.Name, err)
		}
		fresh := slices.DeleteFunc(s.core.all()[before:], func(m bot.Message) bool { return seen[m.ID] }) // as the core does
		acted := slices.ContainsFunc(fresh, acts)
		switch {
		case slices.Contains(theCoreDecides, v.Name):
		case v.Verdict == slacktest.Must && !acted:
			t.Errorf("%s: nothing happens", v.Name)
		case v.Verdict == slacktest.MustNot && acted:
			t.Errorf("%s: it acts: %+v", v.Name, fresh)
		}
		for _, m := range fresh {
			seen[m.ID] = true
		}
		count[v.Verdict]++
	}
	if count[slacktest.Must] < 8 || count[slacktest.MustNot] < 90 {
		t.Errorf("only %v", count)
	}
}

// acts says that the core would do something new for a message: what was missed it only keeps, and strangers it refuses.
func acts(m bot.Message) bool {
	return !m.Missed && m.Notice == "" && slices.Contains([]string{operator, colleague}, m.From.ID)
}

// button is the action of the first button in a message.
func (s *scene) button(ts string) string {
	s.t.Helper()
	for _, m := range s.Messages(s.Channel()) {
		if buttons := m.Buttons(); m.TS == ts && len(buttons) > 0 {
			return buttons[0].ActionID
		}
	}
	s.t.Fatal("there is no button")
	return ""
}

// A person presses, and the core gets what the button means, from where it stands.
func TestAPressedButtonComesBack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	chat := s.run(nil)
	root := s.says(operator, "", "devvm is frozen")
	s.hears("devvm is frozen")
	card, err := chat.Post(t.Context(), chat.home.place(root), bot.Text{Body: "Cycle?", Choices: []bot.Choice{{ID: "confirm:nonce", Label: "Cycle", Danger: true}}})
	if err != nil {
		t.Fatal(err)
	}
	var action string
	for _, m := range s.Thread(root) {
		if len(m.Buttons()) > 0 {
			action = m.Buttons()[0].ActionID
		}
	}
	if _, err := s.Click(colleague, card, action); err != nil {
		t.Fatal(err)
	}
	m := s.core.await(t, "the click", func(m bot.Message) bool { return m.Click != "" })
	if m.Click != "confirm:nonce" || m.Card != card || m.Place != chat.home.place(root) || m.From.ID != colleague || m.Text != "" {
		t.Errorf("got %+v", m)
	}
}

// The page is drawn for whoever opens it, and its buttons act in the channel.
func TestACommandAndThePage(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	chat := s.run(nil)
	if _, err := s.Slash(operator, "", "/vm", "status"); err != nil {
		t.Fatal(err)
	}
	if m := s.hears("/vm status"); m.Place != chat.home.place("") || m.From.ID != operator {
		t.Errorf("got %+v", m)
	}
	if _, err := s.OpenHome(operator); err != nil {
		t.Fatal(err)
	}
	if m := s.core.await(t, "the page", func(m bot.Message) bool { return m.Home }); m.Place != chat.home.place("") || m.From.ID != operator {
		t.Errorf("got %+v", m)
	}
	s.AddChannel(slacktest.Channel{ID: "C0OTHER", Name: "other", Public: true})
	for _, id := range []string{operator} {
		if _, err := s.Join("C0OTHER", id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Slash(operator, "C0OTHER", "/vm", "reset"); err != nil {
		t.Fatal(err)
	}
	s.until("the refusal", func() bool { return len(s.Ephemerals(operator)) == 1 })
	if got := s.Ephemerals(operator)[0].Shown(); got != "I serve one channel only: type this in <#C0INCIDENT>. Nothing was done." {
		t.Errorf("said %q", got)
	}
}
