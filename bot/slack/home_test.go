package slack

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

func TestTheHomeTabShowsTheStateAndItsButtons(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	body := "🔵 devvm: running 9 d 4 h · no block I\\/O for 12 s\n\n**Running now**\n\n- 0:14 · `dmesg | tail` · asked by operator\n\n" +
		"## Done lately\n\n* 18:20 `cycle` by *operator*: __done__ & <!channel>\n"
	choices := []bot.Choice{{ID: "stop:1", Label: "Stop the turn"}}
	for _, verb := range []string{"Status", "Forensics", "Start …", "Reset …", "Stop …", "Cycle …"} {
		choices = append(choices, bot.Choice{ID: "verb:" + verb, Label: verb, Danger: strings.Contains(verb, "…")})
	}
	if err := s.Home(s.ctx, operator, bot.Text{Body: body, Choices: choices}); err != nil {
		t.Fatal(err)
	}
	view := s.server.Home(operator)
	want := "🔵 devvm: running 9 d 4 h · no block I/O for 12 s\n\n*Running now*\n\n• 0:14 · `dmesg | tail` · asked by operator\n\n" +
		"*Done lately*\n\n• 18:20 `cycle` by _operator_: *done* &amp; &lt;!channel&gt;"
	if got := view.Shown(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if n := len(view.Buttons()); n != 7 || len(view.Blocks) != 3 {
		t.Errorf("%d buttons in %d blocks", n, len(view.Blocks))
	}
	if raw := string(view.Raw); strings.Contains(raw, `"markdown"`) || !strings.Contains(raw, `"verbatim":true`) {
		t.Errorf("the view is %s", raw)
	}
}

func TestAPageThatIsTooLongIsCutAndKeepsItsButtons(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	var choices []bot.Choice
	for i := range 30 {
		choices = append(choices, bot.Choice{ID: fmt.Sprint(i), Label: "x"})
	}
	body := strings.Repeat(strings.Repeat("<&>", 300)+"\n\n", 40)
	if err := s.Home(s.ctx, operator, bot.Text{Body: body, Choices: choices}); err != nil {
		t.Fatal(err)
	}
	view := s.server.Home(operator)
	if n := len(view.Buttons()); n != 30 || !strings.Contains(view.Shown(), "more than Slack shows here") {
		t.Errorf("%d buttons below %q", n, view.Shown()[len(view.Shown())-100:])
	}
}

func TestAWorkspaceWithoutHomeTabSaysWhereToSwitchItOn(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	s.server.Inject(slacktest.Fault{Methods: []string{"views.publish"}, Kind: slacktest.ErrorCode, Error: "not_enabled"})
	err := s.Home(s.ctx, operator, bot.Text{Body: "x"})
	if want := "The Home tab of the Slack app is off (not_enabled). Switch it on under App Home on api.slack.com/apps."; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestMarkdownInTheOlderDialect(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"# The **disk** is full #":          "*The disk is full*",
		"**a** and __b__ and *c* and _d_":   "*a* and *b* and _c_ and _d_",
		"~~old~~ 2*3*4":                     "~old~ 2*3*4",
		`\*not\* \_this\_ a\_b`:             "*" + joiner + "not*" + joiner + " _" + joiner + "this_" + joiner + " a_" + joiner + "b",
		"[the log](https://a.example/?a&b)": "<https://a.example/?a&amp;b|the log>",
		"[x](javascript:alert(1))":          "[x](javascript:alert(1))",
		"[<!here>](https://a.example)":      "<https://a.example|&lt;!here&gt;>",
		"> quoted <@U1>":                    "> quoted &lt;@U1&gt;",
		"1. one\n2. two":                    "1. one\n2. two",
		"- a\n  - b":                        "• a\n  • b",
		"`a <b> & *c*`":                     "`a &lt;b&gt; &amp; *c*`",
		"```sh\nls <x> && **y**\n```":       "```\nls &lt;x&gt; &amp;&amp; **y**\n```",
		"&lt;!here&gt; &amp;lt;":            "&lt;!here&gt; &amp;lt;",
		"<https://evil.example|your bank>":  "&lt;https://evil.example|your bank&gt;",
	} {
		if got := mrkdwn(in); got != want {
			t.Errorf("%q\n got %q\nwant %q", in, got, want)
		}
	}
}

func FuzzMrkdwn(f *testing.F) {
	f.Add("**a** <!here> `<@U1>` ```\n<#C1>")
	f.Add(`\<!here\> [<!a>](https://x) \[a](https://y)`)
	f.Fuzz(func(t *testing.T, body string) {
		got := mrkdwn(body)
		for _, token := range []string{"<!", "<@", "<#", "<mailto"} {
			if strings.Contains(got, token) {
				t.Errorf("%q is in %q", token, got)
			}
		}
	})
}

func TestTheStatusLineIsShortAndARefusalEndsTheAsking(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	for range 2 {
		if err := s.Working(s.ctx, p, "is running "+strings.Repeat("ö", 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Working(s.ctx, p, ""); err != nil {
		t.Fatal(err)
	}
	calls := s.server.Calls("assistant.threads.setStatus")
	if len(calls) != 3 || len([]rune(calls[0].Args["status"])) != 50 || calls[2].Args["status"] != "" || calls[0].Args["thread_ts"] != p.Thread {
		t.Errorf("asked %+v", calls)
	}
	without := saying(t, slacktest.Options{NoAssistant: true})
	for range 3 {
		if err := without.Working(without.ctx, without.thread(t), "thinks"); err != nil {
			t.Errorf("%v", err)
		}
	}
	if n := len(without.server.Calls("assistant.threads.setStatus")); n != 1 {
		t.Errorf("asked %d times where there is none", n)
	}
}

func TestAHiccupDoesNotEndTheAsking(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	for _, kind := range []slacktest.FaultKind{slacktest.RateLimitedOK, slacktest.HTML502, slacktest.Reset} {
		s.server.Inject(slacktest.Fault{Methods: []string{"assistant.threads.setStatus"}, Kind: kind, Times: 1})
		if err := s.Working(s.ctx, p, "thinks"); err == nil {
			t.Errorf("%s: no error", kind)
		}
	}
	if err := s.Working(s.ctx, p, "thinks"); err != nil || s.mute {
		t.Errorf("%v", err)
	}
}

// Pictures are drawn of these payloads: go test ./bot/slack -run Pictures -dump DIR.
func TestPictures(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	for _, said := range picturedThread() {
		s.persist(t, p, said)
	}
	var thread []any
	for _, m := range s.server.Thread(p.Thread) {
		blocks := []json.RawMessage{}
		for _, b := range m.Blocks {
			blocks = append(blocks, b.Raw)
		}
		thread = append(thread, map[string]any{"user": m.User, "bot": m.BotID != "", "text": m.Text, "blocks": blocks, "files": m.Files, "ts": m.TS})
	}
	if len(thread) != 1+len(picturedThread())+1 {
		t.Errorf("%d messages", len(thread))
	}
	keepJSON(t, "thread", thread)
	keepJSON(t, "card", thread[2])
	if err := s.Home(s.ctx, operator, picturedHome()); err != nil {
		t.Fatal(err)
	}
	keepJSON(t, "home", s.server.Home(operator).Raw)
}

func keepJSON(t *testing.T, name string, payload any) {
	t.Helper()
	raw, err := json.MarshalIndent(payload, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	keep(t, name, raw)
}

func picturedThread() []bot.Text {
	verbs := []bot.Choice{{ID: "verb:status", Label: "Status"}, {ID: "verb:forensics", Label: "Forensics"}, {ID: "verb:cycle", Label: "Cycle …", Danger: true}}
	return []bot.Text{
		{
			Body: "⏳ Working 0:14 · `ssh devvm 'sudo dmesg -T | tail -40'`\n\n✓ `ssh devvm 'uptime; free -h; df -h'`  10.0 s · timed out  \n" +
				"✓ `ssh pve status`  0.4 s · running · no block I\\/O for 12 s\n\nThe guest still answers pings, but its disk path is dead inside QEMU.\n",
			Choices: []bot.Choice{{ID: "stop:t1", Label: "Stop"}},
		},
		{
			Body: "🔴 Cycle devvm? running 9 d 4 h · no block I\\/O for 12 s · forensics 20 s old\nA cycle stops the VM, proves it dead and starts a fresh QEMU. Unsaved guest memory is lost.\n" +
				"Asked by operator. Only operator may confirm.\nOr type: `confirm 4F7Q` · `cancel 4F7Q` · open until 18:24:10",
			Choices: []bot.Choice{{ID: "confirm:1", Label: "Cycle devvm", Danger: true}, {ID: "cancel:1", Label: "Cancel"}},
		},
		{Body: "✅ devvm is back after 41 s (cycle by operator, op c81f). SSH answered. 1 failed unit: t3-serve\nstopped 2 s · proof of death 1 s · started 3 s · SSH 35 s", Choices: verbs, Files: capture()[:1]},
		{Body: "🤖 **The disk path inside QEMU was stuck.** What I saw:\n\n| step | before | after |\n|---|---|---|\n| read of 4 KiB | > 12 s | 0.3 ms |\n| failed units | – | t3-serve |\n\n" +
			"```sh\nsudo systemctl restart t3-serve   # <- this is left to do\n```\n\n1. Restart `t3-serve`.\n2. Watch `vm status` for a minute.\n\n> The host's own disk was never slow."},
	}
}

func picturedHome() bot.Text {
	return bot.Text{
		Body: "🟠 devvm: running 9 d 4 h · no block I\\/O for 12 s\nThe host advises: cycle.\n\n**Running now**\n\n- 0:14 · `ssh devvm 'sudo dmesg -T | tail -40'` · asked by operator\n\n" +
			"**Open cards**\n\nNone.\n\n**Done lately**\n\n- 18:20 `forensics` by operator: captured in 4 s\n- 29 Nov 03:11 `cycle` by operator: back after 41 s. Confirmed by second.",
		Choices: []bot.Choice{
			{ID: "stop:t1", Label: "Stop the turn of operator"},
			{ID: "verb:status", Label: "Status"},
			{ID: "verb:forensics", Label: "Forensics"},
			{ID: "verb:start", Label: "Start …", Danger: true},
			{ID: "verb:reset", Label: "Reset …", Danger: true},
			{ID: "verb:stop", Label: "Stop …", Danger: true},
			{ID: "verb:cycle", Label: "Cycle …", Danger: true},
		},
	}
}
