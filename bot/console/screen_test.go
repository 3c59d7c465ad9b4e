package console

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"bgbot/bot"
)

// desk is a screen without a terminal: keys go in, what it shows comes out, and the test is the core.
type desk struct {
	*rig
	s *screen
}

func newDesk(t *testing.T, width, height int) *desk {
	t.Helper()
	g := newRig(t, func(o *Options) { o.Title = "bgbot · devvm" })
	past, err := openHistory(filepath.Join(t.TempDir(), "history"))
	if err != nil {
		t.Fatal(err)
	}
	g.drawing = true
	d := &desk{rig: g, s: g.newScreen(past)}
	d.s.Update(tea.WindowSizeMsg{Width: width, Height: height})
	d.s.View()
	return d
}

// keys presses keys by their names; anything that is no name is typed.
func (d *desk) keys(names ...string) (cmd tea.Cmd) {
	named := map[string]tea.KeyPressMsg{
		"enter": {Code: tea.KeyEnter}, "tab": {Code: tea.KeyTab}, "esc": {Code: tea.KeyEscape},
		"up": {Code: tea.KeyUp}, "down": {Code: tea.KeyDown}, "left": {Code: tea.KeyLeft}, "right": {Code: tea.KeyRight},
		"pgup": {Code: tea.KeyPgUp}, "pgdown": {Code: tea.KeyPgDown}, "home": {Code: tea.KeyHome}, "end": {Code: tea.KeyEnd},
		"shift+tab": {Code: tea.KeyTab, Mod: tea.ModShift}, "alt+enter": {Code: tea.KeyEnter, Mod: tea.ModAlt},
		"^C": {Code: 'c', Mod: tea.ModCtrl}, "^D": {Code: 'd', Mod: tea.ModCtrl}, "^W": {Code: 'w', Mod: tea.ModCtrl},
		"^A": {Code: 'a', Mod: tea.ModCtrl}, "^K": {Code: 'k', Mod: tea.ModCtrl}, "backspace": {Code: tea.KeyBackspace},
		"alt+1": {Code: '1', Mod: tea.ModAlt}, "alt+2": {Code: '2', Mod: tea.ModAlt},
	}
	for _, name := range names {
		if k, ok := named[name]; ok {
			_, cmd = d.s.Update(k)
			d.s.View()
			continue
		}
		for _, r := range name {
			_, cmd = d.s.Update(tea.KeyPressMsg{Code: r, Text: string(r)})
			d.s.View()
		}
	}
	return cmd
}

// sent is what went to the core; it fails if nothing did.
func (d *desk) sent() bot.Message {
	d.t.Helper()
	select {
	case m := <-d.outbox:
		return m
	default:
		d.t.Fatalf("nothing was sent; the screen:\n%s", d.shown())
		return bot.Message{}
	}
}

func (d *desk) silent() {
	d.t.Helper()
	if len(d.outbox) > 0 {
		d.t.Fatalf("%+v was sent", <-d.outbox)
	}
}

func (d *desk) shown() string {
	lines := strings.Split(clean(d.s.View().Content), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimLeft(strings.Join(lines, "\n"), "\n")
}

func (d *desk) has(want string) {
	d.t.Helper()
	if got := d.shown(); !strings.Contains(got, want) {
		d.t.Errorf("the screen lacks %q:\n%s", want, got)
	}
}

func (d *desk) lacks(not string) {
	d.t.Helper()
	if got := d.shown(); strings.Contains(got, not) {
		d.t.Errorf("the screen still has %q:\n%s", not, got)
	}
}

func quits(cmd tea.Cmd) bool {
	if cmd == nil {
		return false
	}
	_, ok := cmd().(tea.QuitMsg)
	return ok
}

var card = bot.Text{
	Body:    "🔴 Cycle devvm? no block I/O for 12 s",
	Choices: []bot.Choice{{ID: "n1", Label: "Cycle devvm", Danger: true}, {ID: "n2", Label: "Cancel"}},
}

// begin opens a thread with a first message.
func (d *desk) begin() bot.Place {
	d.t.Helper()
	d.keys("devvm is frozen", "enter")
	return d.sent().Place
}

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

func TestButtonsByKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 80, 24)
	p := d.begin()
	id := d.says(p, card)
	d.has("[1 Cycle devvm]  [2 Cancel]")

	d.keys("2")
	if m := d.sent(); m.Click != "n2" || m.Card != id || m.Place != p || m.Text != "" {
		t.Errorf("2 sent %+v", m)
	}
	d.keys("1")
	d.silent()
	d.has("── Enter: Cycle devvm · Esc back ──")
	d.keys("esc", "enter")
	d.silent()
	d.keys("1", "enter")
	if m := d.sent(); m.Click != "n1" {
		t.Errorf("1 and Enter sent %+v", m)
	}
	d.keys("it is 1", "alt+1")
	if m := d.sent(); m.Click != "n1" {
		t.Errorf("Alt+1 sent %+v", m)
	}
	d.keys("2", "enter")
	if m := d.sent(); m.Text != "it is 12" {
		t.Errorf("a number in a text sent %+v", m)
	}
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
	d.keys("enter")
	d.silent()
}

func TestTheMousePressesAButtonButAskTwiceForARedOne(t *testing.T) {
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
