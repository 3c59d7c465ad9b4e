package bot

import (
	"fmt"
	"strings"

	"bgbot/internal/store"
	"bgbot/pve"
)

// help says what works here, for somebody who has never seen it and has one thumb free.
func (b *Bot) help(m Message) {
	var s strings.Builder
	where := "**I repair %s from this thread.**\nSay what is wrong"
	if m.Place.Thread == "" || !b.ours(m.Place) { // nor does a reply below what others have posted reach the agent
		where = "**I repair %s.**\nSay in the channel what is wrong"
	}
	fmt.Fprintf(&s, where+"; an agent logs in, looks, and mends it. A reply goes on with the same session.\n\n", b.VM.Name)
	s.WriteString("- `stop` ends the running turn, and I look that nothing of it is left\n")
	for _, v := range pve.Verbs() {
		fmt.Fprintf(&s, "- `vm %s`: %s\n", v, v.Explain())
	}
	s.WriteString("- `confirm CODE` or `cancel CODE` answers a card where buttons do not work\n")
	s.WriteString("- `again` runs what reached me too late in this thread\n")
	fmt.Fprintf(&s, "- `model NAME` changes the model of this thread (now %s)\n\n", code(b.threadModel(m.Place), 60))
	fmt.Fprintf(&s, "The verbs go straight to the Proxmox host and need no model. Changes ask first; the question is open for %s. %s\n\n", clock(b.Confirm.TTL), b.Power.explain())
	fmt.Fprintf(&s, "What I cannot do: help when the place where I run is down too, or repair the Proxmox host itself.")
	b.say(m.Place, Text{Body: s.String() + b.trouble(), Choices: b.helpChoices(), Only: m.From.ID})
}

// helpChoices are what somebody wants who was woken: how it is, the cure, then the agent.
func (b *Bot) helpChoices() []Choice {
	return append([]Choice{verbChoice(pve.Status), verbChoice(pve.Cycle)}, b.promptChoices()...)
}

func (b *Bot) promptChoices() []Choice {
	choices := make([]Choice, 0, len(b.Prompts))
	for _, p := range b.Prompts {
		choices = append(choices, Choice{ID: clickPrompt + p.ID, Label: p.Label})
	}
	return choices
}

// explain says what the agent may do with the verbs.
func (p Power) explain() string {
	switch p {
	case Auto:
		return "The agent may use them by itself."
	case Ask:
		return "The agent has to ask you before it changes the power state."
	case ReadOnly:
		return "The agent may only look; it cannot change the power state."
	default:
		return "The agent may not use them."
	}
}

func (b *Bot) threadModel(p Place) string {
	if th, ok := b.Store.Thread(b.work, store.Place(p)); ok {
		return th.Model
	}
	return b.Model
}

// model changes the model of a thread, from the next message on.
func (b *Bot) model(m Message, name string) {
	b.changeThread(m.Place, func(th *store.Thread) { th.Model = name })
	b.record(b.work, m.Place, m.From, "model", name, "set", "")
	b.answer(m, "This thread uses "+code(name, 60)+" from its next turn on. If there is no such model, the agent says so then.")
}
