package console

import (
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"bgbot/bot"
)

func TestALiveMessageIsRedrawnInPlace(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 16)
	p := d.begin()
	id := d.says(p, bot.Text{Body: "⏳ Working 0:00", Choices: []bot.Choice{{ID: "halt", Label: "Stop"}}})
	d.edits(p, id, bot.Text{Body: "⏳ Working 0:14 · `uptime`\n✓ one", Choices: []bot.Choice{{ID: "halt", Label: "Stop"}}})
	want := `bgbot · devvm







Kim    devvm is frozen                                                     18:20

bgbot  ⏳ Working 0:14 · uptime                                            18:20
       ✓ one
       [1 Stop]

── ^C stops · /help ────────────────────────────────────────────────────────────
› Say what is wrong, or /help`
	if got := d.shown(); got != want {
		t.Errorf("the screen is\n%s\nwant\n%s", got, want)
	}
	d.edits(p, id, bot.Text{Body: "✅ Looked for 0:15"})
	d.lacks("Stop")
	d.lacks("✓ one")
}

func TestTheGreetingIsMarkdownAndStaysAtTheTop(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(o *Options) { o.Greeting = "**Practice incident.** Type for example: `devvm is frozen`\n" })
	g.drawing = true
	d := &desk{rig: g, s: g.newScreen(&history{})}
	d.s.Update(tea.WindowSizeMsg{Width: 80, Height: 12})
	d.has("Practice incident. Type for example: devvm is frozen\n\n── /help")
	d.begin()
	d.has("Practice incident. Type for example: devvm is frozen\n\nKim    devvm is frozen")
}

func TestTheStateStaysInSightWhenTheMessageOutgrowsAPhone(t *testing.T) {
	t.Parallel()
	for _, height := range []int{12, 20} {
		d := newDesk(t, 40, height)
		p := d.begin()
		body := "⏳ Working 0:14 · `ssh devvm 'sudo dmesg -T | tail -40'`\n" + strings.Repeat("✓ one\n", 30)
		id := d.says(p, bot.Text{Body: body, Choices: []bot.Choice{{ID: "halt", Label: "Stop"}}})
		if top := d.shown(); !strings.HasPrefix(top, "⏳ Working 0:14 · ssh devvm 'sudo dmesg…\n") || !strings.Contains(top, "[1 Stop]") {
			t.Errorf("at height %d the screen is\n%s", height, top)
		}
		d.edits(p, id, bot.Text{Body: "✅ Looked for 0:15\n" + body})
		d.lacks("⏳ Working 0:14 · ssh devvm 'sudo dmesg…")
	}
}

func TestNothingIsWiderThanAPhone(t *testing.T) {
	t.Parallel()
	for _, width := range []int{1, 7, 20, 40, 71, 72} {
		d := newDesk(t, width, 20)
		p := d.begin()
		d.says(p, card)
		d.says(p, bot.Text{
			Body:    "`ssh devvm 'sudo dmesg -T | tail -40'` " + strings.Repeat("x", 90) + "\n\n| a | b |\n|-|-|\n| 1 | 2 |",
			Choices: []bot.Choice{{ID: "l", Label: strings.Repeat("long ", 20)}, {ID: "e", Label: "🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥🔥"}},
			Files:   []bot.File{{Name: "forensics-c81f.txt", Data: []byte("x")}},
		})
		d.keys("a rather long line that I type on my phone while half asleep")
		view := d.s.View()
		lines := strings.Split(view.Content, "\n")
		if len(lines) != 20 {
			t.Errorf("%d rows at width %d, want 20", len(lines), width)
		}
		for _, line := range lines {
			if w := lipgloss.Width(line); w > max(width, 4) {
				t.Errorf("width %d: %q takes %d", width, line, w)
			}
		}
		if view.Cursor == nil || view.Cursor.Y >= 20 {
			t.Errorf("width %d: the cursor is at %+v", width, view.Cursor)
		}
	}
}

