package console

import (
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"bgbot/bot"
)

const screenHelp = `Enter sends, Alt+Enter begins a new line, Up and Down bring back what you typed.
A number and Enter press that button, Alt+1 to Alt+9 press at once; Tab goes from button to button, Enter presses, Esc goes back. A red button wants two clicks of the mouse.
PgUp, PgDn, Home, End and the wheel scroll. Hold Shift to mark text, or turn the mouse off with /mouse.
^C stops what bgbot is doing, twice leaves; ^D leaves.
/new [message] begins a new thread, /threads lists them, /threads 2 goes to the second, /quit leaves.
All else goes to bgbot; "help" asks it what it can do.`

// key handles one key press. The caller holds c.mu.
func (s *screen) key(k tea.KeyPressMsg) tea.Cmd {
	name := k.String()
	if name == "ctrl+c" {
		return s.interrupt()
	}
	s.armed = false
	empty := len(s.input.text) == 0
	switch name {
	case "ctrl+d":
		if empty {
			return tea.Quit
		}
	case "ctrl+l":
		return tea.ClearScreen
	case "enter":
		return s.enter()
	case "tab":
		s.move(1)
		return nil
	case "shift+tab":
		s.move(-1)
		return nil
	case "esc":
		s.unpoint()
		s.focus, s.anchor = focus{}, anchor{}
		return nil
	case "pgup":
		s.scroll(max(s.height-2, 1))
		return nil
	case "pgdown":
		s.scroll(-max(s.height-2, 1))
		return nil
	}
	switch {
	case s.focus != (focus{}) && (name == "left" || name == "right"):
		s.move(map[string]int{"left": -1, "right": 1}[name])
		return nil
	case empty && name == "home":
		s.scroll(1 << 20)
		return nil
	case empty && name == "end":
		s.anchor = anchor{}
		return nil
	case s.recall(name), s.number(name):
		return nil
	}
	if s.input.key(k) {
		s.focus = focus{}
		s.point()
	}
	return nil
}

// interrupt is ^C: it stops the bot, or prepares to leave; the second in a row leaves.
func (s *screen) interrupt() tea.Cmd {
	if s.armed {
		return tea.Quit
	}
	s.armed = true
	if s.c.talk.here().working() {
		s.anchor = anchor{}
		s.c.send("stop")
	}
	return nil
}

// enter presses the button that has the focus, or sends what was typed.
func (s *screen) enter() tea.Cmd {
	if e, ch := s.focused(); e != nil {
		s.press(e, ch)
		return nil
	}
	text := s.input.value()
	if s.pointed != "" {
		s.unpoint()
		s.c.tell(alert, "That button is gone, nothing was pressed.")
		return nil
	}
	if strings.TrimSpace(text) == "" {
		return nil
	}
	s.input.set("")
	s.anchor = anchor{}
	if err := s.past.add(text); err != nil {
		s.c.tell(alert, "What you type is not remembered: "+err.Error())
	}
	if strings.TrimSpace(text) == "/mouse" {
		s.mouse = !s.mouse
		s.c.tell(note, map[bool]string{true: "The mouse works.", false: "The mouse is off: mark text as usual."}[s.mouse])
		return nil
	}
	if s.c.say(text, screenHelp) {
		return tea.Quit
	}
	return nil
}

func (s *screen) press(e *entry, ch bot.Choice) {
	s.unpoint()
	s.focus, s.anchor = focus{}, anchor{}
	s.c.click(s.c.talk.here(), e, ch)
}

// number presses at once the button that Alt and a number name.
func (s *screen) number(name string) bool {
	digit, alt := strings.CutPrefix(name, "alt+")
	e, ch := s.numbered(digit)
	if !alt || e == nil {
		return false
	}
	s.press(e, ch)
	return true
}

