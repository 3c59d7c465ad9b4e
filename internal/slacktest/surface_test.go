package slacktest_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

// post sends a body to a URL that the server gave out.
func post(t *testing.T, url, kind, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, kind, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(got))
}

func TestACommandIsAnsweredFiveTimesAtMost(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{NoEcho: true})
	a.join()
	l := a.connect(true)
	l.payload()
	sent := must[slacktest.Sent](t)(a.Slash("U0ALICE", "", "/vm", "status now"))
	p := l.payload()
	if p["command"] != "/vm" || p["text"] != "status now" || p["channel_id"] != a.Channel() || p["user_id"] != "U0ALICE" ||
		p["trigger_id"] != sent.Trigger || p["thread_ts"] != nil {
		t.Errorf("the command is %v", p)
	}
	l.ack(sent.Envelope, object{"text": "in the ack"})
	must[slacktest.Ack](t)(a.AwaitAck(a.deadline(), sent.Envelope))
	url := p["response_url"].(string)
	for i := range 6 {
		status, body := post(t, url, "application/json", `{"text":"`+strconv.Itoa(i)+`"}`)
		if (status == 200) != (i < 5) || i == 5 && !strings.Contains(body, "used_url") {
			t.Errorf("use %d: %d %s", i+1, status, body)
		}
	}
	var got []string
	for _, m := range a.Ephemerals("U0ALICE") {
		got = append(got, m.Text)
	}
	if want := "in the ack 0 1 2 3 4"; strings.Join(got, " ") != want {
		t.Errorf("alice sees %q, want %q", got, want)
	}
	if _, err := a.Slash("U0ALICE", "", "/brew", ""); err == nil {
		t.Error("a command that is not the app's is taken")
	}
	if _, err := a.Slash("U0MALLORY", "", "/vm", ""); err == nil {
		t.Error("somebody outside of the channel typed there")
	}
	sent = must[slacktest.Sent](t)(a.Slash("U0ALICE", "", "/vm", "late"))
	p = l.payload()
	l.ack(sent.Envelope, nil)
	a.Pass(30 * time.Minute)
	if _, body := post(t, p["response_url"].(string), "application/json", `{"text":"late"}`); !strings.Contains(body, "expired_url") {
		t.Errorf("after its time: %s", body)
	}
}

func TestAClickOnWhatOneAloneSees(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{NoEcho: true})
	a.join()
	l := a.connect(false)
	l.payload()
	ts := a.ok("chat.postEphemeral", "channel", a.Channel(), "user", "U0ALICE", "text", "?", "blocks", card)["message_ts"].(string)
	if got := a.code("chat.update", "channel", a.Channel(), "ts", ts, "text", "x"); got != "message_not_found" {
		t.Errorf("an ephemeral message cannot be updated: %s", got)
	}
	if _, err := a.Click("U0MALLORY", ts, "yes"); err == nil {
		t.Error("mallory pressed what she does not see")
	}
	must[slacktest.Sent](t)(a.Click("U0ALICE", ts, "yes"))
	p := l.payload()
	if p["container"].(object)["is_ephemeral"] != true || p["message"] != nil {
		t.Errorf("the click is %v", p)
	}
	url := p["response_url"].(string)
	post(t, url, "application/json", `{"replace_original":true,"text":"done"}`)
	if got := a.Ephemerals("U0ALICE"); len(got) != 1 || got[0].Shown() != "done" {
		t.Errorf("alice sees %+v", got)
	}
	post(t, url, "application/json", `{"delete_original":true}`)
	if got := a.Ephemerals(""); len(got) != 0 {
		t.Errorf("somebody sees %+v", got)
	}
}

func TestAFileInAThread(t *testing.T) {
	t.Parallel()
	for _, form := range []bool{false, true} {
		a := start(t, slacktest.Options{NoEcho: true})
		a.join()
		said := must[slacktest.Sent](t)(a.Say("U0ALICE", "", "show me"))
		o := a.ok("files.getUploadURLExternal", "filename", "screen.png", "length", "8")
		url, id := o["upload_url"].(string), o["file_id"].(string)
		if !strings.HasPrefix(url+"/", strings.TrimSuffix(a.URL(), "api/")) {
			t.Fatalf("the upload goes to another host: %s", url)
		}
		files := `[{"id":"` + id + `","title":"the screen"}]`
		complete := []string{"files", files, "channel_id", a.Channel(), "thread_ts", said.TS, "initial_comment", "look"}
		if got := a.code("files.completeUploadExternal", complete...); got != "file_not_found" {
			t.Errorf("before the bytes: %s", got)
		}
		if status, _ := post(t, url, "application/octet-stream", "short"); status == 200 {
			t.Error("a file of another length was taken")
		}
		kind, body := "application/octet-stream", "\x89PNG\r\n\x1a\n"
		if form {
			var b bytes.Buffer
			w := multipart.NewWriter(&b)
			part, _ := w.CreateFormFile("file", "screen.png")
			io.WriteString(part, body)
			w.Close()
			kind, body = w.FormDataContentType(), b.String()
		}
		if status, text := post(t, url, kind, body); status != 200 {
			t.Errorf("the upload: %d %s", status, text)
		}
		a.ok("files.completeUploadExternal", complete...)
		thread := a.Thread(said.TS)
		if len(thread) != 2 || len(thread[1].Files) != 1 || thread[1].Text != "look" || thread[1].Files[0].Type != "image/png" ||
			thread[1].Files[0].Title != "the screen" {
			t.Errorf("the thread is %+v", thread)
		}
	}
}

