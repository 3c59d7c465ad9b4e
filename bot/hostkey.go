package bot

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// hostKeyVerb stands in the record of a card where a verb would: may the VM have another host key from now on?
const hostKeyVerb pve.Verb = "host-key"

// newKey is what such a card is about.
type newKey struct {
	old string // the fingerprint of the key that was expected
	key string // "TYPE BASE64"
}

// subject is how the record has it.
func (k newKey) subject() string { return k.old + " " + k.key }

func keyOf(c store.Confirmation) newKey {
	old, key, _ := strings.Cut(c.Subject, " ")
	return newKey{old: old, key: key}
}

// fingerprint is that of a key "TYPE BASE64", as ssh-keygen prints it.
func fingerprint(key string) string {
	_, text, _ := strings.Cut(key, " ")
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "unreadable"
	}
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// The times of looking for a changed key.
const (
	knockWait = 5 * time.Second
	keysWait  = 30 * time.Second // for the agent of a guest that boots
	keysPause = 3 * time.Second
)

// checkKey looks, after a change and beside each status, whether the VM shows another host key than the expected one, and
// asks the people of the thread whether it may.
func (b *Bot) checkKey(o operation, r pve.Result, err, login error) {
	if err == nil && o.verb == pve.Status && r.Status == "running" && b.mayKnock(o) {
		ctx, cancel := context.WithTimeout(b.cut, knockWait)
		defer cancel()
		login = b.Knock(ctx)
	}
	shown, ok := errors.AsType[*pve.Unreachable](login)
	if !ok || shown.Why != pve.HostKeyChanged {
		return
	}
	if shown.Presented == nil { // an authority signs its keys, or it has none of the pinned type
		if o.verb == pve.Status && !o.agent {
			b.say(o.place, Text{Body: "⚠️ " + plain(message(shown), 600), Only: o.only})
		}
		return
	}
	if o.verb.Changes() && len(r.HostKeys) == 0 {
		r.HostKeys = b.readKeys()
	}
	k := newKey{old: shown.Want, key: shown.Presented.Type() + " " + base64.StdEncoding.EncodeToString(shown.Presented.Marshal())}
	same, others := compared(k.key, r.HostKeys)
	switch {
	case same:
		b.offerKey(o, k)
	case o.agent && !o.verb.Changes(): // it may look often, and people are told when they look
	case len(others) > 0:
		b.record(b.work, o.place, auth.Person{}, "host key", b.VM.Name, "refused", k.subject())
		b.say(o.place, Text{Body: fmt.Sprintf("⛔ Somebody may stand in between me and %s: its host key is not the one inside the VM.\n"+
			"Shown to me: %s\nInside VM %d, as the Proxmox host reads it: %s\nI do not log in, and neither does the agent. Find out what answers at its address.",
			b.VM.Name, fingerprint(k.key), b.VM.ID, strings.Join(others, ", "))})
	default:
		b.say(o.place, Text{Body: fmt.Sprintf("⚠️ %s shows another SSH host key, and I cannot tell whether it is its own.\nOld: %s\nNew: %s\n"+
			"The Proxmox host could not read the keys inside VM %d: that needs a guest agent that answers; `vm status` tries again.\n"+
			"By hand: if `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` at the VM's console shows the new one, set ssh.host_key to `%s` and restart me.",
			b.VM.Name, k.old, fingerprint(k.key), b.VM.ID, k.key), Only: o.only})
	}
}

// compared says whether key is among those of the guest, and gives the fingerprints of the others of its type.
func compared(key string, keys []string) (same bool, others []string) {
	kind, _, _ := strings.Cut(key, " ")
	for _, k := range keys {
		switch {
		case k == key:
			same = true
		case strings.HasPrefix(k, kind+" "):
			others = append(others, fingerprint(k))
		}
	}
	return same, others
}

// mayKnock lets the agent's looks at the host lead to a login of ours once a minute only.
func (b *Bot) mayKnock(o operation) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o.agent && time.Since(b.knocked) < time.Minute {
		return false
	}
	b.knocked = time.Now()
	return true
}

