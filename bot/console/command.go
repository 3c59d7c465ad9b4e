package console

import (
	"strconv"
	"strings"

	"bgbot/bot"
)

const plainHelp = `A line is a message. A number alone presses that button of the newest message that has some.
/new [message] begins a new thread, /threads lists them, /threads 2 goes to the second, /quit leaves.
All else goes to bgbot; "help" asks it what it can do.`

// say takes what the person typed and reports whether they want to leave. The caller holds c.mu.
func (c *Console) say(line, help string) (leave bool) {
	line = strings.TrimSpace(clean(line))
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case line == "":
	case line == "/quit":
		return true
	case line == "/help":
		c.tell(note, help)
	case word == "/threads":
		c.showThreads(strings.TrimSpace(rest))
	case line == "/new":
		c.talk.look(0)
		c.tell(note, "The next message begins a new thread.")
	case word == "/new":
		c.talk.look(0)
		c.send(strings.TrimSpace(rest))
	default:
		if n, err := strconv.Atoi(line); err == nil && c.press(n) {
			return false
		}
		c.send(line)
	}
	return false
}

// tell shows a word of the console itself. The caller holds c.mu.
func (c *Console) tell(from author, text string) {
	e := &entry{from: from, text: clean(text), at: c.opt.Now()}
	c.talk.here().add(e)
	if !c.drawing {
		_ = c.printPost(c.talk.here(), e) // whoever reads Out is gone; the next Post says so to the core
	}
	c.changed()
}

func (c *Console) showThreads(arg string) {
	if arg == "" {
		c.tell(note, c.talk.list())
		return
	}
	n, err := strconv.Atoi(arg)
	if err != nil || !c.talk.look(n) {
		c.tell(note, "There is no thread "+arg+". /threads lists them.")
		return
	}
	if !c.drawing {
		c.tell(note, "thread "+arg+": "+c.talk.here().title)
	}
	c.changed()
}

// send says text in the thread that the person looks at, or begins one.
func (c *Console) send(text string) {
	m := bot.Message{ID: c.newID(), Text: text}
	if c.talk.here().id == "" {
		c.talk.begin(m.ID)
		m.Opens = true
	}
	c.give(c.talk.here(), m, text)
}

// press clicks the button with number n, and says whether there ever was one.
func (c *Console) press(n int) bool {
	if n < 1 || n > c.retired+len(c.buttons) {
		return false
	}
	if n > c.retired {
		b := c.buttons[n-c.retired-1]
		if th, e := c.talk.find(b.card); e != nil {
			for _, ch := range e.choices {
				if ch.ID == b.choice {
					c.click(th, e, ch)
					return true
				}
			}
		}
	}
	c.tell(note, "That button is gone, nothing was pressed.")
	return true
}

// click presses a button in its own thread, whichever the person looks at.
func (c *Console) click(th *thread, e *entry, ch bot.Choice) {
	c.give(th, bot.Message{ID: c.newID(), Click: ch.ID, Card: e.id}, "["+ch.Label+"]")
}

// give completes m, shows it as text and puts it on its way to the core.
func (c *Console) give(th *thread, m bot.Message, text string) {
	m.From, m.Name, m.At = c.opt.Person, c.opt.Name, c.opt.Now()
	m.Place = bot.Place{Chat: chatName, Channel: chatName, Thread: th.id}
	if m.Place.Thread == "" { // a button of the channel itself: like other chats, its message begins the thread
		m.Place.Thread = m.Card
	}
	e := &entry{id: m.ID, from: person, text: text, at: m.At}
	th.add(e)
	if !c.drawing && c.opt.Echo {
		_ = c.printPost(th, e) // as in tell
	}
	c.changed()
	select {
	case c.outbox <- m:
		c.pending++
	default:
		c.refuse(m, "bgbot does not keep up")
	}
}

// refuse says that the core did not record m. The caller holds c.mu.
func (c *Console) refuse(m bot.Message, reason string) {
	again := "type it again"
	if m.Click != "" {
		again = "press it again"
	}
	c.tell(alert, "not recorded: "+strings.TrimRight(reason, ".")+", "+again)
}
