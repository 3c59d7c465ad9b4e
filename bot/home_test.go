package bot

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/auth"
	"bgbot/pve"
)

// pageShows waits until the operator's page, as it stands, matches pattern.
func (i *incident) pageShows(pattern string) (t Text) {
	i.t.Helper()
	return i.personsPage(operator, pattern)
}

// personsPage does so of anybody's, whose first buttons have these labels.
func (i *incident) personsPage(who auth.Person, pattern string, first ...string) (t Text) {
	i.t.Helper()
	re := regexp.MustCompile(`(?s)^` + pattern)
	i.waits("the page of "+who.ID+" never shows "+pattern, func() bool {
		t, _ = i.phone.page(who.ID)
		return re.MatchString(t.Body)
	})
	if got := labels(t); len(got) < len(first) || !slices.Equal(got[:len(first)], first) {
		i.t.Errorf("the page of %s has the buttons %q, want %q first", who.ID, got, first)
	}
	return t
}

func labels(t Text) (all []string) {
	for _, c := range t.Choices {
		all = append(all, c.Label)
	}
	return all
}

func (i *incident) opensPage() { i.hears(Message{Home: true, Place: outside}) }

func TestThePageOfSomebodyWhoMayAct(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(stalled, pve.Cycle))
	i.write("status.held", "")
	i.opensPage()
	first := i.pageShows(`⏳ devvm: asking the Proxmox host …\n\n\*\*Running now\*\*\n\nNothing\.\n\n\*\*Open cards\*\*\n\nNone\.\n\n\*\*Done lately\*\*\n\nNothing yet\.$`)
	if got, want := labels(first), []string{"Status", "Forensics", "Start …", "Reset …", "Power off …", "Cycle …", "Disk"}; !slices.Equal(got, want) {
		t.Errorf("the page has the buttons %q, want %q", got, want)
	}
	i.remove("status.held")
	i.pageShows(`🟠 devvm: running 9 d 4 h · No block I/O for 12 s, 3 requests waiting: I/O stall · forensics 20 s old\nThe host advises .cycle.: a reset keeps the wedged QEMU\.\n.*\*\*Running now`)
	if n := i.phone.count(""); n != 0 {
		t.Errorf("%d messages in the channel for a look at the page", n)
	}
}

func TestThePageShowsWhatRunsWhatIsOpenAndWhatWasDone(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.types("vm status")
	i.shows("🔵 devvm: running")
	i.types("vm stop")
	i.shows(`🔴 Stop devvm\?`)
	i.write("agent.held", "")
	i.types("devvm is slow")
	i.shows("⏳ Working")
	i.opensPage()
	page := i.pageShows(`🔵 devvm: running .*\*\*Running now\*\*\n\n- 1 · 0:\d\d · the agent thinks · operator: “devvm is slow”\n\n` +
		`\*\*Open cards\*\*\n\n- Stop devvm\? asked by operator · open until \d\d:\d\d:\d\d · .confirm [2-9A-Z]{4}. or .cancel [2-9A-Z]{4}. in the channel\n\n` +
		`\*\*Done lately\*\*\n\n- \d\d:\d\d .status. by operator: 🔵 devvm: running 9 d 4 h [^\n]*$`)
	if got := fmt.Sprint(labels(page)[:3]); got != "[Stop turn 1 Confirm: Stop devvm Cancel: Stop devvm]" {
		t.Fatalf("the first buttons are %s", got)
	}
	stop := page.Choices[0]
	i.hears(Message{Click: stop.ID, Place: outside})
	i.shows(`⏹ The agent was stopped by operator\.`)
	i.pageShows(`.*\*\*Running now\*\*\n\nNothing\.`)
}

func TestAPageThatIsOpenForgetsACardThatIsAnswered(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.opensPage()
	page := i.pageShows(`🔵 devvm: running [^\n]*\n.*None\.`)
	if strings.Contains(page.Body, "VM 102 is running") {
		t.Errorf("the state stands there twice:\n%s", page.Body)
	}
	i.types("vm stop")
	card := i.shows(`🔴 Stop devvm\?`)
	i.pageShows(`🔵 .*- Stop devvm\? asked by operator`)
	i.presses(card.Choices[1].ID)
	i.pageShows(`🔵 .*\*\*Open cards\*\*\n\nNone\.`)
}

// A card is answered on the page as in its thread, by the same people, once, and who presses hears of it on the page.
func TestACardIsAnsweredOnThePage(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	colleague := auth.Person{Chat: "phone", ID: "U2"}
	i.Policy = auth.NewPolicy(operator, colleague)
	i.answers(host(fine, ""))
	i.answers(pve.Result{Verb: pve.Stop, Op: "c81f", Status: "stopped", Text: "VM 102 was stopped."})
	i.types("vm stop")
	card := i.shows(`🔴 Stop devvm\?`)
	i.opensPage()
	page := i.pageShows(`🔵 .*- Stop devvm\? asked by operator`)
	yes := page.Choices[0]
	if want := (Choice{ID: card.Choices[0].ID, Label: "Confirm: Stop devvm", Danger: true}); yes != want {
		t.Fatalf("the page has the button %+v, want %+v", yes, want)
	}

	i.hears(Message{Home: true, Place: outside, From: colleague, Name: "colleague"})
	i.personsPage(colleague, `🔵 .*- Stop devvm\? asked by operator`, "Cancel: Stop devvm")
	i.hears(Message{Click: yes.ID, Place: outside, From: colleague, Name: "colleague"})
	i.personsPage(colleague, `Only operator, who asked, may confirm this\.\n\n🔵 .*- Stop devvm\? asked by operator`, "Cancel: Stop devvm")
	stranger := auth.Person{Chat: "phone", ID: "U9"}
	i.hears(Message{Click: yes.ID, Place: outside, From: stranger, Name: "stranger"})
	i.personsPage(stranger, `⛔ You may not do that here: [^\n]*$`)

	i.hears(Message{Click: yes.ID, Place: outside})
	i.shows(`⏹ devvm is stopped after .* \(stop by operator, op c81f\)`)
	i.shows(`☑ Stop devvm: confirmed by operator\.$`)
	i.answers(pve.Result{Verb: pve.Status, Text: "VM 102 is stopped.", Status: "stopped"})
	i.pageShows(`☑ Stop devvm: confirmed by operator\. It goes on in its thread\.\n\n.*None\..*- \d\d:\d\d .stop. by operator: ⏹ devvm is stopped after `)
	i.hears(Message{Click: yes.ID, Place: outside})
	i.pageShows(`That confirmation was answered already; nothing more was done\.\n\n`)
	i.phone.says(t, "⏹ devvm is stopped", 1)
}

