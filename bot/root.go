package bot

import (
	"context"
	"fmt"
	"time"

	"bgbot/pve"
)

// rootWait is how long looking waits for its thread; evidence is fleeting, and the chat may be down.
const rootWait = 5 * time.Second

// opened prepares what was asked for outside of all threads: by a command in the channel, or a button on the bot's page.
// What ends with one answer stays there, and only the person sees it. Forensics, changes and talk get a thread of their
// own, since they go on, and the others have to see them. It returns false if there is nothing more to do.
func (b *Bot) opened(m Message, c command) (Message, bool) {
	wait := b.Confirm.TTL // when a card would have expired, nobody waits for it any more
	var what string
	switch {
	case c.kind == model:
		b.answer(m, "Type `model NAME` in the thread that it is for.")
		return m, false
	case c.kind == talk:
		what = "“" + plain(b.label(c.arg), 80) + "”"
	case c.kind == power && c.verb != pve.Status:
		what = "`vm " + string(c.verb) + "`"
	default:
		return m, true
	}
	if !c.verb.Changes() && c.kind == power {
		wait = min(wait, rootWait)
	}
	root, err := b.root(m.Place, fmt.Sprintf("%s asked by %s.", what, plain(m.Name, 40)), wait)
	switch {
	case err == nil:
		if m.onPage() {
			b.start(func() { b.home(m.From, "It goes on in the channel: "+what) })
		}
		m.Place = root
		b.adopt(m.Place, c.kind == talk)
		return m, true
	case c.kind == power && !c.verb.Changes(): // the channel itself is good enough for what changes nothing
		b.Log.Warn("no thread could be opened", "place", m.Place.String(), "err", err)
		return m, true
	}
	b.Log.Error("no thread could be opened", "place", m.Place.String(), "err", err)
	b.record(b.work, m.Place, m.From, string(c.act()), string(c.verb), "no thread", "")
	b.answer(m, "❌ Not done: I could not open a thread for "+what+" within "+span(wait)+". Say it again if you still want it.")
	return m, false
}

// root begins a thread in a channel.
func (b *Bot) root(channel Place, what string, wait time.Duration) (thread Place, err error) {
	ctx, cancel := context.WithTimeout(b.work, wait)
	defer cancel()
	thread = channel
	thread.Thread, err = b.out[channel.Chat].post(ctx, channel, Text{Body: what + " It goes on in this thread."})
	return thread, err
}

// label is how a button says a prompt; any other text is its own.
func (b *Bot) label(text string) string {
	for _, p := range b.Prompts {
		if p.Text == text {
			return p.Label
		}
	}
	return text
}

// onPage says that m is a button on the person's own page: no message carries it.
func (m Message) onPage() bool { return m.Click != "" && m.Card == "" && m.Place.Thread == "" }
