package bot

import (
	"context"
	"strings"
	"time"

	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

const continuePrompt = "continue"

const continueText = "You were cut off by a restart. First look what the command that ran then has done, then go on."

func restartText(doing string) string {
	text := "⚠️ I am shutting down; the answer was cut.\nThe session is kept: your next message goes on with it."
	if doing != "" {
		text = "⚠️ I am shutting down while " + code(doing, 60) + " ran; its result is unknown.\nThe session is kept: your next message goes on with it."
	}
	return text
}

// takeOver tells what the end of the last process cut, and takes over what is still open. What was open is read before
// anybody new is let in; telling it holds up nobody.
func (b *Bot) takeOver() {
	turns, operations := b.Store.OpenTurns(b.work), b.Store.OpenOperations(b.work)
	for _, c := range b.Store.OpenConfirmations(b.work, time.Time{}) { // those that expired meanwhile lose their buttons at once
		b.await(b.work, c, false)
	}
	ctx, cancel := context.WithTimeout(b.work, 5*time.Second)
	defer cancel()
	n, err := b.Runner.Sweep(ctx) // before the first turn, whose own processes it would meet
	if err != nil {
		b.Log.ErrorContext(ctx, "sweep of a former process", "err", err)
	} else if n > 0 {
		b.Log.WarnContext(ctx, "ended processes of a former bgbot", "count", n)
	}
	b.start(func() {
		for _, cut := range byPlace(turns) { // a thread that the chat refuses holds up no other
			b.start(func() { b.tellCut(cut, err == nil) })
		}
		for _, o := range operations {
			b.start(func() { b.cutOperation(o) }) // the host may still be at it
		}
		if open := b.Store.OpenConfirmations(b.work, time.Now()); len(open) > 0 {
			b.showAllAgain(open)
		}
	})
}

// byPlace are the turns of each place, in their order.
func byPlace(turns []store.Turn) map[store.Place][]store.Turn {
	places := map[store.Place][]store.Turn{}
	for _, t := range turns {
		places[t.Place] = append(places[t.Place], t)
	}
	return places
}

// tellCut tells a thread of its turns that were cut, and once of all replies there that had not come to one.
func (b *Bot) tellCut(turns []store.Turn, swept bool) {
	var early []string
	for _, t := range turns {
		if strings.HasPrefix(t.ID, earlyID) {
			early = append(early, t.ID)
			continue
		}
		b.cutTurn(t, swept)
	}
	b.cutEarly(Place(turns[0].Place), early, cutBefore)
}

// cutTurn closes a turn that a restart cut: its live message loses the Stop button, and the thread hears what is unknown.
func (b *Bot) cutTurn(t store.Turn, swept bool) {
	p := Place(t.Place)
	out := b.out[p.Chat]
	if out == nil { // a chat that is not configured any more; another start may have it
		return
	}
	state, text := "⚠️ Cut by a restart; no command was running", "⚠️ I was restarted at "+time.Now().Format("15:04")
	if t.Doing == "" {
		text += " and the answer was cut. No command was running.\n"
	} else {
		ran := code(t.Doing, 200)
		state = "⚠️ Cut by a restart while " + ran + " ran"
		text += " while " + ran + " ran; what came of it is unknown. "
	}
	if t.Live != "" {
		if _, did, ok := strings.Cut(t.Shown, "\n\n"); ok { // what the agent had said and done stays
			state += "\n\n" + did
		}
		if err := out.settle(b.work, p, t.Live, Text{Body: state}); err != nil && !gone(err) {
			b.Log.Error("a cut message keeps its Stop button", "place", p.String(), "err", err)
		}
	}
	if swept && t.Doing != "" {
		text += "I looked: no process of that turn is left where I run. "
	}
	text += "The session is kept: your next message goes on with it."
	b.record(b.work, p, auth.Person{}, "restart", t.ID, "turn cut", t.Doing)
	if b.told(p, Text{Body: text + b.trouble(), Choices: []Choice{{ID: clickPrompt + continuePrompt, Label: "Continue"}}}) {
		b.Store.EndTurn(b.work, t.ID)
	}
}

// showAllAgain brings the cards that are still open back into sight, and completes them when the host has answered.
func (b *Bot) showAllAgain(open []store.Confirmation) {
	news := b.inquire()
	f, known := b.factsSoon(news)
	for i := range open {
		b.showAgain(&open[i], f)
	}
	if known {
		return
	}
	f = b.orBefore(<-news)
	for i := range open {
		if now, err := b.Store.Confirmation(b.work, open[i].Nonce); err == nil && now.Outcome == "" {
			b.showAgain(&open[i], f)
		}
	}
}

// showAgain shows a card anew: its buttons work as before, whoever had asked.
func (b *Bot) showAgain(c *store.Confirmation, f facts) {
	p, out := Place(c.Place), b.out[c.Place.Chat]
	if out == nil {
		return
	}
	t := Text{Body: b.question(pve.Verb(c.Verb), f), Choices: b.cardChoices(*c, f)}
	if c.Verb == string(hostKeyVerb) {
		t = b.keyCard(*c)
	}
	t.Body += "\n\nStill open after my restart. " + b.ruleFor(pve.Verb(c.Verb), b.called(c.Requester)) + "\n" + orType(*c)
	if err := out.settle(b.work, p, c.Card, t); gone(err) {
		c.Card = b.say(p, t)
		b.Store.SetCard(b.work, c.Nonce, c.Card)
	}
	b.closeAnswered(*c) // meanwhile
}
