package slacktest_test

import (
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

func TestStreams(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{NoEcho: true, Unlimited: true})
	a.join()
	l := a.connect(false)
	l.payload()
	said := must[slacktest.Sent](t)(a.Say("U0ALICE", "", "go"))
	l.payload()
	begin := []string{"channel", a.Channel(), "thread_ts", said.TS, "recipient_user_id", "U0ALICE", "recipient_team_id", a.TeamID()}
	for i, want := range map[int]string{2: "invalid_arguments", 4: "missing_recipient_user_id", 6: "missing_recipient_team_id"} {
		if got := a.code("chat.startStream", begin[:i]...); got != want {
			t.Errorf("with %d arguments: %s, want %s", i/2, got, want)
		}
	}
	open := func() []string {
		ts := a.ok("chat.startStream", begin...)["ts"].(string)
		return []string{"channel", a.Channel(), "ts", ts}
	}
	more := func(at []string, args ...string) []string { return append(at[:4:4], args...) }

	at := open()
	a.ok("chat.appendStream", more(at, "markdown_text", "one ")...)
	a.ok("chat.appendStream", more(at, "chunks", `[{"type":"markdown_text","text":"two"}]`)...)
	if got := a.Thread(said.TS)[1].Shown(); got != "one two" {
		t.Errorf("it shows %q", got)
	}
	if got := a.code("chat.update", more(at, "text", "x")...); got != "streaming_state_conflict" {
		t.Error(got)
	}
	a.ok("chat.stopStream", more(at, "blocks", card)...)
	if got := a.Thread(said.TS)[1]; got.Blocks[0].Text != "one two" || len(got.Buttons()) != 1 {
		t.Errorf("it ended as %+v", got)
	}
	if got := a.code("chat.appendStream", more(at, "markdown_text", "x")...); got != "message_not_in_streaming_state" {
		t.Error(got)
	}
	a.ok("chat.update", more(at, "text", "mended")...)

	at = open()
	must[slacktest.Sent](t)(a.StopStream("U0ALICE", at[3]))
	if e := l.payload()["event"].(object); e["type"] != "agent_session_stopped" || e["thread_ts"] != said.TS {
		t.Errorf("the button tells %v", e)
	}
	if got := a.code("chat.appendStream", more(at, "markdown_text", "x")...); got != "stopped_by_user" {
		t.Error(got)
	}

	at = open()
	a.Pass(5 * time.Minute) // it dies, though nobody ended it
	if got := a.code("chat.appendStream", more(at, "markdown_text", "x")...); got != "message_not_in_streaming_state" {
		t.Error(got)
	}
}
