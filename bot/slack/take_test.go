package slack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

// What nobody here understands is acknowledged, and nobody is bothered with it.
func TestWhatCannotBeUnderstoodIsAcknowledged(t *testing.T) {
	t.Parallel()
	o := briskly()
	o.AckTimeout, o.PingEvery = 5*time.Second, 2*time.Second // the race detector reads slowly
	timing := quick
	timing.dead = 5 * time.Second
	r := newRig(t, o, timing).open(t)
	for name, sent := range map[string]slacktest.Sent{
		"an unknown type": r.Send("tea_break", json.RawMessage(`{}`)),
		"a huge one":      r.Send("events_api", fmt.Appendf(nil, `{"event_id":"huge","text":%q}`, bytes.Repeat([]byte("x"), 2*maxFrame))),
	} {
		if ack := r.ack(t, sent); ack.Attempts != 1 {
			t.Errorf("%s was sent %d times", name, ack.Attempts)
		}
	}
	r.Disrupt(slacktest.GarbageFrame)
	_, sent := r.event(1)
	r.ack(t, sent)
	if len(r.order) != 1 || r.Dialled() != 1 {
		t.Errorf("taken %v, %d sockets dialled", r.order, r.Dialled())
	}
}

// A payload that is anything is handed on, for take to decide: it is JSON, and it has an id.
func TestStrangePayloadsAreHandedOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick).open(t)
	for _, payload := range []string{`null`, `7`, `[]`, `{"event":"none"}`} {
		r.ack(t, r.Send("interactive", json.RawMessage(payload)))
	}
	if len(r.last) != 4 {
		t.Errorf("taken: %v", r.last)
	}
}

func TestTheSameEnvelopeTwiceIsAcknowledgedTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick).open(t)
	r.SetLink(slacktest.Link{Twice: true})
	id, sent := r.event(1)
	r.ack(t, sent)
	r.until(t, "both are taken", func() bool { return r.taken[id] == 2 })
	if r.last[0].ID != r.last[1].ID || r.last[1].Attempt != 0 {
		t.Errorf("taken: %+v", r.last)
	}
}

// The socket ends between the recording and the acknowledgement: the next one carries it, or a person who typed a command
// would see an error although it is obeyed.
func TestAnAcknowledgementMayTakeTheNextSocket(t *testing.T) {
	t.Parallel()
	o := briskly()
	o.AckTimeout = 5 * time.Second
	r := newRig(t, o, quick)
	r.block = make(chan struct{})
	r.open(t)
	sent := r.Send("slash_commands", json.RawMessage(`{"command":"/vm"}`))
	eventually(t, "it is here", func() bool { return r.busy.Load() == 1 })
	r.SetLink(slacktest.Link{Status: 503})
	r.Disrupt(slacktest.Hangup)
	eventually(t, "there is no socket", func() bool { return len(r.link.held()) == 0 })
	close(r.block)
	eventually(t, "it is taken", func() bool { return r.busy.Load() == 0 })
	r.SetLink(slacktest.Link{})
	if ack := r.ack(t, sent); ack.Attempts != 1 || string(ack.Payload) != `{"text":"done"}` {
		t.Errorf("acknowledged at attempt %d with %q", ack.Attempts, ack.Payload)
	}
}

// The store fails: nothing is acknowledged, Slack sends again, and when the store works the time between is read back,
// since Slack may have given something up.
func TestWhatIsNotRecordedComesAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, briskly(), quick).open(t)
	r.refuse.Store(true)
	before := time.Now()
	id, sent := r.event(1)
	eventually(t, "it was refused", func() bool { return strings.Contains(r.log.String(), "the disk is full") })
	r.refuse.Store(false)
	if ack := r.ack(t, sent); ack.Attempts < 2 {
		t.Errorf("acknowledged at attempt %d", ack.Attempts)
	}
	r.until(t, "the time between is read back", func() bool { return len(r.gaps) == 2 })
	if r.taken[id] != 1 || r.last[0].Attempt == 0 || r.last[0].Reason != "timeout" {
		t.Errorf("taken: %+v", r.last)
	}
	if since := r.gaps[1]; since.Before(before) || time.Since(since) > 5*time.Second {
		t.Errorf("read back since %s", since)
	}
}

// Nobody takes anything: the link lives on, people are told, and later all arrives.
func TestAStalledStoreDoesNotStallTheLink(t *testing.T) {
	t.Parallel()
	const events = linkQueue + 50
	o := briskly()
	o.AckTimeout, o.Redeliver = time.Second, []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second}
	timing := quick
	timing.take = time.Minute
	r := newRig(t, o, timing)
	r.block = make(chan struct{})
	r.open(t)
	for n := range events {
		r.event(n)
	}
	r.until(t, "people are told", func() bool { return len(r.alarms) > 0 })
	const want = "⚠️ I cannot record what Slack sends as fast as it comes.\nWhat I leave now, Slack sends again within minutes; the log says more."
	if r.alarms[0] != want {
		t.Errorf("told: %s", r.alarms[0])
	}
	<-time.After(2 * timing.dead)
	if !r.link.connected() || r.Dialled() != 1 {
		t.Errorf("connected: %v, %d sockets dialled", r.link.connected(), r.Dialled())
	}
	close(r.block)
	r.until(t, "all has arrived", func() bool { return len(r.taken) == events })
	r.until(t, "the time between is read back", func() bool { return len(r.gaps) > 1 })
	if n := strings.Count(strings.Join(r.alarms, "\n"), want); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestAHangingStoreIsTold(t *testing.T) {
	t.Parallel()
	timing := quick
	timing.take = 200 * time.Millisecond
	r := newRig(t, briskly(), timing)
	r.block = make(chan struct{})
	r.open(t)
	_, sent := r.event(1)
	r.until(t, "people are told", func() bool { return len(r.alarms) > 0 })
	if got := r.alarms[0]; got != "⚠️ Recording a message takes longer than 200ms, and those behind it wait.\nThe log says more." {
		t.Errorf("told: %s", got)
	}
	close(r.block)
	r.ack(t, sent)
}
