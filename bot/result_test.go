package bot

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/agentrun"
	"bgbot/internal/store"
	"bgbot/pve"
)

// A chat that takes nothing holds up neither the agent nor what the agent does with the host.
func TestTheAgentDoesNotWaitForAChatThatTakesNothing(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.Power = Auto
	i.answers(pve.Result{Verb: pve.Stop, Status: "stopped", Text: "VM 102 is stopped."})
	i.write("agent.held", "")
	i.types("please look")
	i.shows("⏳ Working")
	i.phone.refuse(func(Place, Text) error { return errors.New("away") })
	answered := make(chan error, 1)
	go func() {
		report, err := i.Relay(i.turnFor(thread, "").session)(t.Context(), pve.Stop, func(pve.Step) {})
		if report.Result.Status != "stopped" {
			err = errors.Join(err, errors.New("the agent hears "+report.Result.Text))
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the agent waits for the chat")
	}
	i.remove("agent.held")
	i.phone.refuse(nil)
	i.shows("⏹ devvm is stopped")
	i.shows("🤖 I looked")
	if all := i.phone.String(); strings.Index(all, "⏹ devvm is stopped") > strings.Index(all, "🤖 I looked") {
		t.Error("the answer stands above the result that it speaks of")
	}
}

// A thread that somebody has deleted or locked cannot be told anything, now or after a restart: nothing runs there for ever.
func TestWhatNobodyCanBeToldIsOver(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{"gone": &Gone{Reason: "thread_not_found"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIncident(t)
			i.answers(pve.Result{Verb: pve.Forensics, Status: "running", Text: "VM 102 is running."})
			i.phone.refuse(func(Place, Text) error { return refusal })
			i.types("vm forensics")
			i.waits("the verb is said to run for ever", func() bool {
				done := i.Store.Operations(t.Context(), 1)
				return len(done) == 1 && !done[0].Ended.IsZero()
			})
		})
	}
}

func TestAllWhoAskMeanwhileShareOneLook(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(fine, ""))
	i.write("status.held", "")
	var news []<-chan facts
	for range 10 {
		news = append(news, i.inquire())
	}
	i.remove("status.held")
	for _, n := range news {
		if f := <-n; f.err != nil || f.Status != "running" {
			t.Errorf("one of them hears %+v", f)
		}
	}
	if n := i.looks(); n != 1 {
		t.Errorf("the host was asked %d times, want once", n)
	}
	i.unsee() // a change
	<-i.inquire()
	if n := i.looks(); n != 2 {
		t.Errorf("the host was asked %d times, want once more after a change", n)
	}
}

// That others are looking just now is no state of the VM.
func TestAHostWithTooManyAtOnceLeavesACardWhatWasSeenBefore(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	i.answers(host(stalled, pve.Cycle))
	i.types("vm status")
	i.shows("🟠 devvm: running")
	i.answers(pve.Result{Verb: pve.Status, Exit: pve.Busy, Text: "Busy: 3 others are looking at VM 102 already."})
	i.types("vm cycle")
	card := i.shows(`🔴 Cycle devvm\? at [\d:]+: running 9 d 4 h · No block I/O for 12 s`)
	if !strings.Contains(card.Body, "⚠️ Busy: 3 others are looking at VM 102 already.") {
		t.Errorf("the card does not say why that is old:\n%s", card.Body)
	}
}

// Of a stopped VM, a reset is refused for a reason that a cycle would not mend; a stop leaves a start to be done.
func TestWhatIsOfferedAfterAResultFitsIt(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	for _, c := range []struct {
		r       pve.Result
		buttons []string
	}{
		{pve.Result{Verb: pve.Reset, Exit: pve.Failed, Status: "stopped", Text: "VM 102 is stopped; there is nothing to reset. Use start."}, []string{"Status", "Start …"}},
		{pve.Result{Verb: pve.Stop, Status: "stopped", Text: "VM 102 is stopped."}, []string{"Status", "Start …"}},
		{pve.Result{Verb: pve.Cycle, Status: "running", Text: "VM 102 was cycled in 5 s."}, nil},
	} {
		got := i.resultText(operation{verb: c.r.Verb, name: "operator"}, pve.Report{Result: c.r}, nil, reach{}, time.Second)
		if !slices.Equal(labels(got), c.buttons) || strings.Contains(got.Body, "If it stays so") {
			t.Errorf("%s: buttons %q, want %q:\n%s", c.r.Verb, labels(got), c.buttons, got.Body)
		}
	}
	got := i.resultText(operation{verb: pve.Reset}, pve.Report{Result: pve.Result{Verb: pve.Reset, Exit: pve.Unverified, Status: "running", Text: "Not up."}}, nil, reach{}, time.Second)
	if !strings.Contains(got.Body, "If it stays so for a minute: `vm cycle`.") {
		t.Errorf("a reset that did not help leads nowhere:\n%s", got.Body)
	}
	r := pve.Result{Verb: pve.Reset, Exit: pve.Unverified, Status: "running", Text: "Not up.", Verdict: inVain, Advice: pve.Cycle}
	got = i.resultText(operation{verb: pve.Reset}, pve.Report{Result: r}, nil, reach{}, time.Second)
	want := "\nAfter the reset: No block I/O since the reset 110 s ago: the guest does not boot" +
		"\nThe host advises `cycle`: a reset keeps the old QEMU process, a cycle starts a fresh one."
	if !strings.HasSuffix(got.Body, want) {
		t.Errorf("the host's advice after a reset: got\n%s\nwant at its end%s", got.Body, want)
	}
	got = i.resultText(operation{verb: pve.Reset}, pve.Report{Result: r}, nil, reach{asked: true}, time.Second)
	if !strings.HasPrefix(got.Body, "✅") || strings.Contains(got.Body, "cycle") || strings.Contains(got.Body, "does not boot") || len(got.Choices) > 0 {
		t.Errorf("SSH has answered, and a cycle is advised:\n%s\nbuttons %q", got.Body, labels(got))
	}
}

