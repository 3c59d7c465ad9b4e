package bot

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"bgbot/auth"
	"bgbot/pve"
)

// pageShows waits until the operator's page, as it stands, matches pattern.
func (i *incident) pageShows(pattern string) (t Text) {
	i.t.Helper()
	re := regexp.MustCompile(`(?s)^` + pattern)
	i.waits("the page never shows "+pattern, func() bool {
		t, _ = i.phone.page(operator.ID)
		return re.MatchString(t.Body)
	})
	return t
}

func (i *incident) opensPage() { i.hears(Message{Home: true, Place: outside}) }

func TestThePageOfSomebodyWhoMayAct(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(stalled, pve.Cycle))
	i.write("status.held", "")
	i.opensPage()
	first := i.pageShows(`⏳ devvm: asking the Proxmox host …\n\n\*\*Running now\*\*\n\nNothing\.\n\n\*\*Open cards\*\*\n\nNone\.\n\n\*\*Done lately\*\*\n\nNothing yet\.$`)
	var labels []string
	for _, c := range first.Choices {
		labels = append(labels, c.Label)
	}
	if want := []string{"Status", "Forensics", "Start …", "Reset …", "Power off …", "Cycle …", "Disk"}; !slices.Equal(labels, want) {
		t.Errorf("the page has the buttons %q, want %q", labels, want)
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
	stop := page.Choices[0]
	if stop.Label != "Stop turn 1" {
		t.Fatalf("the first button is %v", stop)
	}
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

func TestAButtonOfThePageIsAnsweredOnThePage(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.hears(Message{Click: "vm:status", Place: outside})
	i.pageShows("🔵 devvm: running")
	i.hears(Message{Click: "stop:gone", Place: outside})
	i.pageShows(`No turn of the agent runs in this thread\..*\n\n(⏳|🔵) devvm`)
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
