package bot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// turn is one prompt until its result. A place has at most one.
type turn struct {
	id      string
	place   Place
	who     auth.Person
	name    string // of who, for display
	session string
	said    string // what it began with
	run     *agentrun.Turn
	live    *live
	ready   chan struct{}   // run and live are set
	over    context.Context // ends when the turn does or somebody stops it
	end     context.CancelFunc
	done    chan struct{}   // the answer is in the chat and the place is free
	last    <-chan struct{} // closed when all that was said into it so far has reached the agent; guarded by Bot.mu

	mu       sync.Mutex // guards what follows
	view     *view
	speakers []auth.Person     // everybody who wrote to the agent in this turn
	passes   map[pve.Verb]pass // verbs that a person let through
	stopper  string            // who asked to stop
	stopped  chan agentrun.Stopped
	ended    bool              // by itself; what remains is to say so
	told     bool              // that it is
	asking   map[pve.Verb]bool // for whose consent somebody is being asked
	denials  map[denial]int    // how often the agent heard each at the host

	down    string            // the message that says that the model is down; run's own
	telling []<-chan struct{} // ends of what the agent's verbs have to say here

	verdict   string // of the verb that the agent gave to the host last
	verdictOf pve.Verb
}

// talk gives text to the agent: as a new turn, or folded into the one that runs here.
func (b *Bot) talk(m Message, text string, s seat) {
	if m.Files > 0 {
		text += "\n[" + plural(m.Files, "file came", "files came") + " with this, which you are not given.]"
	}
	words := s.words
	for !s.fresh {
		<-s.after
		s.heard(append(words, m.From)...)
		s.received(true) // before it is said: the agent may take it up at once
		err := s.run.Say(b.work, promptID(m), prompt(m, text))
		if !errors.Is(err, agentrun.ErrOver) {
			if err == nil {
				s.unread(m)
				s.live.touch()
			}
			close(s.in)
			b.passedOn(m, text, s.turn, err)
			return
		}
		s.received(false)
		select {
		case <-s.done: // then a turn of its own
		case <-b.work.Done():
			close(s.in)
			return
		}
		next := b.turnAt(m)
		close(s.in)
		s = next
	}
	s.heard(words...) // also where the text came too late for the turn it was meant for
	s.unread(m)
	b.run(s.turn, m, text)
}

// unread says in the turn that what came with a message is not looked at.
func (t *turn) unread(m Message) {
	if m.Files > 0 {
		t.note("📎 I read words only, and have not seen " + plural(m.Files, "file", "files") + " that came with them")
	}
}

// passedOn tells what became of a text that was folded into a turn.
func (b *Bot) passedOn(m Message, text string, t *turn, err error) {
	if err != nil {
		b.answer(m, "Your message did not reach the agent: "+message(err))
		return
	}
	b.record(b.work, m.Place, m.From, "talk", "", "passed on", text)
	if t.waits() {
		b.answer(m, b.afterCard(m.Place))
	}
}

// afterCard tells somebody that the agent waits for a card, and how to answer it: they may think that they just did.
func (b *Bot) afterCard(p Place) string {
	text := "↪ The agent waits for the open card and reads this after it."
	for _, c := range b.Store.OpenConfirmations(b.work, time.Now()) {
		if c.Place == store.Place(p) && c.Origin == "agent" {
			return text + "\nThe card is answered by its buttons, `confirm " + c.Code + "` or `cancel " + c.Code + "`."
		}
	}
	return text
}

// seat is where a text comes into a turn: after those that came before it. Whoever has one must give it to talk.
type seat struct {
	*turn
	fresh bool            // the turn begins with it
	words []auth.Person   // whose words the text has besides those of who sent it
	after <-chan struct{} // closed when its time has come; nil if fresh
	in    chan struct{}   // to close when it has reached the agent, or never will
}

// turnAt is a seat in the turn of the message's place.
func (b *Bot) turnAt(m Message) seat {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.turns[m.Place]; t != nil {
		s := seat{turn: t, after: t.last, in: make(chan struct{})}
		t.last = s.in
		return s
	}
	t := &turn{
		id: uuid.NewString()[:8], place: m.Place, who: m.From, name: m.Name,
		ready: make(chan struct{}), done: make(chan struct{}), passes: map[pve.Verb]pass{}, asking: map[pve.Verb]bool{}, denials: map[denial]int{}, speakers: []auth.Person{m.From},
	}
	t.last = t.ready
	t.over, t.end = context.WithCancel(b.cut)
	t.view = newView(t.id, time.Now())
	b.turns[m.Place] = t
	return seat{turn: t, fresh: true}
}

// prompt puts the person's name before the text: several people share a thread, and nothing that a person types then
// begins with a character that the CLI might act on.
func prompt(m Message, text string) string {
	name := oneLine(m.Name)
	if name == "" {
		name = m.From.ID
	}
	return "[" + strings.Map(func(r rune) rune {
		if r == '[' || r == ']' {
			return -1
		}
		return r
	}, cut(name, 40)) + "]: " + text
}

