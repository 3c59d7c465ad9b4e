package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bgbot/bot"
)

// author says who an entry is from.
type author int

const (
	theBot author = iota
	person
	note  // the console itself
	alert // the console itself, and it matters
	hello // the greeting; as it is not typed here, it is CommonMark
)

// local says that the console said it, and that no core knows of it.
func (a author) local() bool { return a == note || a == alert || a == hello }

// entry is one message as it stands now.
type entry struct {
	id      string
	from    author
	text    string // no control bytes but newlines
	choices []bot.Choice
	files   []string // one line each: where it was saved, or why it was not
	at      time.Time

	pictures []*picture // of the files, where they are drawn

	shown shown // what plain lines have said of it
	drawn drawn // what the screen has rendered of it
}

func (e *entry) set(t bot.Text) {
	e.text = strings.TrimRight(clean(t.Body), "\n ")
	e.choices = slices.Clone(t.Choices)
	for i := range e.choices {
		e.choices[i].Label = oneLine(e.choices[i].Label)
	}
	e.drawn.stale = true
}

// first is the line that says what state the message is in.
func (e *entry) first() string {
	line, _, _ := strings.Cut(e.text, "\n")
	return line
}

// stop finds the choice that ends what the bot is doing.
func (e *entry) stop() bool {
	return slices.ContainsFunc(e.choices, func(ch bot.Choice) bool { return strings.EqualFold(ch.Label, "Stop") })
}

// ticks says that a clock runs in the message: what only counts in it is no news.
func (e *entry) ticks() bool { return e.stop() || strings.HasPrefix(e.text, "⏳") }

// thread is one conversation. The thread without an id is the channel itself: what is shown before the first message.
type thread struct {
	id      string
	number  int // how the person names it; its own for the whole run
	title   string
	entries []*entry
	unread  int
}

// A console that is lived in for weeks keeps so much in memory; older messages are [bot.Gone].
const (
	maxEntries = 2000 // of a thread
	maxThreads = 100
	maxButtons = 1000
)

func (t *thread) add(e *entry) {
	if t.title == "" && !e.from.local() {
		t.title = e.first()
	}
	if len(t.entries) >= maxEntries {
		t.entries = slices.Delete(t.entries, 0, maxEntries/10)
	}
	t.entries = append(t.entries, e)
}

// offer is the newest message with choices; nil if there is none.
func (t *thread) offer() *entry {
	for _, e := range slices.Backward(t.entries) {
		if len(e.choices) > 0 {
			return e
		}
	}
	return nil
}

// working says that the bot is busy in this thread.
func (t *thread) working() bool { return slices.ContainsFunc(t.entries, (*entry).stop) }

// transcript is all that was said in this run. The zero value is an empty one that shows the channel itself.
type transcript struct {
	threads []*thread // the channel itself is threads[0], the newest is the last
	current *thread
	begun   int // how many there were, also those that were dropped
}

// here is the thread that the person looks at.
func (t *transcript) here() *thread {
	if t.current == nil {
		t.current = &thread{}
		t.threads = []*thread{t.current}
	}
	return t.current
}

// untouched says that no thread is known yet: nobody has said anything since the start.
func (t *transcript) untouched() bool { return t.here().id == "" && len(t.threads) == 1 }

// thread finds a thread, or begins one that an earlier run or the bot itself started.
func (t *transcript) thread(id string) *thread {
	t.here()
	for _, th := range t.threads {
		if th.id == id {
			return th
		}
	}
	t.begun++
	th := &thread{id: id, number: t.begun}
	t.threads = append(t.threads, th)
	t.dropOldest()
	return th
}

// dropOldest forgets the oldest thread if there are too many, but never one that is being looked at or worked in.
func (t *transcript) dropOldest() {
	if len(t.threads) <= maxThreads {
		return
	}
	for i, th := range t.threads[1 : len(t.threads)-1] {
		if th != t.current && !th.working() {
			t.threads = slices.Delete(t.threads, i+1, i+2)
			return
		}
	}
}

// begin starts a thread of the person and looks at it. What the console noted before goes with it, so that the screen
// does not jump.
func (t *transcript) begin(id string) {
	from := t.here()
	th := t.thread(id)
	if from.id == "" {
		isNote := func(e *entry) bool { return e.from.local() }
		for _, e := range from.entries {
			if isNote(e) {
				th.add(e)
			}
		}
		from.entries = slices.DeleteFunc(from.entries, isNote)
	}
	t.current = th
}

// look switches to the thread with this number; 0 is the channel itself.
func (t *transcript) look(n int) bool {
	t.here()
	for _, th := range t.threads {
		if th.number == n {
			t.current, th.unread = th, 0
			return true
		}
	}
	return false
}

// find returns the message that Post called id.
func (t *transcript) find(id string) (*thread, *entry) {
	for _, th := range slices.Backward(t.threads) {
		for _, e := range slices.Backward(th.entries) {
			if e.id == id && e.from == theBot {
				return th, e
			}
		}
	}
	return nil, nil
}

// working says that the bot is busy in some thread.
func (t *transcript) working() bool { return slices.ContainsFunc(t.threads, (*thread).working) }

// notice tells of a post in a thread that the person does not look at.
func (t *thread) notice(e *entry) string {
	if t.number == 0 {
		return "in the channel: " + e.first() + " (/threads 0)"
	}
	return fmt.Sprintf("in thread %d: %s (/threads %d)", t.number, e.first(), t.number)
}

// list is what /threads shows.
func (t *transcript) list() string {
	var b strings.Builder
	b.WriteString("threads, /threads 1 looks at the first:")
	for _, th := range t.threads {
		title := th.title
		switch {
		case th.number == 0 && title == "":
			continue
		case th.number == 0:
			title = "the channel: " + title
		}
		mark := " "
		if th == t.current {
			mark = "*"
		}
		fmt.Fprintf(&b, "\n%s %d  %s", mark, th.number, title)
		if th.unread > 0 {
			fmt.Fprintf(&b, "  (%d new)", th.unread)
		}
	}
	if len(t.threads) == 1 && t.threads[0].title == "" {
		return "There is no thread yet: your first message begins one."
	}
	return b.String()
}
