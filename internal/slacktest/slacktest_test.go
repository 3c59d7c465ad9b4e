package slacktest_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"bgbot/internal/slacktest"
)

const card = `[{"type":"markdown","text":"**Cycle?**"},{"type":"actions","block_id":"card-1","elements":[
	{"type":"button","action_id":"yes","value":"nonce","style":"danger","text":{"type":"plain_text","text":"Cycle"},
	 "confirm":{"title":{"type":"plain_text","text":"Sure?"},"text":{"type":"plain_text","text":"It hurts."},
	            "confirm":{"type":"plain_text","text":"Yes"},"deny":{"type":"plain_text","text":"No"}}}]}]`

// A person asks, the bot answers in a thread with a button, edits it, the person presses it.
func TestAConversation(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{NoEcho: true})
	a.join()
	l := a.connect(false)
	l.payload() // alice came in before there was a socket

	said := must[slacktest.Sent](t)(a.Say("U0ALICE", "", "is x < y? see https://example.org/a"))
	p := l.payload()
	event := p["event"].(object)
	for key, want := range map[string]any{
		"type": "message", "user": "U0ALICE", "channel": a.Channel(), "ts": said.TS, "channel_type": "group", "team": a.TeamID(),
		"text": "is x &lt; y? see <https://example.org/a>",
	} {
		if event[key] != want {
			t.Errorf("event.%s is %v, want %v", key, event[key], want)
		}
	}
	if b := event["blocks"].([]any)[0].(object); b["type"] != "rich_text" {
		t.Errorf("what people type comes as rich text too, got %v", b)
	}
	if p["team_id"] != a.TeamID() || p["api_app_id"] != a.AppID() || p["type"] != "event_callback" {
		t.Errorf("the event is wrapped in %v", p)
	}
	ack := must[slacktest.Ack](t)(a.AwaitAck(a.deadline(), said.Envelope))
	if ack.Attempts != 1 || ack.After <= 0 {
		t.Errorf("ack: %+v", ack)
	}

	posted := a.ok("chat.postMessage", "channel", a.Channel(), "thread_ts", said.TS, "text", "Cycle?", "blocks", card)
	ts := posted["ts"].(string)
	thread := a.Thread(said.TS)
	if len(thread) != 2 || thread[1].Shown() != "**Cycle?**" || thread[1].Text != "Cycle?" {
		t.Fatalf("the thread is %+v", thread)
	}
	if b := thread[1].Buttons(); len(b) != 1 || b[0].Label != "Cycle" || b[0].Value != "nonce" || b[0].Confirm.Title != "Sure?" {
		t.Errorf("the buttons are %+v", b)
	}

	click := must[slacktest.Sent](t)(a.Click("U0ALICE", ts, "yes"))
	p = l.payload()
	action := p["actions"].([]any)[0].(object)
	container := p["container"].(object)
	if p["type"] != "block_actions" || action["value"] != "nonce" || action["block_id"] != "card-1" || action["action_ts"] == "" ||
		container["thread_ts"] != said.TS || container["message_ts"] != ts || p["user"].(object)["team_id"] != a.TeamID() ||
		p["message"].(object)["ts"] != ts || p["trigger_id"] != click.Trigger {
		t.Errorf("the click is %v", p)
	}

	a.ok("chat.update", "channel", a.Channel(), "ts", ts, "text", "Cycling.")
	if m := a.Thread(said.TS)[1]; m.Shown() != "Cycling." || len(m.Buttons()) != 0 || !m.Edited {
		t.Errorf("text without blocks removes the blocks and shows (edited), got %+v", m)
	}
	replies := a.ok("conversations.replies", "channel", a.Channel(), "ts", said.TS)["messages"].([]any)
	if len(replies) != 2 || replies[0].(object)["reply_count"] != 1.0 || replies[1].(object)["bot_id"] != a.BotID() {
		t.Errorf("conversations.replies: %v", replies)
	}
	history := a.ok("conversations.history", "channel", a.Channel())["messages"].([]any)
	if len(history) != 1 || history[0].(object)["ts"] != said.TS {
		t.Errorf("conversations.history: %v", history)
	}
	kinds := []slacktest.Kind{}
	for _, h := range a.Happenings() {
		kinds = append(kinds, h.Kind)
	}
	if want := []slacktest.Kind{slacktest.Posted, slacktest.Posted, slacktest.Changed}; !slices.Equal(kinds, want) {
		t.Errorf("the feed is %v, want %v", kinds, want)
	}
}