// run is a turn from its first message to its answer.
func (b *Bot) run(t *turn, m Message, text string) {
	posted := make(chan struct{}, 1)
	attended := b.out[t.place.Chat].attend(t.over, t.place, posted)
	defer func() { <-attended }()
	defer b.release(t)
	thread := b.thread(m.Place)
	b.mu.Lock()
	t.session, t.said = thread.Session, text // turnOf and running read them, of any turn
	b.mu.Unlock()
	b.record(b.work, m.Place, m.From, "talk", t.id, "started", text)
	b.Store.BeginTurn(b.work, store.Turn{
		ID: t.id, Place: store.Place(t.place), Message: m.ID, Actor: t.who.String(), Prompt: cut(b.safe(text), 2000), Began: time.Now(),
	})
	b.Turning(t.session, true)
	t.run = b.Runner.Start(b.cut, agentrun.Prompt{
		Session: thread.Session, Resume: thread.Started, Model: thread.Model, ID: promptID(m), Text: prompt(m, text),
	}, func(ctx context.Context, q agentrun.Question) agentrun.Answer { return b.permit(ctx, t, q) })
	t.live = b.out[t.place.Chat].show(b.work, t.place, 0, t.draw, func(id string) {
		b.keepTurn(t, id) // the page with the Stop button
		select {
		case posted <- struct{}{}:
		default:
		}
	})
	close(t.ready)

	result, err := b.follow(t, thread)
	t.end()
	b.finish(t, result, err)
}

func (b *Bot) release(t *turn) {
	t.end()
	b.mu.Lock()
	delete(b.turns, t.place)
	b.mu.Unlock()
	close(t.done)
	b.recordDenials(t)
}

// thread is the session of a place, a new one for a new place.
func (b *Bot) thread(p Place) store.Thread {
	return b.changeThread(p, func(*store.Thread) {})
}

// changeThread changes the session of a place, a new one for a new place, as one step: several people share it.
func (b *Bot) changeThread(p Place, change func(*store.Thread)) store.Thread {
	return b.Store.ChangeThread(b.work, store.Place(p), func(th *store.Thread) {
		if th.Session == "" {
			th.Session, th.Model, th.Opened = uuid.NewString(), b.Model, time.Now()
		}
		th.Touched = time.Now()
		change(th)
	})
}

// promptID is a message's id among all places; the agent never runs the same one twice.
func promptID(m Message) string { return m.Place.String() + "/" + m.ID }

// follow shows the events of a turn until it ends.
func (b *Bot) follow(t *turn, thread store.Thread) (result agentrun.Result, err error) {
	for e, ended := range t.run.Events() {
		if ended != nil {
			return result, ended
		}
		e = b.masked(e)
		t.mu.Lock()
		t.view.add(e, time.Now())
		if r, ok := e.(agentrun.ToolResult); ok && t.verdict != "" {
			t.view.verdict(r.ID, t.verdictOf, t.verdict)
			t.verdict = "" // of a verb that no command names it would be shown beside another command
		}
		steps := t.view.steps
		t.mu.Unlock()
		switch e := e.(type) {
		case agentrun.Started:
			if thread.Started && !e.Resumed {
				t.note("the earlier session of this thread is gone; the agent begins anew and does not remember it")
			}
			if !thread.Started {
				b.changeThread(t.place, func(th *store.Thread) { th.Session, th.Started = thread.Session, true })
			}
		case agentrun.Tool:
			b.Log.Info("tool", "place", t.place.String(), "turn", t.id, "step", steps, "tool", e.Name)
			b.keepTurn(t, "")
		case agentrun.ToolResult:
			t.dropPasses(e.ID)
			b.keepTurn(t, "")
		case agentrun.Notice:
			b.noticed(t, e)
		case agentrun.Result:
			result = e
		case agentrun.Text, agentrun.Waiting, agentrun.Folded:
		}
		t.live.touch()
	}
	return result, nil
}

// masked hides secrets in what the agent said and saw, before anything is cut or escaped: half a secret, or one with
// backslashes in it, would pass the mask of the delivery.
func (b *Bot) masked(e agentrun.Event) agentrun.Event {
	switch e := e.(type) {
	case agentrun.Text:
		e.Text = b.safe(e.Text)
		return e
	case agentrun.Tool:
		e.Input, e.Purpose = b.safe(e.Input), b.safe(e.Purpose)
		return e
	case agentrun.ToolResult:
		e.Output = b.safe(e.Output)
		return e
	case agentrun.Result:
		e.Text, e.Reason = b.safe(e.Text), b.safe(e.Reason)
		return e
	case agentrun.Notice:
		e.Text = b.safe(e.Text)
		return e
	case agentrun.Started, agentrun.Waiting, agentrun.Folded:
	}
	return e
}

// heard notes who speaks: a confirmation by a second person is not one by somebody who asked.
func (t *turn) heard(people ...auth.Person) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, who := range people {
		if !slices.Contains(t.speakers, who) {
			t.speakers = append(t.speakers, who)
		}
	}
}

const receivedText = "↪ Received. The agent reads it at its next step; `stop` ends the turn."

// received shows that a message is on its way, or that it was too late for this turn: a command that runs may keep the agent
// from reading it for minutes.
func (t *turn) received(is bool) {
	t.mu.Lock()
	switch {
	case is && t.stopped == nil:
		t.view.trail = receivedText
	case !is && t.view.trail == receivedText:
		t.view.trail = ""
	}
	t.mu.Unlock()
	t.live.touch()
}

// waits says that somebody is being asked for consent, without which the agent reads nothing.
func (t *turn) waits() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.asking) > 0
}

func (t *turn) results() []<-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.telling)
}

func (t *turn) draw() []Text {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.view.pages(time.Now())
}

// keepTurn records what runs and what the last page shows, and which message that is unless that is known; a restart
// tells by it what it has cut.
func (b *Bot) keepTurn(t *turn, live string) {
	t.mu.Lock()
	pages := t.view.pages(time.Now())
	doing, shown := t.view.doing(), pages[len(pages)-1].Body
	t.mu.Unlock()
	b.Store.UpdateTurn(b.work, t.id, live, doing, shown)
}

func (t *turn) doing() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.view.doing()
}

func (t *turn) note(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.note(s)
}
