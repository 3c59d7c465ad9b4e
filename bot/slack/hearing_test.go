package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// A warning comes some seconds before the end. The successor is there before the old socket goes, so there is no gap, and
// nothing has to be sent again.
func TestASuccessorComesBeforeTheOldSocketGoes(t *testing.T) {
	t.Parallel()
	o := briskly()
	o.AckTimeout = 5 * time.Second
	r := newRig(t, o, quick).open(t)
	r.Disrupt(slacktest.Warning)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := r.AwaitSockets(ctx, 2, 1); err != nil {
		t.Fatalf("no second socket beside the first: %v", err)
	}
	for n := range 50 { // over both
		if _, sent := r.event(n); r.ack(t, sent).Attempts != 1 {
			t.Errorf("event %d was sent again", n)
		}
	}
	if err := r.AwaitSockets(ctx, 1, 1); err != nil {
		t.Fatalf("the first socket stays: %v", err)
	}
	_, sent := r.event(50)
	r.ack(t, sent)
	if len(r.gaps) != 1 || len(r.alarms) != 0 || r.Dialled() != 2 {
		t.Errorf("gaps %v, alarms %q, %d sockets dialled", r.gaps, r.alarms, r.Dialled())
	}
}

func TestASocketIsReplacedBeforeItsAnnouncedEnd(t *testing.T) {
	t.Parallel()
	o := briskly()
	o.SocketLife, o.WarnAhead = 10*time.Second, time.Millisecond // the last tenth of it is what a busy machine may need
	r := newRig(t, o, quick).open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patientTest)
	defer cancel()
	began := time.Now()
	if err := r.AwaitSockets(ctx, 2, 1); err != nil {
		t.Fatalf("no second socket beside the first: %v", err)
	}
	if took := time.Since(began); took < 8*time.Second || took > 9990*time.Millisecond {
		t.Errorf("a socket with 10 s to live was replaced after %s", took)
	}
	if len(r.gaps) != 1 {
		t.Errorf("gaps: %v", r.gaps)
	}
}

// Half-open: no frame comes, and no word about it. It is noticed, and what came after the last frame is read back, not
// only what came after somebody noticed.
func TestADeafSocketIsNoticed(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick).open(t)
	at := time.Now()
	r.Disrupt(slacktest.HalfOpen)
	r.until(t, "the gap is read back", func() bool { return len(r.gaps) == 2 })
	if took := time.Since(at); took < quick.dead/2 || took > quick.dead+time.Second {
		t.Errorf("it took %s to notice", took)
	}
	if since := r.gaps[1]; since.After(at) || since.Before(at.Add(-quick.dead)) {
		t.Errorf("deaf since %s, read back since %s", at, since)
	}
}

// While one socket hears, another may swallow what Slack sends on it.
func TestWhatARetiredSocketSwallowedIsReadBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick).open(t)
	r.Disrupt(slacktest.Warning)
	r.Disrupt(slacktest.HalfOpen)
	at := time.Now()
	r.until(t, "the gap is read back", func() bool { return len(r.gaps) == 2 })
	if since := r.gaps[1]; since.After(at) || r.Dialled() != 2 || !r.link.connected() {
		t.Errorf("swallowed from %s on, read back since %s; %d sockets", at, since, r.Dialled())
	}
}

func TestASlowServerIsNotTakenForDead(t *testing.T) {
	t.Parallel()
	o := briskly()
	o.PingEvery = time.Hour // the pongs alone show that it lives
	timing := quick
	timing.dead = 400 * time.Millisecond
	r := newRig(t, o, timing).open(t)
	<-time.After(3 * timing.dead)
	r.DisruptOne(slacktest.SlowFrame) // half a second, longer than dead
	<-time.After(2 * timing.dead)
	if n := r.Dialled(); n != 1 {
		t.Errorf("%d sockets were dialled", n)
	}
}

// Accepted, and ended at once: a loop without a pause asks for a new socket thousands of times a second.
func TestAcceptThenDisconnectIsNoHotLoop(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{linkTooMany, linkWarning, "refresh_requested", "a_new_reason"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, briskly(), quick)
			r.SetLink(slacktest.Link{Refuse: reason})
			r.start(t)
			<-time.After(time.Second)
			// 10, 20, 40, 80 ms, then 150 ms, plus or minus a third
			if n := len(r.Calls("apps.connections.open")); n < 2 || n > 16 {
				t.Errorf("%d attempts in a second", n)
			}
			r.SetLink(slacktest.Link{})
			r.until(t, "it is connected", func() bool { return len(r.gaps) > 0 })
			said := strings.Join(r.alarms, "\n")
			const crowd = "⚠️ Slack has ended a connection of mine, since my app has too many of them.\nOther programs on the same app token (slack.app_token_file) must be ended. I try again, more slowly."
			if got := strings.Count(said, crowd); reason == linkTooMany && got != 1 || reason != linkTooMany && got != 0 {
				t.Errorf("told %d times: %s", got, said)
			}
		})
	}
}

