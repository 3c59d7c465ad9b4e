package bot

import (
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"bgbot/pve"
)

func up(keys ...string) pve.Result {
	return with(host(fine, ""), func(r *pve.Result) { r.HostKeys = keys })
}

func TestARebuiltVMGetsItsNewHostKeyAccepted(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	before, after := i.rebuilt()
	i.answers(up("ssh-rsa AAAA", after, "ecdsa-sha2-nistp256 AAAA"))
	i.answers(pve.Result{Verb: pve.Cycle, Op: "c81f", Status: "running", Text: "VM 102 was cycled in 5.2 s."})
	i.types("vm cycle")
	i.presses(i.shows(`🔴 Cycle devvm`).Choices[0].ID)
	i.shows(`🟠 devvm is not back after .*: no SSH login\.`)
	card := i.shows(`🔴 devvm's SSH host key has changed\. Accept the new one\?

Old: ` + regexp.QuoteMeta(fingerprint(before)) + `
New: ` + regexp.QuoteMeta(ssh.FingerprintSHA256(i.vm.HostKey)) + `
The Proxmox host reads the same new key inside VM 102, through its guest agent\. Accept it only if the VM was rebuilt\.

Only operator may confirm\.
Or type: .confirm ([2-9A-Z]{4}). · `)
	if len(card.Choices) != 2 || card.Choices[0].Label != "Accept new key" || !card.Choices[0].Danger || card.Choices[1].Label != "Cancel" {
		t.Errorf("the card has the buttons %v", card.Choices)
	}
	if err := i.Reach(t.Context()); err == nil {
		t.Fatal("the new key was accepted unasked")
	}
	i.presses(card.Choices[0].ID)
	i.shows(`✅ devvm's new host key is accepted \(by operator\)\. SSH answered\.`)
	i.shows(`☑ Accept the new host key of devvm: confirmed by operator\.`)
	i.presses(card.Choices[0].ID)
	i.shows(`That confirmation was answered already`)
	i.types("vm status")
	i.shows(`🔵 devvm: running`)
	i.shutdown() // what a status looks at beside
	if n := strings.Count(i.phone.String(), "host key has changed"); n != 0 {
		t.Errorf("it is asked about again:\n%s", i.phone)
	}
}

func TestAStatusNoticesARebuiltVM(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	_, after := i.rebuilt()
	i.answers(up(after))
	i.types("vm status")
	card := i.shows(`🔴 devvm's SSH host key has changed\.`)
	i.presses(card.Choices[1].ID)
	i.shows(`✖ Accept the new host key of devvm: cancelled by operator\. Nothing was done\.`)
	if err := i.Reach(t.Context()); err == nil {
		t.Error("a key that was declined is accepted")
	}
}

func TestAStatusOfTheChannelThatFindsANewKeyOpensAThread(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	_, after := i.rebuilt()
	i.answers(up(after))
	i.hears(Message{Text: "/vm status", Place: outside})
	root := i.finds("`vm status` by operator has found a new SSH host key of devvm. It goes on in this thread.$")
	card := i.finds(`🔴 devvm's SSH host key has changed\. Accept the new one\?`)
	if root.place != outside || root.Only != "" || card.place.Channel != "C1" || card.place.Thread == "" || card.Only != "" {
		t.Errorf("the root is in %s, the card in %s", root.place, card.place)
	}
	code := i.code(card.Text)
	i.hears(Message{Text: "/vm status", Place: outside})
	again := i.finds("🔴 devvm's SSH host key has changed; a card in this channel asks about it: `confirm " + code + "` or `cancel " + code + "`.$")
	if again.place != outside || again.Only != operator.ID {
		t.Errorf("it is said in %s to %q", again.place, again.Only)
	}
	i.hears(Message{Text: "/vm confirm " + code, Place: outside})
	i.shows(`✅ devvm's new host key is accepted \(by operator\)\. SSH answered\.`)
}

func TestANewKeyThatNobodyKnowsIsToldToWhoeverAskedAlone(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.rebuilt()
	i.answers(up())
	i.hears(Message{Text: "/vm status", Place: outside})
	if said := i.finds(`⚠️ devvm shows another SSH host key, and I cannot tell whether it is its own\.`); said.place != outside || said.Only != operator.ID {
		t.Errorf("it is said in %s to %q", said.place, said.Only)
	}
}

func TestSomebodyInBetweenGetsNoCard(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	before, after := i.rebuilt()
	i.answers(up("ssh-rsa AAAA", before)) // inside, nothing has changed
	i.types("vm status")
	i.shows(`⛔ Somebody may stand in between me and devvm: its host key is not the one inside the VM\.
Shown to me: ` + regexp.QuoteMeta(fingerprint(after)) + `
Inside VM 102, as the Proxmox host reads it: ` + regexp.QuoteMeta(fingerprint(before)) + `
I do not log in, and neither does the agent\.`)
	i.shutdown()
	if strings.Contains(i.phone.String(), "Accept") {
		t.Errorf("there is a card:\n%s", i.phone)
	}
}

func TestWithoutAGuestAgentTheKeyIsPinnedByHand(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	_, after := i.rebuilt()
	for _, keys := range [][]string{nil, {"ssh-rsa AAAA"}} { // none, or none of that type
		i.answers(up(keys...))
		i.types("vm status")
		i.shows(`⚠️ devvm shows another SSH host key, and I cannot tell whether it is its own\.`)
	}
	if said := i.shows(`⚠️ devvm shows another SSH host key`).Body; !strings.Contains(said, "set ssh.host_key to `"+after+"` and restart me") {
		t.Errorf("it does not say how:\n%s", said)
	}
}

func TestFingerprintsAreThoseOfSSH(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	if got, want := fingerprint(publicLine(i.vm.HostKey)), ssh.FingerprintSHA256(i.vm.HostKey); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := fingerprint("ssh-ed25519 no*base64"); got != "unreadable" {
		t.Errorf("got %s", got)
	}
}