const home = `{"type":"home","blocks":` + card + `}`

func TestHomeAndDialogs(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{NoEcho: true})
	a.join()
	l := a.connect(false)
	l.payload()
	must[slacktest.Sent](t)(a.OpenHome("U0ALICE"))
	if e := l.payload()["event"].(object); e["type"] != "app_home_opened" || e["tab"] != "home" || e["user"] != "U0ALICE" {
		t.Errorf("the event is %v", e)
	}
	view := a.ok("views.publish", "user_id", "U0ALICE", "view", home)["view"].(object)
	if got := a.code("views.publish", "user_id", "U0ALICE", "view", home, "hash", "old"); got != "hash_conflict" {
		t.Error(got)
	}
	a.ok("views.publish", "user_id", "U0ALICE", "view", home, "hash", view["hash"].(string))
	if got := a.Home("U0ALICE"); got.Shown() != "**Cycle?**" || got.Hash == view["hash"] || got.ID != view["id"] {
		t.Errorf("alice sees %+v", got)
	}
	must[slacktest.Sent](t)(a.ClickHome("U0ALICE", "yes"))
	p := l.payload()
	if p["container"].(object)["type"] != "view" || p["channel"] != nil || p["message"] != nil || p["view"].(object)["id"] != view["id"] {
		t.Errorf("the click is %v", p)
	}

	modal := `{"type":"modal","callback_id":"ask","title":{"type":"plain_text","text":"Ask"},"blocks":` + card + `}`
	trigger := p["trigger_id"].(string)
	if got := a.code("views.open", "trigger_id", "made.up", "view", modal); got != "invalid_trigger_id" {
		t.Error(got)
	}
	opened := a.ok("views.open", "trigger_id", trigger, "view", modal)["view"].(object)
	if got := a.code("views.open", "trigger_id", trigger, "view", modal); got != "exchanged_trigger_id" {
		t.Error(got)
	}
	sent := must[slacktest.Sent](t)(a.Slash("U0ALICE", "", "/vm", "x"))
	l.payload()
	a.Pass(3 * time.Second)
	if got := a.code("views.open", "trigger_id", sent.Trigger, "view", modal); got != "expired_trigger_id" {
		t.Error(got)
	}
	must[slacktest.Sent](t)(a.Submit("U0ALICE", opened["id"].(string), object{}))
	if f := l.next(); f["accepts_response_payload"] != true || f["payload"].(object)["type"] != "view_submission" {
		t.Errorf("the dialog came as %v", f)
	}
	for raw, want := range map[string]string{
		`{}`: "invalid_arguments", `{"type":"home"}`: "invalid_arguments", modal: "invalid_arguments",
		`{"type":"home","private_metadata":"` + strings.Repeat("x", 250_000) + `","blocks":[]}`: "view_too_large",
	} {
		if got := a.code("views.publish", "user_id", "U0ALICE", "view", raw); got != want {
			t.Errorf("%.40s: %s", raw, got)
		}
	}
}

func TestWhatPeopleDoToMessages(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{})
	a.join()
	a.AddUser(slacktest.User{ID: "U0BOSS", Admin: true})
	must[slacktest.Sent](t)(a.Join(a.Channel(), "U0BOSS"))
	l := a.connect(false)
	l.payload()
	l.payload()
	said := must[slacktest.Sent](t)(a.Say("U0ALICE", "", "rset"))
	l.payload()
	must[slacktest.Sent](t)(a.Edit("U0ALICE", said.TS, "reset"))
	e := l.payload()["event"].(object)
	if e["subtype"] != "message_changed" || e["user"] != nil || e["text"] != nil || e["message"].(object)["text"] != "reset" ||
		e["previous_message"].(object)["text"] != "rset" || e["message"].(object)["edited"] == nil {
		t.Errorf("an edit is %v", e)
	}
	reply := a.ok("chat.postMessage", "channel", a.Channel(), "thread_ts", said.TS, "text", "no")["ts"].(string)
	if e := l.payload()["event"].(object); e["bot_id"] != a.BotID() || e["app_id"] != a.AppID() || e["user"] != a.BotUserID() ||
		e["thread_ts"] != said.TS || e["subtype"] != nil {
		t.Errorf("the app's own post is %v", e)
	}
	if _, err := a.Edit("U0BOSS", said.TS, "stop"); err == nil {
		t.Error("somebody edited what another wrote")
	}
	if _, err := a.Delete("U0ALICE", reply); err == nil {
		t.Error("alice deleted what the app wrote")
	}
	must[slacktest.Sent](t)(a.Delete("U0BOSS", reply))
	if e := l.payload()["event"].(object); e["subtype"] != "message_deleted" || e["deleted_ts"] != reply {
		t.Errorf("a deletion is %v", e)
	}
	if got := a.code("chat.update", "channel", a.Channel(), "ts", reply, "text", "x"); got != "message_not_found" {
		t.Error(got)
	}
	must[slacktest.Sent](t)(a.Delete("U0ALICE", said.TS))
	if got := a.Thread(said.TS); len(got) != 1 || got[0].Subtype != "tombstone" {
		t.Errorf("a thread keeps its place: %+v", got)
	}
}