// Also a socket that was healthy: an app with too many of them must not ask for the next one at once.
func TestTooManyMeansTheLongestPause(t *testing.T) {
	t.Parallel()
	for n := range 3 { // the reason and the end of the socket come at once, and the reason is what counts
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, briskly(), quick).open(t)
			<-time.After(quick.healthy)
			r.Disrupt(slacktest.TooMany)
			began := time.Now()
			r.until(t, "it is connected again", func() bool { return len(r.gaps) == 2 })
			if took := time.Since(began); took < quick.most*2/3 {
				t.Errorf("connected again after %s", took)
			}
		})
	}
}

// Slack was down for a while: it is met again soon after it is back, and not asked thousands of times until then.
func TestASlackThatComesBackIsMetSoon(t *testing.T) {
	t.Parallel()
	ticket := func(kind slacktest.FaultKind) func(*rig) func() {
		return func(r *rig) func() {
			return r.Inject(slacktest.Fault{Methods: []string{"apps.connections.open"}, Kind: kind})
		}
	}
	for name, fail := range map[string]func(*rig) (mend func()){
		"no ticket": ticket(slacktest.HTML502),
		"no answer": ticket(slacktest.Reset),
		"no socket": func(r *rig) func() {
			r.SetLink(slacktest.Link{Status: 503})
			return func() { r.SetLink(slacktest.Link{}) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timing := quick
			timing.most, timing.away = time.Hour, 100*time.Millisecond
			r := newRig(t, briskly(), timing)
			mend := fail(r)
			r.start(t)
			<-time.After(2 * time.Second)
			if n := len(r.Calls("apps.connections.open")); n < 6 || n > 60 {
				t.Errorf("%d attempts in two seconds", n)
			}
			mend()
			began := time.Now()
			r.until(t, "it is connected", func() bool { return len(r.gaps) > 0 })
			if took := time.Since(began); took > 10*time.Second { // the longest pause is an hour
				t.Errorf("connected %s after Slack was back", took)
			}
		})
	}
}

func TestAHelloThatNeverComes(t *testing.T) {
	t.Parallel()
	timing := quick
	timing.open = 200 * time.Millisecond
	r := newRig(t, briskly(), timing)
	r.SetLink(slacktest.Link{NoHello: true})
	r.start(t)
	<-time.After(2 * timing.open)
	r.SetLink(slacktest.Link{})
	r.until(t, "it is connected", func() bool { return len(r.gaps) > 0 })
	if !strings.Contains(r.log.String(), "no hello within 200ms") {
		t.Error("the log does not say why")
	}
}

func TestPeopleAreToldThatNothingIsHeard(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick).open(t)
	r.SetLink(slacktest.Link{Status: 503})
	r.Disrupt(slacktest.Hangup)
	r.until(t, "people are told", func() bool { return len(r.alarms) > 0 })
	const want = "⚠️ I have heard nothing here for 0 s: Slack gives me no connection.\nI keep trying, and read what was written meanwhile as soon as I am back; the log says why. `bgbot console` works without Slack."
	if r.alarms[0] != want {
		t.Errorf("told: %s", r.alarms[0])
	}
	if r.link.connected() {
		t.Error("the link takes itself for connected")
	}
	<-time.After(quick.patient)
	r.SetLink(slacktest.Link{})
	r.until(t, "the gap is read back", func() bool { return len(r.gaps) == 2 })
	if len(r.alarms) != 1 {
		t.Errorf("told more than once: %q", r.alarms)
	}
}

// Slack may be out of reach for days, and is tried every few seconds.
func TestASlackThatIsAwayFillsNoLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick)
	r.SetLink(slacktest.Link{Status: 503})
	r.start(t)
	eventually(t, "ten attempts were made", func() bool { return len(r.Calls("apps.connections.open")) > 10 })
	if n := strings.Count(r.log.String(), "no connection to slack"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// Two programs on one token split the events between them, and neither notices: only hello's count tells.
func TestAnotherProgramOnTheTokenIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick)
	r.SetLink(slacktest.Link{Foreign: 2})
	r.start(t)
	r.until(t, "people are told", func() bool { return len(r.alarms) > 0 })
	const want = "⚠️ Another program uses my Slack app token, and takes messages and clicks away from me.\nSlack counts 3 connections, and I hold 1. End the other program, or give each bot a Slack app of its own (slack.app_token_file). After a crash an old connection may count for some minutes; I look again and say when it is gone."
	if r.alarms[0] != want {
		t.Errorf("told: %s", r.alarms[0])
	}
	<-time.After(3 * quick.ghost) // it has looked again, and there is nothing new to tell
	r.SetLink(slacktest.Link{})
	r.until(t, "the all-clear", func() bool { return len(r.alarms) > 1 })
	if got := r.alarms[1]; got != "✅ No other program uses my Slack app token any more: every message reaches me again." {
		t.Errorf("told: %s", got)
	}
}

