package bot

import "bgbot/internal/store"

// A session begins with a message that begins a thread, or with a button. A reply is for the agent only where a thread is
// ours: people also talk below what others have posted, and must not set an agent to work by that.

// adopt makes a thread ours: somebody who may act began it, or we did for them. talks says that a turn is about to begin
// there, which keeps the thread by itself.
func (b *Bot) adopt(p Place, talks bool) {
	b.mu.Lock()
	if len(b.adopted) > 1000 {
		clear(b.adopted)
	}
	b.adopted[p] = true
	b.mu.Unlock()
	if !talks {
		b.start(func() { b.thread(p) })
	}
}

// ours says that a reply in this thread is for the agent.
func (b *Bot) ours(p Place) bool {
	b.mu.Lock()
	known := b.begins[p] || b.adopted[p] || b.turns[p] != nil
	b.mu.Unlock()
	if !known {
		_, known = b.Store.Thread(b.work, store.Place(p))
	}
	return known
}

const notOurs = "I do not work in this thread, since it did not begin with a message to me.\nSay it in the channel itself, and I begin there. Verbs such as `vm status` work here too."
