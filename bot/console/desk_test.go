package console

import (
	"path/filepath"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

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