// readKeys asks the host for the guest's keys until its agent is up.
func (b *Bot) readKeys() []string {
	for until := time.Now().Add(keysWait); ; {
		f := <-b.inquire()
		if len(f.HostKeys) > 0 || time.Now().After(until) || sleep(b.cut, keysPause) != nil {
			return f.HostKeys
		}
	}
}

// offerKey asks whether the VM may have its new host key; once, however often the agent looks. It concerns all, so a status
// that one person alone sees gets a thread for it.
func (b *Bot) offerKey(o operation, k newKey) {
	r := request{place: o.place, verb: hostKeyVerb, name: strings.TrimPrefix(o.name, "the agent for ")}
	for name := range strings.SplitSeq(o.asked, ",") {
		if p, err := auth.ParsePerson(name); err == nil {
			r.requesters = append(r.requesters, p)
		}
	}
	asked, code := b.askedForKey(o.place, k)
	switch {
	case len(r.requesters) == 0 || asked && o.agent:
		return
	case asked && o.place.Thread == "":
		b.say(o.place, Text{Body: fmt.Sprintf("🔴 %s's SSH host key has changed; a card in this channel asks about it: `confirm %s` or `cancel %s`.", b.VM.Name, code, code), Only: o.only})
		return
	case o.place.Thread == "":
		root, err := b.root(o.place, fmt.Sprintf("`vm status` by %s has found a new SSH host key of %s.", plain(o.name, 40), b.VM.Name), rootWait)
		if err != nil { // the next status tries again
			b.Log.Warn("no thread could be opened", "place", o.place.String(), "err", err)
			return
		}
		b.adopt(root, false)
		r.place = root
	}
	c := b.confirmation(r)
	c.Subject = k.subject()
	card := b.keyCard(c)
	card.Body += "\n\n" + b.rule(r) + "\n" + orType(c)
	b.open(b.cut, r, &c, card)
}

// askedForKey says whether a card about k is open in a thread, or anywhere in a channel, and which code it has.
func (b *Bot) askedForKey(p Place, k newKey) (asked bool, code string) {
	for _, c := range b.Store.OpenConfirmations(b.work, time.Now()) {
		here := c.Place.Chat == p.Chat && c.Place.Channel == p.Channel && (p.Thread == "" || c.Place.Thread == p.Thread)
		if here && c.Verb == string(hostKeyVerb) && c.Subject == k.subject() {
			return true, c.Code
		}
	}
	return false, ""
}

// keyCard shows both keys, and who vouches for the new one.
func (b *Bot) keyCard(c store.Confirmation) Text {
	k := keyOf(c)
	return Text{
		Body: fmt.Sprintf("🔴 %s's SSH host key has changed. Accept the new one?\n\nOld: %s\nNew: %s\n"+
			"The Proxmox host reads the same new key inside VM %d, through its guest agent. Accept it only if the VM was rebuilt.",
			b.VM.Name, k.old, fingerprint(k.key), b.VM.ID),
		Choices: []Choice{{ID: clickConfirm + c.Nonce, Label: "Accept new key", Danger: true}, {ID: clickCancel + c.Nonce, Label: "Cancel"}},
	}
}

// acceptKey makes the key of a confirmed card the VM's, and tries it.
func (b *Bot) acceptKey(m Message, c store.Confirmation) {
	k := keyOf(c)
	if err := b.Accept(b.work, k.key, m.From.String()); err != nil {
		b.say(Place(c.Place), Text{Body: "❌ The new host key was not taken over: " + plain(message(err), 400)})
		return
	}
	b.record(b.work, Place(c.Place), m.From, "host key", b.VM.Name, "accepted", k.subject())
	ctx, cancel := context.WithTimeout(b.work, 2*knockWait)
	defer cancel()
	state := fmt.Sprintf("✅ %s's new host key is accepted (by %s). SSH answered.", b.VM.Name, plain(m.Name, 40))
	if err := b.Reach(ctx); err != nil {
		state = fmt.Sprintf("🟠 %s's new host key is accepted (by %s), but there is no SSH login.\n%s", b.VM.Name, plain(m.Name, 40), plain(message(err), 400))
	}
	b.say(Place(c.Place), Text{Body: state + "\nI keep it until another one is configured. For good, set ssh.host_key to `" + k.key + "`." + b.trouble()})
}