// What the host saw after a reset may speak against a cycle, or have nothing for it.
func TestACycleIsNoHintWhereTheHostSpeaksAgainstIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		verdict, lock, status string
		advice                pve.Verb
		hint                  bool
	}{
		{verdict: "", hint: true},
		{verdict: fine, hint: true},
		{verdict: "Reset 61 s ago: CPU 4 %, and no agent runs yet; give it a moment", hint: true},
		{verdict: "No block I/O for 11 s, and the host's disk sdb stands still too: host storage, which no `cycle` mends"},
		{verdict: "The guest did not boot: its screen says \"No bootable device\"; someone must look at its console"},
		{verdict: "Guest kernel panic at boot on screen: it finds no root disk, so a `reset` would only repeat it"},
		{verdict: "Guest kernel panic on screen: sysrq triggered crash; `reset` is enough", advice: pve.Reset},
		{verdict: "Locked (backup), changes refused. Healthy from outside: CPU 2 %, I/O moving, agent answers"},
		{lock: "backup"},
		{status: "stopped"}, // "Use start."
	} {
		r := pve.Result{Verb: pve.Reset, Exit: pve.Unverified, Status: "running", Text: "Not up.", Verdict: c.verdict, Advice: c.advice, Lock: c.lock}
		if c.status != "" {
			r.Status = c.status
		}
		got := devvm.resultText(operation{verb: pve.Reset}, pve.Report{Result: r}, nil, reach{asked: true, err: errors.New("no login")}, time.Second)
		if strings.Contains(got.Body, "If it stays so") != c.hint {
			t.Errorf("want a hint: %t, and it says\n%s", c.hint, got.Body)
		}
	}
}

// The host says "Ask status" to people at a shell too; here that word would begin a turn of the agent.
func TestTheHostsAdviceNamesTheWordOfTheChat(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	o := operation{verb: pve.Cycle, name: "operator"}
	var said []string
	for _, e := range []pve.Exit{pve.Busy, pve.Unverified, pve.Broken, 9} {
		r := pve.Result{Verb: pve.Cycle, Exit: e, Text: e.Sentence()}
		said = append(said, i.resultText(o, pve.Report{Result: r}, nil, reach{}, time.Second).Body)
	}
	killed := &pve.NoGate{Host: "HOST", Status: 137, Signal: "KILL"}
	for _, err := range []error{killed, &pve.Unknown{Host: "HOST", Verb: pve.Cycle, Err: killed}} {
		said = append(said, i.resultText(o, pve.Report{}, err, reach{}, time.Second).Body,
			i.cutText(store.Operation{Verb: "cycle"}, pve.Report{}, err).Body)
	}
	for _, body := range said {
		if strings.Contains(body, "Ask status") || !strings.Contains(body, "Type `vm status`") {
			t.Errorf("said %q", body)
		}
	}
}

// Whoever stops a turn whose model is down has not heard that it is back.
func TestAModelIsSaidToAnswerAgainOnlyWhereItDid(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	for _, c := range []struct {
		r    agentrun.Result
		err  error
		want string
	}{
		{agentrun.Result{Text: "I looked."}, nil, "☑ The model did not answer for a while; it did again."},
		{agentrun.Result{}, nil, "☑ The model did not answer; how that ended is said below."},
		{agentrun.Result{Text: "529", Failed: true}, nil, "☑ The model did not answer; how that ended is said below."},
		{agentrun.Result{}, agentrun.ErrOver, "☑ The model did not answer; how that ended is said below."},
	} {
		down := i.say(thread, Text{Body: "🟠 The model is overloaded (529); trying again (1 of 4).", Choices: verbChoices()})
		i.closeDown(&turn{place: thread, down: down}, c.r, c.err)
		i.phone.says(t, "🟠", 0)
		if got := i.shows(c.want); len(got.Choices) > 0 {
			t.Errorf("it keeps the buttons %v", got.Choices)
		}
	}
	i.phone.says(t, "☑ The model did not answer for a while", 1)
}

// A stop that comes while the answer is on its way takes nothing away: the page gives the answer up for a message of its own.
func TestAnAnswerThatCameBeforeTheStopIsSaid(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	turn := i.turnAt(Message{Place: thread, From: operator}).turn
	turn.view.add(agentrun.Text{ID: "1", Text: "The disk is full."}, time.Now())
	turn.live = i.out["phone"].show(i.work, thread, 0, turn.draw, nil)
	turn.stopper, turn.stopped = "Anna", make(chan agentrun.Stopped, 1)
	turn.stopped <- agentrun.Stopped{}
	i.finish(turn, agentrun.Result{Text: "The disk is full."}, nil)
	said := i.shows("⏹ The agent was stopped by Anna")
	if !strings.Contains(said.Body, "\n\n🤖 The disk is full.") {
		t.Errorf("the answer is lost:\n%s", i.phone)
	}
}