func TestScrollingStaysWhereItIs(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 12)
	p := d.begin()
	var id string
	for i := range 50 {
		id = d.says(p, bot.Text{Body: fmt.Sprintf("message %d.", i)})
	}
	d.has("message 49.")
	d.keys("pgup", "pgup")
	here := d.shown()
	d.says(p, bot.Text{Body: "news"})
	d.edits(p, id, bot.Text{Body: "message 49.\nlonger\nand longer"})
	if now := d.shown(); now != here {
		t.Errorf("the screen moved from\n%s\nto\n%s", here, now)
	}
	d.has("── ↓ more below · End ──")
	d.keys("home")
	if top := d.shown(); !strings.HasPrefix(top, "Kim    devvm is frozen") {
		t.Errorf("the first row is not the first message:\n%s", top)
	}
	d.keys("pgup")
	if top := d.shown(); !strings.HasPrefix(top, "Kim    devvm is frozen") {
		t.Errorf("the first row is not the first message:\n%s", top)
	}
	d.keys("pgdown", "end")
	d.has("news")
	d.s.Update(tea.MouseWheelMsg{Button: tea.MouseWheelUp})
	d.has("↓ more below")
	for range 5 {
		d.s.Update(tea.MouseWheelMsg{Button: tea.MouseWheelDown})
	}
	d.lacks("↓ more below")
}

func TestNewsOfAnotherThreadIsOneLine(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	d.begin()
	d.says(bot.Place{Chat: "console", Channel: "console", Thread: "old"}, bot.Text{Body: "🔁 bgbot was restarted\nwith details"})
	d.has("in thread 2: 🔁 bgbot was restarted (/threads 2)")
	d.lacks("with details")
	d.has("── /help · 1 new in /threads ──")
	d.keys("/threads 2", "enter")
	d.has("with details")
	d.has("thread 2 of 2")
	d.lacks("1 new")
	d.keys("go on", "enter")
	if m := d.sent(); m.Place.Thread != "old" {
		t.Errorf("sent to %v", m.Place)
	}
	d.keys("/new", "enter", "another", "enter")
	if m := d.sent(); m.Place.Thread != m.ID {
		t.Errorf("/new sent to %v", m.Place)
	}
	d.keys("/help", "enter")
	d.has("^C stops what bgbot is doing, twice leaves; ^D leaves.")
	d.silent()
}

func TestAPushRingsWhenNobodyTypes(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	p := d.begin()
	push := func(quiet bool) bool {
		d.says(p, bot.Text{Body: "news", Quiet: quiet})
		_, cmd := d.s.Update(update{})
		return cmd != nil
	}
	if push(false) {
		t.Error("it rang while the person typed")
	}
	d.clock.pass(time.Minute)
	if push(true) {
		t.Error("it rang for a quiet message")
	}
	if !push(false) {
		t.Error("it did not ring")
	}
}

// BenchmarkEdit is one edit of a live message, and the screen that follows, under a long transcript.
func BenchmarkEdit(b *testing.B) {
	for _, messages := range []int{10, 500, 1900} {
		b.Run(fmt.Sprintf("%d_messages", messages), func(b *testing.B) {
			g := newRig(&testing.T{}, func(o *Options) { o.Dir = "" })
			g.drawing = true
			s := g.newScreen(&history{})
			s.Update(tea.WindowSizeMsg{Width: 100, Height: 40})
			body := strings.Repeat("✓ `ssh devvm 'df -h'`  timed out after 10 s\n", 20)
			var id string
			for range messages {
				id, _ = g.Post(b.Context(), bot.Place{}, bot.Text{Body: body})
			}
			for i := range b.N {
				_ = g.Edit(b.Context(), bot.Place{}, id, bot.Text{Body: fmt.Sprintf("⏳ Working 0:%02d\n%s", i, body)})
				s.Update(update{})
				s.View()
			}
		})
	}
}

// What is drawn while the terminal takes nothing would only be shown late, one state after the other.
func TestAScreenOfATerminalThatTakesNothingStaysAsItIs(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 16)
	p := d.begin()
	id := d.says(p, bot.Text{Body: "⏳ Working 0:00"})
	d.has("⏳ Working 0:00")
	stuck := true
	d.stuck = func() bool { return stuck }
	d.edits(p, id, bot.Text{Body: "⏳ Working 0:14"})
	d.has("⏳ Working 0:00")
	stuck = false
	d.has("⏳ Working 0:14")
}
