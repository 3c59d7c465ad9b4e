package bot

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"bgbot/agentrun"
	"bgbot/pve"
)

// finish ends a turn in the chat: its pages, then what the answer speaks of, then the answer.
func (b *Bot) finish(t *turn, result agentrun.Result, err error) {
	t.mu.Lock()
	t.ended = t.stopped == nil
	t.mu.Unlock()
	b.Turning(t.session, false)
	state, answer := b.outcome(t, result, err)
	t.mu.Lock()
	t.view.end(state, result.Text) // the answer is said again below
	t.mu.Unlock()
	answer.Body += t.close()
	b.record(b.work, t.place, t.who, "turn", t.id, strings.TrimSpace(state), "")
	answer.Body += b.trouble()
	for _, done := range t.results() { // what the answer speaks of
		<-done
	}
	if err == nil && b.out[t.place.Chat].file(b.work, t.place, answer.Files) { // what rings last is the answer
		answer.Files = nil
	}
	if t.stopped != nil {
		answer.Body = goesOn(answer.Body, pve.Verb(b.under(t.place))) // as it is now: all that comes before took its time
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
	t.mu.Lock()
	pages, bare := t.view.pages(time.Now()), len(t.view.items) == 0
	t.mu.Unlock()
	if len(pages) > 1 || time.Since(t.view.began) < crowded {
		t.live.close()
		return ""
	}
	if t.live.drop() || bare {
		return ""
	}
	return "\n\n" + pages[0].Body
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
		if err == nil && !r.Failed && strings.TrimSpace(r.Text) != "" { // it had ended by itself, and is taken off the page
			answer.Body += "\nIt had just answered:\n\n" + agentMark(r.Text)
		}
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
	text := "☑ The model did not answer; how that ended is said below. The verbs work without it: `vm status`."
	if err == nil && !r.Failed && r.Text != "" { // and was not stopped before it could
		text = "☑ The model did not answer for a while; it did again."
	}
	if err := b.out[t.place.Chat].settle(b.work, t.place, t.down, Text{Body: text}); err != nil && !gone(err) {
		b.Log.Warn("a message still says that the model is down", "place", t.place.String(), "err", err)
	}
}