func TestACardThatHasExpiredIsNotAnsweredOnThePage(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.Confirm.TTL = 200 * time.Millisecond
	i.answers(host(fine, ""))
	i.opensPage()
	i.types("vm stop")
	i.shows("⌛ Expired: Stop devvm was not confirmed in time. Nothing was done.")
	page := i.pageShows(`🔵 .*None\.`)
	if got := labels(page)[0]; got != "Status" {
		t.Errorf("the first button is %q", got)
	}
	for _, c := range i.Store.Entries(t.Context(), 10) {
		if c.Act == "ask" {
			i.hears(Message{Click: "confirm:" + c.Outcome, Place: outside})
		}
	}
	i.pageShows("That confirmation has expired; nothing was done\\. Type `vm stop` if you still want it\\.\n\n")
}

func TestTwoCardsOnThePageAreToldApart(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.types("vm stop")
	one := i.code(i.shows(`🔴 Stop devvm\?`))
	i.types("vm cycle")
	two := i.code(i.shows(`🔴 Cycle devvm\?`))
	i.opensPage()
	page := i.pageShows(`🔵 .*- Stop devvm\?.*- Cycle devvm\?`)
	want := []string{"Confirm: Stop devvm · " + one, "Cancel: Stop devvm · " + one, "Confirm: Cycle devvm · " + two, "Cancel: Cycle devvm · " + two}
	if got := labels(page)[:4]; !slices.Equal(got, want) {
		t.Errorf("the buttons are %q, want %q", got, want)
	}
	i.hears(Message{Click: page.Choices[3].ID, Place: outside})
	i.shows(`✖ Cycle devvm: cancelled by operator\. Nothing was done\.$`)
	i.pageShows(`✖ Cycle devvm: cancelled by operator\. Nothing was done\.\n\n🔵`)
}

func TestAButtonOfThePageIsAnsweredOnThePage(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.hears(Message{Click: "vm:status", Place: outside})
	i.pageShows("🔵 devvm: running")
	i.hears(Message{Click: "stop:gone", Place: outside})
	i.pageShows(`That turn has ended already\..*\n.*\n\n(⏳|🔵) devvm`)
	i.phone.says(t, "", 0)

	i.hears(Message{Click: "vm:cycle", Place: outside})
	if card := i.finds(`🔴 Cycle devvm\?`); card.place.Thread != "0" {
		t.Errorf("the card is in %s", card.place)
	}
	i.pageShows("It goes on in the channel: `vm cycle`\n\n.*Open cards\\*\\*\n\n- Cycle devvm")
}

func TestThePageOfSomebodyWhoMayNot(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.hears(Message{Home: true, Place: outside, From: auth.Person{Chat: "phone", ID: "U9"}})
	var page Text
	i.waits("no page", func() (is bool) {
		var n int
		page, n = i.phone.page("U9")
		return n > 0
	})
	if want := "⛔ You may not do that here: phone:U9 is not on the allowlist (auth.phone)."; page.Body != want || page.Choices != nil {
		t.Errorf("the page says %q with %v, want %q", page.Body, page.Choices, want)
	}
	if _, n := i.phone.page("U9"); n != 1 {
		t.Errorf("it was drawn %d times", n)
	}
}

func TestAPageThatIsOpenShowsAChange(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.answers(pve.Result{Verb: pve.Stop, Op: "c81f", Status: "stopped", Text: "VM 102 was stopped."})
	i.opensPage()
	i.pageShows("🔵 devvm: running")
	i.types("vm stop")
	card := i.shows(`🔴 Stop devvm\?`)
	i.answers(pve.Result{Verb: pve.Status, Text: "VM 102 is stopped.", Status: "stopped"})
	i.presses(card.Choices[0].ID)
	i.pageShows(`⏹ devvm: stopped.*- \d\d:\d\d .stop. by operator: ⏹ devvm is stopped after `)
}

func TestAPageWithoutTheHost(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.Gate = pve.NewClient(pve.Host{Name: "the Proxmox host", Address: "127.0.0.1:1", User: "root", Signer: i.vm.ClientSigner, HostKey: i.vm.HostKey}, 102, i.Log)
	i.opensPage()
	i.pageShows(`❌ devvm: its state is unknown: the Proxmox host [^\n]* refuses the connection[^\n]*\n.*\*\*Running now`)
}
