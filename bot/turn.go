package bot

import (
	"context"
	"errors"
	"fmt"
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
	done    chan struct{} // the answer is in the chat and the place is free

	mu       sync.Mutex // guards what follows
	view     *view
	speakers []auth.Person     // everybody who wrote to the agent in this turn
	passes   map[pve.Verb]pass // verbs that a person let through
	stopper  string            // who asked to stop
	stopped  chan agentrun.Stopped
	ended    bool              // by itself; what remains is to say so
	told     bool              // that it is
	asking   map[pve.Verb]bool // for whose consent somebody is being asked

	down    string            // the message that says that the model is down; run's own
	telling []<-chan struct{} // ends of what the agent's verbs have to say here

	verdict   string // of the verb that the agent gave to the host last
	verdictOf pve.Verb
}

// talk gives text to the agent: as a new turn, or folded into the one that runs here.
func (b *Bot) talk(m Message, text string, t *turn, fresh bool) {
	for ; ; t, fresh = b.turnAt(m) {
		if fresh {
			b.run(t, m, text)
			return
		}
		<-t.ready
		t.heard(m.From)
		err := t.run.Say(b.work, promptID(m), prompt(m, text))
		switch {
		case err == nil:
			b.record(b.work, m.Place, m.From, "talk", "", "passed on", text)
			if t.waits() {
				b.answer(m, "↪ The agent waits for the open card and reads this after it.")
			}
			return
		case !errors.Is(err, agentrun.ErrOver):
			b.answer(m, "Your message did not reach the agent: "+message(err))
			return
		}
		select {
		case <-t.done: // then a turn of its own
		case <-b.work.Done():
			return
		}
	}
}

// turnAt is the turn of the message's place; fresh means that the caller has to run it.
func (b *Bot) turnAt(m Message) (t *turn, fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.turns[m.Place]; t != nil {
		return t, false
	}
	t = &turn{
		id: uuid.NewString()[:8], place: m.Place, who: m.From, name: m.Name,
		ready: make(chan struct{}), done: make(chan struct{}), passes: map[pve.Verb]pass{}, asking: map[pve.Verb]bool{}, speakers: []auth.Person{m.From},
	}
	t.over, t.end = context.WithCancel(b.cut)
	t.view = newView(t.id, time.Now())
	b.turns[m.Place] = t
	return t, true
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
	t.mu.Lock()
	t.ended = t.stopped == nil
	t.mu.Unlock()
	b.Turning(t.session, false)
	state, answer := b.outcome(t, result, err)
	t.mu.Lock()
	t.view.end(state, result.Text) // the answer is said again below
	t.mu.Unlock()
	answer.Body += t.close()
	b.record(b.work, m.Place, m.From, "turn", t.id, strings.TrimSpace(state), "")
	answer.Body += b.trouble()
	for _, done := range t.results() { // what the answer speaks of
		<-done
	}
	if err == nil && b.out[t.place.Chat].file(b.work, t.place, answer.Files) { // what rings last is the answer
		answer.Files = nil
	}
	done := b.told(t.place, answer)
	b.closeDown(t, result, err)
	if done {
		b.Store.EndTurn(b.work, t.id) // otherwise the next start tells the thread what it could not be told now
	}
}

// crowded is how long a page may wait to be posted before its turn's answer takes its place.
const crowded = 5 * time.Second

// close brings the last state of a turn into the chat. When so many begin at once that its page has not been posted by then,
// the answer takes what was done with it, and one post is enough.
func (t *turn) close() (more string) {
	pages := t.draw()
	if len(pages) > 1 || time.Since(t.view.began) < crowded {
		t.live.close()
		return ""
	}
	if t.live.drop() || len(t.view.items) == 0 { // nobody else adds to it any more
		return ""
	}
	return "\n\n" + pages[0].Body
}

func (b *Bot) release(t *turn) {
	t.end()
	b.mu.Lock()
	delete(b.turns, t.place)
	b.mu.Unlock()
	close(t.done)
}

// thread is the session of a place, a new one for a new place.
func (b *Bot) thread(p Place) store.Thread {
	th, ok := b.Store.Thread(b.work, store.Place(p))
	if !ok {
		th = store.Thread{Place: store.Place(p), Session: uuid.NewString(), Model: b.Model, Opened: time.Now()}
	}
	th.Touched = time.Now()
	b.Store.SaveThread(b.work, th)
	return th
}

