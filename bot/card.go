package bot

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// code is a short code that no other open card of the channel has. Letters that look alike are left out.
func (b *Bot) code(p Place) string {
	const letters = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
	for {
		var raw [4]byte
		_, _ = rand.Read(raw[:]) // never fails since Go 1.24
		for i := range raw {
			raw[i] = letters[int(raw[i])%len(letters)]
		}
		raw[raw[1]%4] = letters[int(raw[0])%8] // a digit somewhere
		if _, err := b.Store.ConfirmationByCode(b.work, p.Chat, p.Channel, string(raw[:])); err != nil {
			return string(raw[:])
		}
	}
}

// card shows the facts that a person decides on.
func (b *Bot) card(r request, c store.Confirmation, f facts) Text {
	who := plain(r.name, 40)
	if r.session != "" {
		who = "the agent, working for " + who
	}
	body := b.question(r.verb, f) + fmt.Sprintf("\n\nAsked by %s. %s\n%s", who, b.rule(r), orType(c))
	return Text{Body: body, Choices: b.cardChoices(c, f)}
}

// orType ends a card, for whom the buttons fail.
func orType(c store.Confirmation) string {
	return fmt.Sprintf("Or type: `confirm %s` · `cancel %s` · open until %s", c.Code, c.Code, c.Expires.Local().Format("15:04:05"))
}

// question is the head of a card: the state, then below an empty line what the host has against the verb, and what the
// verb does.
func (b *Bot) question(v pve.Verb, f facts) string {
	body := "🔴 " + b.title(v) + "? "
	line, whole := f.onCard(lockScreen - runes(body))
	rest := append(f.warning(v, whole), fmt.Sprintf("A %s %s.", v, v.Explain()))
	if f.LastOp != "" {
		rest = append(rest, "Last: "+plain(unticked(f.LastOp), 200))
	}
	return body + plain(line, lockScreen) + "\n\n" + strings.Join(rest, "\n")
}

func (b *Bot) rule(r request) string { return b.ruleFor(r.verb, plain(r.name, 40)) }

// ruleFor says who may confirm what who asked for.
func (b *Bot) ruleFor(v pve.Verb, who string) string {
	switch b.Confirm.by(v) {
	case auth.Other:
		return "A second person has to confirm."
	case auth.Any:
		return "Anybody on the allowlist may confirm."
	case auth.Requester:
	}
	return "Only " + who + " may confirm."
}

// title is the verb as a button says it: "Cycle devvm".
func (b *Bot) title(v pve.Verb) string {
	if v == hostKeyVerb {
		return "Accept the new host key of " + b.VM.Name
	}
	return capital(string(v)) + " " + b.VM.Name
}

// again is what a person types to get such a card once more.
func again(v pve.Verb) string {
	if v == hostKeyVerb {
		return "vm status"
	}
	return "vm " + string(v)
}

// meant answers a bare "yes", or a text around the code of an open card, while a card is open. It is not taken for an answer to
// that: it may have been meant for something else, and a card wants its code behind one of two words. A code that is named
// decides which card that is, in any thread of the channel, as behind "confirm".
func (b *Bot) meant(m Message, c command) (said string) {
	if c.kind != talk {
		return ""
	}
	words := strings.FieldsFunc(strings.ToLower(c.arg), func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(",.:!`", r) })
	var here []store.Confirmation
	for _, open := range b.Store.OpenConfirmations(b.work, time.Now()) {
		if open.Place.Chat != m.Place.Chat || open.Place.Channel != m.Place.Channel {
			continue
		}
		if len(words) <= 4 && slices.Contains(words, strings.ToLower(open.Code)) {
			return b.answerable(open)
		}
		if open.Place == store.Place(m.Place) {
			here = append(here, open)
		}
	}
	if len(here) == 0 || !bareAnswer(words) {
		return ""
	}
	return b.answerable(here...)
}