// point gives the focus to the button whose number stands alone in the input. A number presses nothing before Enter,
// because a message may begin with one: 18:20, 10.0.10.10. What Enter will press is settled here, so that a card that
// comes in between does not take its place.
func (s *screen) point() {
	s.pointed = ""
	if e, ch := s.numbered(s.input.value()); e != nil {
		s.focus, s.anchor, s.pointed = focus{e.id, ch.ID}, anchor{}, s.input.value()
	}
}

// unpoint takes the number away again.
func (s *screen) unpoint() {
	if s.pointed != "" {
		s.input.set("")
		s.pointed = ""
	}
}

// numbered is the button of that number; nil if there is none.
func (s *screen) numbered(digit string) (*entry, bot.Choice) {
	e := s.c.talk.here().offer()
	if e == nil || len(digit) != 1 || digit < "1" || digit > "9" || int(digit[0]-'1') >= len(e.choices) {
		return nil, bot.Choice{}
	}
	return e, e.choices[digit[0]-'1']
}

// recall moves through the input, and beyond its first and last row through what was typed before.
func (s *screen) recall(name string) bool {
	var text string
	var ok bool
	switch name {
	case "up", "ctrl+p":
		if s.input.move(-1, s.inputWidth()) {
			return true
		}
		text, ok = s.past.older(s.input.value())
	case "down", "ctrl+n":
		if s.input.move(1, s.inputWidth()) {
			return true
		}
		text, ok = s.past.newer()
	default:
		return false
	}
	if ok {
		s.focus = focus{}
		s.input.set(text)
		s.point()
	}
	return true
}

// focused is the button that Enter presses.
func (s *screen) focused() (*entry, bot.Choice) {
	for _, e := range s.c.talk.here().entries {
		if e.id != s.focus.card || s.focus == (focus{}) {
			continue
		}
		if i := slices.IndexFunc(e.choices, func(ch bot.Choice) bool { return ch.ID == s.focus.choice }); i >= 0 {
			return e, e.choices[i]
		}
	}
	return nil, bot.Choice{}
}

// unfocusGone goes back to the input when the button is not there any more.
func (s *screen) unfocusGone() {
	if e, _ := s.focused(); e == nil {
		s.focus = focus{}
	}
}

// move takes the focus to the next button: the newest message first, then the input, then around.
func (s *screen) move(by int) {
	s.unpoint()
	stops := []focus{{}}
	owner := []*entry{nil}
	for _, e := range slices.Backward(s.c.talk.here().entries) {
		for _, ch := range e.choices {
			stops = append(stops, focus{e.id, ch.ID})
			owner = append(owner, e)
		}
	}
	at := max(slices.Index(stops, s.focus), 0)
	at = (at + by + len(stops)) % len(stops)
	s.focus, s.anchor = stops[at], anchor{}
	e := owner[at]
	if e == nil || slices.ContainsFunc(s.window(s.height), func(r row) bool { return r.entry == e && len(r.spots) > 0 }) {
		return
	}
	s.anchor = anchor{e, len(s.rows(e)) - 1}
}

func (s *screen) wheel(m tea.Mouse) {
	switch m.Button {
	case tea.MouseWheelUp:
		s.scroll(3)
	case tea.MouseWheelDown:
		s.scroll(-3)
	}
}

// mouseAt presses the button under the pointer; a dangerous one must have been chosen before.
func (s *screen) mouseAt(m tea.Mouse) {
	s.armed = false
	y := m.Y - s.top
	if m.Button != tea.MouseLeft || y < 0 || y >= len(s.rowsAt) {
		return
	}
	r := s.rowsAt[y]
	for _, sp := range r.spots {
		if m.X < sp.from || m.X >= sp.to || sp.choice >= len(r.entry.choices) {
			continue
		}
		ch := r.entry.choices[sp.choice]
		at := focus{r.entry.id, ch.ID}
		if ch.Danger && s.focus != at {
			s.focus = at
			return
		}
		s.press(r.entry, ch)
		return
	}
	s.unpoint()
	s.focus = focus{}
}