// began notes that the session exists. The thread is read anew: its model may have been changed meanwhile.
func (b *Bot) began(p Place) {
	if th, ok := b.Store.Thread(b.work, store.Place(p)); ok {
		th.Started = true
		b.Store.SaveThread(b.work, th)
	}
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
				b.began(t.place)
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

// outcome is the last state of a turn and its last message.
func (b *Bot) outcome(t *turn, r agentrun.Result, err error) (state string, answer Text) {
	t.mu.Lock()
	stopped, stopper, doing, steps := t.stopped, t.stopper, t.view.doing(), t.view.steps
	took, log := time.Since(t.view.began), t.view.transcript()
	t.mu.Unlock()
	switch {
	case stopped != nil:
		state, answer.Body = stopText(<-stopped, stopper, took)
	case errors.Is(err, errRestart):
		state = "⚠️ Cut after " + clock(took) + ": I am shutting down"
		answer.Body = restartText(doing)
		answer.Choices = []Choice{{ID: clickPrompt + continuePrompt, Label: "Continue"}}
	case err != nil:
		state = "❌ Ended after " + clock(took)
		answer.Body = "❌ " + message(err)
		if doing != "" {
			answer.Body += " What ran then: " + code(doing, 200)
		}
		answer.Choices = verbChoices()
		b.Log.Error("turn ended", "place", t.place.String(), "turn", t.id, "err", err)
	case r.Failed:
		state = "❌ Failed after " + clock(took)
		answer.Body = "❌ " + r.Reason
		if r.Model {
			answer.Choices = verbChoices()
		}
	case strings.TrimSpace(r.Text) == "":
		state = "☑ Ended after " + clock(took)
		answer.Body = "☑ The agent ended without an answer; what it did is above."
	default:
		state = fmt.Sprintf("☑ Ended after %s · %s", clock(took), plural(steps, "command", "commands"))
		answer.Body = agentMark(r.Text)
	}
	if log != "" {
		answer.Files = []File{{Name: "commands-" + t.id + ".txt", Type: "text/plain", Data: []byte(log)}}
	}
	return state, answer
}

// agentMark tells the agent's words from the bot's own: no state of the bot begins like that. Where a mark in front would
// spoil the markup, it stands on a line of its own.
func agentMark(text string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "**") || !strings.ContainsAny(text[:1], "#>-+*|`~0123456789") {
		return "🤖 " + text
	}
	return "🤖\n\n" + text
}

// noticed says what a notice is about where it is no passing one.
func (b *Bot) noticed(t *turn, n agentrun.Notice) {
	if n.Alarm {
		b.say(t.place, Text{Body: "🚨 Somebody changed who may read a file of mine" + lines(n.Text)})
		return
	}
	b.modelDown(t, n)
}

// modelDown says once a turn, at the first sign, that the model does not answer and what still works.
func (b *Bot) modelDown(t *turn, n agentrun.Notice) {
	t.mu.Lock()
	first := n.Model && !t.told
	t.told = t.told || n.Model
	t.mu.Unlock()
	if first {
		t.down = b.say(t.place, Text{Body: "🟠 " + n.Text, Choices: verbChoices(), Quiet: true}) // the failure, if it comes to that, is the push
	}
}

// closeDown makes true again what modelDown has said.
func (b *Bot) closeDown(t *turn, r agentrun.Result, err error) {
	if t.down == "" {
		return
	}
	text := "☑ The model did not answer for a while; it did again."
	if err != nil || r.Failed {
		text = "☑ The model did not answer; how that ended is said below. The verbs work without it: `vm status`."
	}
	if err := b.out[t.place.Chat].settle(b.work, t.place, t.down, Text{Body: text}); err != nil && !gone(err) {
		b.Log.Warn("a message still says that the model is down", "place", t.place.String(), "err", err)
	}
}

// heard notes who speaks: a confirmation by a second person is not one by somebody who asked.
func (t *turn) heard(who auth.Person) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.speakers, who) {
		t.speakers = append(t.speakers, who)
	}
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
