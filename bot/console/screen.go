package console

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

// screen is the full screen. The program's loop alone uses it; what it shows of the Console it reads under c.mu.
type screen struct {
	c     *Console
	md    markdown
	input input
	past  *history

	width  int // columns
	height int // rows of the transcript
	anchor anchor
	focus  focus
	rowsAt []row // what stands where, for the mouse
	top    int   // the screen row of rowsAt[0]

	pointed string // the number that gave the focus; "" if Tab or the mouse did
	armed   bool   // the next ^C leaves
	mouse   bool
	touched time.Time // the last key
	rung    int       // how many pushes the person was told of
	full    tea.WindowSizeMsg
	drawn   tea.View
}

// focus is the button that Enter presses; the zero focus is the input.
type focus struct{ card, choice string }

// update says that the transcript changed.
type update struct{}

// away is how long the keys must rest before a push rings the bell: who types sees it anyway.
const away = 10 * time.Second

func (c *Console) newScreen(past *history) *screen {
	return &screen{c: c, past: past, mouse: true, touched: c.opt.Now(), drawn: tea.View{AltScreen: true}}
}

// runScreen draws until the person leaves or ctx is done. What stood on the screen is then printed as plain lines, and
// so is what the bot says later.
func (c *Console) runScreen(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	past, err := openHistory(c.opt.History)
	c.mu.Lock()
	c.drawing = true
	if err != nil {
		c.tell(alert, "What you type is not remembered: "+err.Error())
	}
	c.mu.Unlock()
	p := tea.NewProgram(c.newScreen(past), tea.WithInput(c.opt.In), tea.WithOutput(c.opt.Out),
		tea.WithEnvironment(c.environ()), tea.WithoutSignalHandler(), tea.WithFPS(30))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				p.Quit()
				return
			case <-c.wake:
				p.Send(update{})
			}
		}
	})
	_, err = p.Run()
	cause := context.Cause(ctx)
	stop()
	wg.Wait()
	c.leaveScreen()
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	return cause
}

// environ is never nil, or the program would read the process's own.
func (c *Console) environ() []string { return append([]string{}, c.opt.Environ...) }

// lastWords is how many messages are printed when the screen is left.
const lastWords = 50

func (c *Console) leaveScreen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drawing = false
	entries := c.talk.here().entries
	for _, e := range entries[max(0, len(entries)-lastWords):] {
		if !e.from.local() {
			_ = c.printPost(c.talk.here(), e) // a terminal that is gone is told by the next Post
		}
	}
}

func (s *screen) Init() tea.Cmd { return nil }

// Update takes a key, a click, a new size or a change of the transcript.
func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.full, s.width = msg, msg.Width
	case update:
		return s, s.ring()
	case tea.KeyPressMsg:
		s.touched = s.c.opt.Now()
		return s, s.key(msg)
	case tea.MouseClickMsg:
		s.touched = s.c.opt.Now()
		s.mouseAt(msg.Mouse())
	case tea.MouseWheelMsg:
		s.wheel(msg.Mouse())
	case tea.PasteMsg:
		s.focus, s.armed = focus{}, false
		s.input.insert(msg.Content)
		s.point()
	}
	return s, nil
}

// ring sounds the bell for a push while the person does something else: on a phone that is the notification.
func (s *screen) ring() tea.Cmd {
	told := s.rung
	s.rung = s.c.posts
	if s.c.posts > told && s.c.opt.Now().Sub(s.touched) > away {
		return tea.Raw("\a")
	}
	return nil
}

// View is what is to be seen now. While the terminal takes nothing that stays as it is: once it does, it is given the newest.
func (s *screen) View() tea.View {
	if !s.c.stuck() {
		s.drawn = s.view()
	}
	return s.drawn
}