// answerable says how each of these open cards is answered.
func (b *Bot) answerable(cards ...store.Confirmation) string {
	if len(cards) == 1 {
		return "A card is open. To answer it, type " + eitherWay(cards[0]) + ". Nothing was done, and nothing was passed on."
	}
	said := []string{fmt.Sprintf("%d cards are open here. Nothing was done, and nothing was passed on. To answer one, type:", len(cards))}
	for _, c := range cards {
		said = append(said, b.title(pve.Verb(c.Verb))+": "+eitherWay(c))
	}
	return strings.Join(said, "\n")
}

// eitherWay is what is typed to answer a card.
func eitherWay(c store.Confirmation) string {
	return "`confirm " + c.Code + "` or `cancel " + c.Code + "`"
}

// yesOrNo are the words of a bare answer.
var yesOrNo = strings.Fields("yes y yep yeah ok okay sure do it go ahead now please pls approve approved confirmed no n nope don't not thanks")

// bareAnswer says that the words are a yes or a no and nothing else.
func bareAnswer(words []string) bool {
	said := strings.Join(words, " ")
	switch {
	case len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return !slices.Contains(yesOrNo, w) }): // "ok, go ahead"
		return true
	case len(words) == 1 && strings.HasPrefix(said, "👍"), len(words) == 1 && strings.HasPrefix(said, "👎"):
		return true
	case said == "+1", said == "-1", strings.HasPrefix(said, "+1 skin-tone"), strings.HasPrefix(said, "-1 skin-tone"): // Slack's words for them
		return true
	case len(words) > 0 && (words[0] == "confirm" || words[0] == "cancel"): // a code that was misread or cut
		return len(words) <= 2
	default: // a code alone
		return len(said) == 4 && codePattern.MatchString(said)
	}
}

// closeAnswered closes a card again that was answered while it was being written.
func (b *Bot) closeAnswered(c store.Confirmation) {
	if now, err := b.Store.Confirmation(b.work, c.Nonce); err == nil && now.Outcome != "" {
		end := b.title(pve.Verb(c.Verb)) + ": " + now.Outcome + "."
		switch now.Outcome {
		case store.Confirmed:
			end = "☑ " + end
		case store.Expired:
			end = "⌛ " + end + " Nothing was done."
		default: // also a card that a newer one replaced
			end = "✖ " + end + " Nothing was done."
		}
		b.closeCard(c.Nonce, end)
	}
}

// complete puts the facts on a card that could not wait for them.
func (b *Bot) complete(r request, c store.Confirmation, news <-chan facts) {
	f := b.orBefore(<-news)
	if now, err := b.Store.Confirmation(b.work, c.Nonce); err != nil || now.Outcome != "" || c.Card == "" {
		return
	}
	if err := b.out[r.place.Chat].settle(b.work, r.place, c.Card, b.card(r, c, f)); err != nil && !gone(err) {
		b.Log.Warn("a card lacks the state", "place", r.place.String(), "err", err)
	}
	b.closeAnswered(c)
}

// cardChoices confirm or cancel c; what the host advises instead has a button as well.
func (b *Bot) cardChoices(c store.Confirmation, f facts) []Choice {
	v := pve.Verb(c.Verb)
	label := b.title(v)
	if f.Lock != "" {
		label = "Try anyway"
	}
	choices := []Choice{
		{ID: clickConfirm + c.Nonce, Label: label, Danger: true},
		{ID: clickCancel + c.Nonce, Label: "Cancel"},
	}
	if f.Advice != "" && f.Advice != v && f.Lock == "" {
		choices = append(choices, verbChoice(f.Advice))
	}
	return choices
}

// closeCard takes the buttons off a card and says how it ended; pages do not show it any more.
func (b *Bot) closeCard(nonce, text string) {
	b.redraw()
	c, err := b.Store.Confirmation(b.work, nonce)
	p := Place(c.Place)
	if err != nil || c.Card == "" || b.out[p.Chat] == nil { // a chat that is not configured any more keeps its card
		return
	}
	if err := b.out[p.Chat].settle(b.work, p, c.Card, Text{Body: text}); err != nil && !gone(err) {
		b.Log.Error("a card keeps its buttons", "place", p.String(), "err", err)
	}
}