func TestWhoTheAppIs(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{})
	_, header, body := a.raw(a.BotToken(), "auth.test")
	if got := header.Get("X-Oauth-Scopes"); got != "chat:write,commands,files:write,groups:history,groups:read,users:read" {
		t.Errorf("X-OAuth-Scopes: %s", got)
	}
	var o object
	if err := json.Unmarshal([]byte(body), &o); err != nil || o["team_id"] != a.TeamID() || o["bot_id"] != a.BotID() ||
		o["user_id"] != a.BotUserID() {
		t.Errorf("auth.test: %s", body)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{Unlimited: true})
	a.join()
	said := must[slacktest.Sent](t)(a.Say("U0ALICE", "", "hello"))
	post := a.ok("chat.postMessage", "channel", a.Channel(), "text", "hi")
	a.AddChannel(slacktest.Channel{ID: "C0SECRET", Name: "secret"})
	a.AddChannel(slacktest.Channel{ID: "C0PUBLIC", Name: "public", Public: true})
	ch, ts := a.Channel(), post["ts"].(string)
	long := strings.Repeat("x", 4001)
	for _, tc := range []struct {
		method string
		args   []string
		want   string
	}{
		{"chat.brew", nil, "unknown_method"},
		{"chat.postMessage", []string{"channel", "C0NOWHERE", "text", "x"}, "channel_not_found"},
		{"chat.postMessage", []string{"channel", "C0SECRET", "text", "x"}, "channel_not_found"},
		{"chat.postMessage", []string{"channel", "C0PUBLIC", "text", "x"}, "not_in_channel"},
		{"chat.postMessage", []string{"channel", ch}, "no_text"},
		{"chat.postMessage", []string{"channel", ch, "text", "x", "thread_ts", "1.000001"}, "thread_not_found"},
		{"chat.postMessage", []string{"channel", ch, "text", "x", "markdown_text", "y"}, "markdown_text_conflict"},
		{"chat.postMessage", []string{"channel", ch, "blocks", `{`}, "invalid_blocks_format"},
		{"chat.postMessage", []string{"channel", ch, "blocks", `[{"type":"teapot"}]`}, "invalid_blocks"},
		{"chat.postMessage", []string{"channel", ch, "text", "x", "metadata", `{"event_type":""}`}, "invalid_metadata_format"},
		{"chat.update", []string{"channel", ch, "ts", ts}, "no_text"},
		{"chat.update", []string{"channel", ch, "ts", ts, "text", long}, "msg_too_long"},
		{"chat.update", []string{"channel", ch, "ts", "1.000001", "text", "x"}, "message_not_found"},
		{"chat.update", []string{"channel", ch, "ts", said.TS, "text", "x"}, "cant_update_message"},
		{"chat.delete", []string{"channel", ch, "ts", said.TS}, "cant_delete_message"},
		{"chat.postEphemeral", []string{"channel", ch, "user", "U0MALLORY", "text", "x"}, "user_not_in_channel"},
		{"chat.postEphemeral", []string{"channel", ch, "user", "U0NOBODY", "text", "x"}, "user_not_found"},
		{"users.info", []string{"user", "U0NOBODY"}, "user_not_found"},
		{"conversations.info", []string{"channel", "C0SECRET"}, "channel_not_found"},
		{"apps.connections.open", nil, "not_allowed_token_type"},
	} {
		t.Run(tc.method+" "+tc.want, func(t *testing.T) {
			if got := a.code(tc.method, tc.args...); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