// view is the title, the transcript, a rule with the hint of the moment, and the input.
func (s *screen) view() tea.View {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.width == 0 {
		return tea.View{AltScreen: true}
	}
	s.unfocusGone()
	header := 0
	if s.full.Height >= 16 && s.c.opt.Title != "" {
		header = 1
	}
	typed, x, y := s.input.view(s.inputWidth(), s.inputRows())
	s.height = max(s.full.Height-header-1-len(typed), 1)
	s.rowsAt = s.window(s.height)
	lines := make([]string, 0, s.full.Height)
	state := s.state()
	switch {
	case header == 1 && state != "":
		lines = append(lines, state)
	case header == 1:
		lines = append(lines, s.header())
	case state != "" && len(s.rowsAt) > 1:
		s.rowsAt[0] = row{text: state}
	}
	for range s.height - len(s.rowsAt) {
		lines = append(lines, "")
	}
	s.top = len(lines)
	for _, r := range s.rowsAt {
		lines = append(lines, r.text)
	}
	lines = append(lines, s.rule())
	y += len(lines)
	for i, line := range typed {
		lines = append(lines, map[bool]string{true: mine.Render("› "), false: "  "}[i == 0]+line)
	}
	if len(s.input.text) == 0 {
		lines[len(lines)-1] += faint.Render(cut(placeholder, s.inputWidth()))
	}
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen, v.WindowTitle = true, oneLine(s.c.opt.Title)
	if s.mouse {
		v.MouseMode = tea.MouseModeCellMotion
	}
	if s.focus == (focus{}) || s.pointed != "" {
		v.Cursor = tea.NewCursor(x+2, y)
		v.Cursor.Blink = false
	}
	return v
}

const placeholder = "Say what is wrong, or /help"

// inputRows keeps a row of the transcript and the rule on the smallest screen.
func (s *screen) inputRows() int { return max(1, min(maxInputRows, s.full.Height-2)) }

// inputWidth is the columns of the input beside its mark.
func (s *screen) inputWidth() int { return max(s.width-3, 1) }

// state is the first line of the message that is being worked on, when it has grown out of the window; else "". On a
// phone that is soon, and the state is what one looks for.
func (s *screen) state() string {
	entries := s.c.talk.here().entries
	for _, e := range slices.Backward(entries) {
		if !e.stop() {
			continue
		}
		if slices.ContainsFunc(s.rowsAt, func(r row) bool { return r.entry == e && r.line == 0 }) {
			return ""
		}
		return bold.Render(cut(strings.NewReplacer("`", "", "**", "").Replace(e.plain()[0]), s.width))
	}
	return ""
}

func (s *screen) header() string {
	title := cut(oneLine(s.c.opt.Title), s.width)
	where := ""
	if n := s.c.talk.here().number; n > 0 && s.c.talk.begun > 1 {
		where = fmt.Sprintf("thread %d of %d", n, s.c.talk.begun)
	}
	room := s.width - lipgloss.Width(title) - lipgloss.Width(where)
	if room < 2 {
		return bold.Render(title)
	}
	return bold.Render(title) + strings.Repeat(" ", room) + faint.Render(where)
}

// rule parts the transcript from the input and says what can be done now.
func (s *screen) rule() string {
	hint := s.hint()
	if unread := s.unread(); unread != "" {
		hint += " · " + unread
	}
	text := cut("── "+hint+" ", s.width)
	return faint.Render(text + strings.Repeat("─", max(s.width-lipgloss.Width(text), 0)))
}

func (s *screen) hint() string {
	here := s.c.talk.here()
	offer := here.offer()
	switch {
	case s.armed:
		return "press ^C again to leave"
	case s.focus != (focus{}):
		_, ch := s.focused()
		return "Enter: " + ch.Label + " · Esc back"
	case s.anchor.entry != nil:
		return "↓ more below · End"
	case offer != nil && here.working() && len(offer.choices) == 1:
		return "^C stops · /help"
	case offer != nil && len(offer.choices) > 1:
		return fmt.Sprintf("1-%d then Enter · /help", min(len(offer.choices), 9))
	default:
		return "/help"
	}
}

func (s *screen) unread() string {
	n := 0
	for _, th := range s.c.talk.threads {
		n += th.unread
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d new in /threads", n)
}
