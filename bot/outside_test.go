package bot

import (
	"errors"
	"strings"
	"testing"
	"time"

	"bgbot/auth"
	"bgbot/pve"
)

func TestAStatusOfTheChannelIsForThePersonAlone(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.write("status.held", "")
	i.hears(Message{Text: "/vm status", Place: outside})
	for _, want := range []string{"⏳ status: waiting for the Proxmox host; you will see its answer here.$", "🔵 devvm: running 9 d 4 h"} {
		if said := i.finds(want); said.place != outside || said.Only != operator.ID {
			t.Errorf("%q is said to %q in %s", said.Body, said.Only, said.place)
		}
		if strings.HasPrefix(want, "⏳") {
			i.remove("status.held")
		}
	}
	i.shutdown()
	if open := i.Store.OpenOperations(t.Context()); len(open) != 0 {
		t.Errorf("the next start will tell the channel of %+v", open)
	}
}

func TestAChangeOfTheChannelGetsAThread(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(stalled, pve.Cycle))
	i.hears(Message{Text: "/vm cycle", Place: outside})
	root := i.finds("`vm cycle` asked by operator. It goes on in this thread.$")
	card := i.finds(`🔴 Cycle devvm\?`)
	if root.place != outside || root.Only != "" || card.place.Thread != "0" || card.Only != "" {
		t.Errorf("the root is in %s, the card in %s", root.place, card.place)
	}
	i.hears(Message{Text: "/vm cancel " + i.code(card.Text), Place: outside})
	i.shows(`✖ Cycle devvm: cancelled by operator\. Nothing was done\.`)
}

func TestForensicsOfTheChannelGetAThreadIfThatIsToBeHad(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	forensics := host(stalled, pve.Cycle)
	forensics.Verb = pve.Forensics
	i.answers(forensics)
	i.hears(Message{Text: "/vm forensics", Place: outside})
	if said := i.finds("🔎 devvm: "); said.place.Thread != "0" || said.Only != "" {
		t.Errorf("the result is in %s", said.place)
	}
	i.phone.refuse(func(_ Place, t Text) error {
		if strings.Contains(t.Body, "asked by") {
			return errors.New("502")
		}
		return nil
	})
	i.hears(Message{Text: "/vm forensics", Place: outside})
	i.waits("the result in the channel itself", func() bool { return i.phone.count("🔎 devvm: ") == 2 })
}

func TestAChangeWithoutAThreadIsNotDone(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.Confirm.TTL = time.Second
	i.phone.refuse(func(_ Place, t Text) error {
		if strings.Contains(t.Body, "asked by") {
			return errors.New("502")
		}
		return nil
	})
	i.hears(Message{Text: "/vm cycle", Place: outside})
	said := i.finds("❌ Not done: I could not open a thread for `vm cycle` within 1.0 s. Say it again if you still want it.$")
	if said.Only != operator.ID {
		t.Errorf("it is said to %q", said.Only)
	}
	i.phone.says(t, "🔴", 0)
}

func TestAPromptOfTheChannelGetsAThread(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.hears(Message{Click: "prompt:disk", Card: "7", Place: outside}) // below a help that only the operator sees
	i.shows("“Disk” asked by operator. It goes on in this thread.$")
	if answer := i.finds("🤖 I looked"); answer.place.Thread != "0" {
		t.Errorf("the answer is in %s", answer.place)
	}
	if !strings.Contains(i.prompts(), "[operator]: Look at the disks.") {
		t.Errorf("the agent was told %s", i.prompts())
	}
}

func TestWhatNeedsNoThreadIsAnsweredWhereItWasTyped(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	stranger := auth.Person{Chat: "phone", ID: "U9"}
	for _, c := range []struct {
		who        auth.Person
		text, want string
	}{
		{operator, "/vm", `\*\*I repair devvm\.\*\*\nSay in the channel what is wrong; an agent`},
		{operator, "/vm help", `\*\*I repair devvm\.\*\*\nSay in the channel what is wrong; an agent`},
		{operator, "/vm reboot", "reboot is not a verb; nothing was done"},
		{operator, "/vm please look at the disk", "please is not a verb; nothing was done\\.\nTo ask the agent, write it in the channel without `/vm`\\.$"},
		{operator, "/vm confirm 4F7Q", "There is no open confirmation like that here"},
		{operator, "model opus", "Type `model NAME` in the thread that it is for.$"},
		{operator, "stop", "No turn of the agent runs in this thread"},
		{operator, "again", "Type `again` in the thread that it is for.$"},
		{stranger, "/vm status", `You may not do that here: phone:U9 is not on the allowlist \(auth\.phone\)\.$`},
	} {
		i.hears(Message{Text: c.text, Place: outside, From: c.who})
		if said := i.finds(c.want); said.place != outside || said.Only != c.who.ID {
			t.Errorf("%q is answered in %s, to %q", c.text, said.place, said.Only)
		}
	}
}

func TestWhatTheChatItselfHasToTellIsSaidOnceInTheChannel(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	for range 2 {
		i.hears(Message{ID: "gap-1", Notice: "I was away 4 min, 2 messages recovered.", Place: outside, From: auth.Person{Chat: "phone"}})
	}
	said := i.finds("I was away 4 min, 2 messages recovered.$")
	if said.place != outside || said.Only != "" {
		t.Errorf("it is said in %s, to %q", said.place, said.Only)
	}
	i.types("help") // and nothing else happens
	i.shows(`\*\*I repair devvm`)
	i.phone.says(t, "I was away", 1)
	entries := i.Store.Entries(t.Context(), 10)
	if n := len(entries); n != 1 || entries[0].Act != "notice" || entries[0].Text != "I was away 4 min, 2 messages recovered." {
		t.Errorf("the record has %+v", entries)
	}
}
