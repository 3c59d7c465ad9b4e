package console

import (
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

	"bgbot/bot"
)

func TestButtonsByKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	p := d.begin()
	id := d.says(p, card)
	d.has("[1 Cycle devvm]  [2 Cancel]")

	d.keys("2")
	d.silent()
	d.has("── Enter: Cancel · Esc back ──")
	d.keys("enter")
	if m := d.sent(); m.Click != "n2" || m.Card != id || m.Place != p || m.Text != "" {
		t.Errorf("2 and Enter sent %+v", m)
	}
	d.keys("18:20 it froze", "enter")
	if m := d.sent(); m.Text != "18:20 it froze" || m.Click != "" {
		t.Errorf("a text that begins with a number sent %+v", m)
	}
	d.keys("it is 1", "alt+1")
	if m := d.sent(); m.Click != "n1" {
		t.Errorf("Alt+1 sent %+v", m)
	}
	d.keys("2", "enter")
	if m := d.sent(); m.Text != "it is 12" {
		t.Errorf("a text that ends with a number sent %+v", m)
	}
	d.keys("1", "backspace", "enter", "1", "esc", "enter", "1", "tab", "esc", "enter")
	d.silent()
	d.edits(p, id, bot.Text{Body: "⚪ Cancelled."})
	d.keys("2", "enter")
	if m := d.sent(); m.Text != "2" || m.Click != "" {
		t.Errorf("2 without a button sent %+v", m)
	}
}

func TestTabGoesToOlderButtonsToo(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 12)
	p := d.begin()
	old := d.says(p, bot.Text{Body: "⏳ Working", Choices: []bot.Choice{{ID: "halt", Label: "Stop"}}})
	for range 20 {
		d.says(p, bot.Text{Body: "filler"})
	}
	d.says(p, card)
	d.lacks("[Stop]")
	d.keys("tab", "tab", "tab")
	d.has("[Stop]")
	d.keys("left", "right", "enter")
	if m := d.sent(); m.Click != "halt" || m.Card != old {
		t.Errorf("Tab Tab Tab Enter sent %+v", m)
	}
	d.keys("shift+tab", "tab", "x", "enter")
	if m := d.sent(); m.Text != "x" {
		t.Errorf("typing with a button focused sent %+v", m)
	}
	d.keys("tab")
	d.edits(p, old, bot.Text{Body: "gone"})
	d.has("Enter: Cycle devvm")
}

func TestAButtonThatVanishesUnderTheFingerIsNotPressed(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	p := d.begin()
	id := d.says(p, card)
	d.keys("1")
	d.edits(p, id, bot.Text{Body: "⚪ Expired."})
	d.says(p, bot.Text{Body: "Reset devvm?", Choices: []bot.Choice{{ID: "n3", Label: "Reset devvm", Danger: true}}})
	d.keys("enter")
	d.silent()
	d.has("That button is gone, nothing was pressed.")
	d.keys("1", "enter")
	if m := d.sent(); m.Click != "n3" {
		t.Errorf("1 and Enter sent %+v", m)
	}
}

func TestAPinnedButtonOutlivesANewCard(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	p := d.begin()
	d.says(p, card)
	d.keys("2")
	d.says(p, bot.Text{Body: "Which?", Choices: []bot.Choice{{ID: "a", Label: "A"}, {ID: "b", Label: "B"}}})
	d.keys("enter")
	if m := d.sent(); m.Click != "n2" {
		t.Errorf("2, a new card and Enter sent %+v", m)
	}
}

func TestTheMousePressesAButtonButAsksTwiceForARedOne(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	p := d.begin()
	d.says(p, card)
	rows := strings.Split(clean(d.s.View().Content), "\n")
	click := func(label string) {
		for y, line := range rows {
			if x := strings.Index(line, label); x >= 0 {
				d.s.Update(tea.MouseClickMsg{X: x + 2, Y: y, Button: tea.MouseLeft})
				d.s.View()
			}
		}
	}
	click("[2 Cancel]")
	if m := d.sent(); m.Click != "n2" {
		t.Errorf("a click sent %+v", m)
	}
	rows = strings.Split(clean(d.s.View().Content), "\n")
	click("[1 Cycle")
	d.silent()
	click("[1 Cycle")
	if m := d.sent(); m.Click != "n1" {
		t.Errorf("the second click sent %+v", m)
	}
}

func TestControlCStopsTheBotAndThenLeaves(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	if quits(d.keys("^C")) {
		t.Error("the first ^C left")
	}
	d.silent()
	d.has("── press ^C again to leave ──")
	p := d.begin()
	d.lacks("press ^C again")
	d.says(p, bot.Text{Body: "⏳ Working", Choices: []bot.Choice{{ID: "halt", Label: "Stop"}}})
	if quits(d.keys("^C")) {
		t.Error("the first ^C left")
	}
	if m := d.sent(); m.Text != "stop" || m.Place != p {
		t.Errorf("^C sent %+v", m)
	}
	if !quits(d.keys("^C")) {
		t.Error("the second ^C did not leave")
	}
	d.silent()
}

func TestLeaving(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	if !quits(d.keys("^D")) {
		t.Error("^D did not leave")
	}
	if quits(d.keys("text", "^A", "^D")) || string(d.s.input.text) != "ext" {
		t.Errorf("^D in a text gave %q", string(d.s.input.text))
	}
	if !quits(d.keys("^K", "/quit", "enter")) {
		t.Error("/quit did not leave")
	}
}

func TestWhatWasTypedComesBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	d.keys("first", "enter", "second", "alt+enter", "line", "enter", "draft", "up")
	d.has("› second\n  line")
	d.keys("up", "up")
	d.has("› first")
	d.keys("down", "down", "down")
	d.has("› draft")
	d.keys("^W", "enter")
	d.sent()
	if m := d.sent(); m.Text != "second\nline" {
		t.Errorf("sent %q", m.Text)
	}
	d.silent()
}

func TestAPasteIsOneMessage(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 40, 20)
	d.s.Update(tea.PasteMsg{Content: "line one\r\n\x1b]0;t\x07line two\n" + strings.Repeat("x", 100_000) + "\n"})
	d.silent()
	d.s.View()
	d.keys("enter")
	if m := d.sent(); m.Text != "line one\nline two\n"+strings.Repeat("x", 100_000) {
		t.Errorf("sent %.60q", m.Text)
	}
}