func TestReadingBack(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{NoEcho: true, Unlimited: true})
	a.join()
	var all []string
	for i := range 7 {
		all = append(all, must[slacktest.Sent](t)(a.Say("U0ALICE", "", strconv.Itoa(i))).TS)
	}
	a.ok("chat.postMessage", "channel", a.Channel(), "thread_ts", all[0], "text", "x", "metadata", `{"event_type":"k","event_payload":{"key":"1"}}`)
	read := func(method string, args ...string) (ts []string, last object) {
		args = append(args, "channel", a.Channel())
		for cursor := ""; ; {
			o := a.ok(method, append(args, "cursor", cursor)...)
			for _, m := range o["messages"].([]any) {
				last = m.(object)
				ts = append(ts, last["ts"].(string))
			}
			if o["has_more"] == false {
				return ts, last
			}
			cursor = o["response_metadata"].(object)["next_cursor"].(string)
		}
	}
	newest, _ := read("conversations.history", "limit", "2")
	if len(newest) != 7 || newest[0] != all[6] || newest[6] != all[0] {
		t.Errorf("history is %v of %v", newest, all)
	}
	if got, _ := read("conversations.history", "oldest", all[4]); len(got) != 2 {
		t.Errorf("after the cursor: %v", got)
	}
	if got, _ := read("conversations.history", "oldest", all[4], "latest", all[5], "inclusive", "true"); len(got) != 2 {
		t.Errorf("inclusive: %v", got)
	}
	replies, last := read("conversations.replies", "ts", all[0], "oldest", all[6])
	if len(replies) != 2 || replies[0] != all[0] || last["metadata"] != nil {
		t.Errorf("replies are %v, the last %v", replies, last)
	}
	if _, last = read("conversations.replies", "ts", all[0], "include_all_metadata", "true"); last["metadata"].(object)["event_type"] != "k" {
		t.Errorf("metadata: %v", last)
	}
	if got := a.code("conversations.replies", "channel", a.Channel(), "ts", "1.000001"); got != "thread_not_found" {
		t.Error(got)
	}
	members := a.ok("conversations.members", "channel", a.Channel(), "limit", "1")
	if members["members"].([]any)[0] != a.BotUserID() || members["response_metadata"].(object)["next_cursor"] == "" {
		t.Errorf("members: %v", members)
	}
	link := a.ok("chat.getPermalink", "channel", a.Channel(), "message_ts", replies[1])["permalink"].(string)
	if !strings.Contains(link, "/p"+strings.ReplaceAll(replies[1], ".", "")) || !strings.Contains(link, "thread_ts="+all[0]) {
		t.Error(link)
	}
}

func TestReactionsAndStatus(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{Scopes: []string{"chat:write", "reactions:write"}})
	a.join()
	said := must[slacktest.Sent](t)(a.Say("U0ALICE", "", "hello"))
	eyes := []string{"channel", a.Channel(), "timestamp", said.TS, "name", "eyes"}
	a.ok("reactions.add", eyes...)
	if got := a.Thread(said.TS)[0].Reactions; len(got) != 1 || got[0].Name != "eyes" {
		t.Errorf("%+v", got)
	}
	if got := a.code("reactions.add", eyes...); got != "already_reacted" {
		t.Error(got)
	}
	a.ok("reactions.remove", eyes...)
	if got := a.code("reactions.remove", eyes...); got != "no_reaction" {
		t.Error(got)
	}
	status := []string{"channel_id", a.Channel(), "thread_ts", said.TS, "status", "is looking"}
	a.ok("assistant.threads.setStatus", status...)
	if h := a.saw("the status", func(h slacktest.Happening) bool { return h.Kind == slacktest.Status }); h.Message.Text != "is looking" {
		t.Errorf("%+v", h)
	}
	without := start(t, slacktest.Options{NoAssistant: true})
	if got := without.code("assistant.threads.setStatus", status...); got != "unknown_method" {
		t.Error(got)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	got := slacktest.Compare([]string{"a", "b", "c", "d"}, []string{"c", "b", "c", "c", "x", "d"})
	for name, tc := range map[string]struct{ got, want []string }{
		"lost": {got.Lost, []string{"a"}}, "doubled": {got.Doubled, []string{"c"}},
		"reordered": {got.Reordered, []string{"b"}}, "strange": {got.Strange, []string{"x"}},
	} {
		if strings.Join(tc.got, " ") != strings.Join(tc.want, " ") {
			t.Errorf("%s: got %v, want %v", name, tc.got, tc.want)
		}
	}
	if got.Clean() || !slacktest.Compare([]string{"a"}, []string{"a"}).Clean() {
		t.Error("Clean is wrong")
	}
}
