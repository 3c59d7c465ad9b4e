package bot

import (
	"fmt"
	"strings"
	"time"

	"bgbot/agentrun"
	"bgbot/internal/store"
	"bgbot/pve"
)

// stop ends the turn of a place and proves it.
func (b *Bot) stop(m Message, id string) {
	t := b.turnFor(m.Place, id)
	if t == nil {
		if v := b.under(m.Place); v != "" {
			b.answer(m, "`"+v+"` is under way and is not cut short; half a change is worse than a whole one.\nNo turn of the agent runs here.")
			return
		}
		b.nothingRuns(m, id != "")
		return
	}
	<-t.ready
	stopped := make(chan agentrun.Stopped, 1)
	t.mu.Lock()
	again, ended := t.stopped != nil, t.ended
	if !again && !ended {
		t.stopped, t.stopper = stopped, m.Name
		t.view.trail = "Stopping …"
	}
	t.mu.Unlock()
	switch {
	case ended:
		b.answer(m, "The turn has just ended by itself; nothing was left to stop.")
		return
	case again:
		b.answer(m, "It is being stopped already; the thread hears when nothing of it is left.")
		return
	}
	b.record(b.work, t.place, m.From, "stop", t.id, "asked", "")
	t.end()
	t.live.touch()
	stopped <- t.run.Stop(b.work)
	if m.onPage() {
		b.home(m.From, "")
	}
}

// turnFor is the turn with this ID in the place's channel; without an ID, the turn of the place.
func (b *Bot) turnFor(p Place, id string) *turn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id == "" {
		return b.turns[p]
	}
	for _, t := range b.turns {
		if t.id == id && t.place.Chat == p.Chat && t.place.Channel == p.Channel {
			return t
		}
	}
	return nil
}

// nothingRuns answers a stop for which there is no turn: of a button whose turn is over, or in a thread where none runs. On a
// phone it is soon typed in the wrong one, so it brings the buttons of those that run elsewhere.
func (b *Bot) nothingRuns(m Message, button bool) {
	body := "No turn of the agent runs in this thread"
	if button {
		body = "That turn has ended already"
	}
	if m.onPage() { // which shows all that runs
		b.answer(m, body+".\nTo stop the VM itself, type `vm stop`.")
		return
	}
	lines, stops := b.running(m.Place.Chat)
	if len(lines) == 0 {
		body += "."
	} else {
		body += ". What does run:\n\n- " + strings.Join(lines, "\n- ") + "\n"
	}
	for _, c := range b.Store.OpenConfirmations(b.work, time.Now()) {
		if c.Place == store.Place(m.Place) {
			body += "\nThe open card here is declined with `cancel " + c.Code + "`."
		}
	}
	b.say(m.Place, Text{Body: body + "\nTo stop the VM itself, type `vm stop`.", Choices: stops, Only: m.From.ID})
}

// stopText is the end of a turn that who stopped.
func stopText(s agentrun.Stopped, who string, took time.Duration) (state, text string) {
	if n := len(s.Left); n > 0 {
		state = "⚠️ Not stopped: " + plural(n, "process is", "processes are") + " still alive"
		return state, fmt.Sprintf("%s (%v). I tried for %s; end them on the machine where I run.", state, s.Left, span(s.Took))
	}
	state = "⏹ Stopped after " + clock(took)
	text = "⏹ The agent was stopped by " + plain(who, 40) + ".\n"
	if s.Ended == 0 {
		text += "I looked: nothing of this turn is running."
	} else {
		text += plural(s.Ended, "process of this turn was", "processes of this turn were") + " ended; I looked, none is left."
	}
	if s.Unread > 0 {
		text += "\nThe agent had not read " + plural(s.Unread, "message", "messages") + " that came meanwhile. Say again what still matters."
	}
	if s.Remote {
		text += "\nWhat an ssh had started on the far side may still run there; I cannot look."
	}
	return state, text
}

// goesOn adds to the first line of the end of a turn that a change it has begun has not ended with it.
func goesOn(text string, v pve.Verb) string {
	if !v.Changes() {
		return text
	}
	first, rest, _ := strings.Cut(text, "\n")
	return strings.TrimSuffix(first+" `"+string(v)+"` goes on; its result comes here.\n"+rest, "\n")
}