func TestOurOwnLatestSocketIsNoOtherProgram(t *testing.T) {
	t.Parallel()
	timing := quick
	timing.ghost = time.Minute
	r := newRig(t, briskly(), timing).open(t)
	r.Disrupt(slacktest.HalfOpen) // Slack goes on counting it
	r.until(t, "it is connected again", func() bool { return len(r.gaps) == 2 })
	if len(r.alarms) != 0 {
		t.Errorf("told: %q", r.alarms)
	}
}

// Each count takes a new socket, and the old one may count for a while: whoever counts at each thing that another program
// does, always has one of those.
func TestAnotherProgramIsToldHoweverMuchItDoes(t *testing.T) {
	t.Parallel()
	timing := quick
	timing.ghost = time.Second
	r := newRig(t, briskly(), timing).open(t)
	r.SetLink(slacktest.Link{Foreign: 1})
	r.Disrupt(slacktest.Hangup) // which Slack may still count
	r.until(t, "it is connected again", func() bool { return len(r.gaps) == 2 })
	told := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for !closed(told) {
			r.link.recount()
			<-time.After(timing.ghost / 2)
		}
	})
	r.until(t, "people are told", func() bool { return len(r.alarms) > 0 })
	close(told)
	busy.Wait()
	if !strings.HasPrefix(r.alarms[0], "⚠️ Another program uses my Slack app token") {
		t.Errorf("told: %s", r.alarms[0])
	}
}

func TestSocketModeSwitchedOffEndsTheLink(t *testing.T) {
	t.Parallel()
	const told = "🔴 I hear nothing here any more: Socket Mode is switched off for my Slack app.\nSwitch it on at api.slack.com/apps, your app, Socket Mode, then start bgbot again; if the app was removed, install it anew and put its new tokens into slack.app_token_file and slack.bot_token_file."
	const want = "slack: Socket Mode is switched off for this app. Switch it on at api.slack.com/apps, your app, Socket Mode, then start bgbot again; if the app was removed, install it anew and put its new tokens into slack.app_token_file and slack.bot_token_file."
	for name, c := range map[string]struct {
		begin func(*rig)
		told  []string
	}{
		"at start":   {func(r *rig) { r.SetLink(slacktest.Link{Refuse: linkDisabled}); r.start(t) }, nil}, // a supervisor starts it again and again
		"in between": {func(r *rig) { r.open(t); r.Disrupt(slacktest.LinkDisabled) }, []string{told}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, briskly(), quick)
			c.begin(r)
			select {
			case <-r.ended:
			case <-time.After(patientTest):
				t.Fatal("run goes on")
			}
			fatal, ok := errors.AsType[*bot.Fatal](r.err)
			if !ok || fatal.UserMessage() != want {
				t.Errorf("run returned %v", r.err)
			}
			if !slices.Equal(r.alarms, c.told) {
				t.Errorf("told: %q", r.alarms)
			}
			if n := len(r.Calls("apps.connections.open")); n != 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

// What was received is recorded and acknowledged before the end: a command that nobody acknowledges fails before the eyes
// of the person who typed it.
func TestShutdownFinishesWhatHasCome(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick)
	r.block = make(chan struct{})
	r.open(t)
	var sent []slacktest.Sent
	for n := range 5 {
		_, s := r.event(n)
		sent = append(sent, s)
	}
	eventually(t, "all are here", func() bool { return len(r.link.queue) == 4 && r.busy.Load() == 1 })
	r.cancel(errStop)
	close(r.block)
	for _, s := range sent {
		r.ack(t, s)
	}
	<-r.ended
	if !errors.Is(r.err, errStop) {
		t.Errorf("run returned %v", r.err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := r.AwaitSockets(ctx, 0, 0); err != nil {
		t.Errorf("a socket is open: %v", err)
	}
	if late := r.Send("events_api", json.RawMessage(`{"event_id":"late"}`)); late.Envelope == "" || r.taken["late"] != 0 {
		t.Error("something was taken after the end")
	}
}

// eventually polls what no channel tells.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		<-time.After(time.Millisecond)
	}
}
