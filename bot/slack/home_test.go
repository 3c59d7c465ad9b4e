package slack

import (
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
	for _, row := range view.Blocks {
		for _, b := range row.Buttons {
			if b.Style != row.Buttons[0].Style {
				t.Errorf("%q stands beside %q", b.Label, row.Buttons[0].Label)
			}
		}
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
		"# The **disk** is full #":            "*The disk is full*",
		"**a** and __b__ and *c* and _d_":     "*a* and *b* and _c_ and _d_",
		"~~old~~ 2*3*4":                       "~old~ 2*3*4",
		`\*not\* \_this\_ a\_b`:               "*" + joiner + "not*" + joiner + " _" + joiner + "this_" + joiner + " a_" + joiner + "b",
		"[the log](https://a.example/?a&b)":   "<https://a.example/?a&amp;b|the log>",
		"[pve.local](https://evil.example)":   "pve.local (https://evil.example)",
		"![i](https://evil.example/leak?k=1)": "i (https://evil.example/leak?k=1)",
		"[x](javascript:alert(1))":            "[x](javascript:alert(1))",
		"[<!here>](https://a.example)":        "<https://a.example|&lt;!here&gt;>",
		"> quoted <@U1>":                      "> quoted &lt;@U1&gt;",
		"1. one\n2. two":                      "1. one\n2. two",
		"- a\n  - b":                          "• a\n  • b",
		"`a <b> & *c*`":                       "`a &lt;b&gt; &amp; *c*`",
		"```sh\nls <x> && **y**\n```":         "```\nls &lt;x&gt; &amp;&amp; **y**\n```",
		"&lt;!here&gt; &amp;lt;":              "&lt;!here&gt; &amp;lt;",
		"<https://evil.example|your bank>":    "&lt;https://evil.example|your bank&gt;",
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
	for _, kind := range []slacktest.FaultKind{slacktest.HTML502, slacktest.Reset, slacktest.RateLimitedOK} {
		s.server.Inject(slacktest.Fault{Methods: []string{"assistant.threads.setStatus"}, Kind: kind, Times: 1})
		if err := s.Working(s.ctx, p, "thinks"); err == nil {
			t.Errorf("%s: no error", kind)
		}
	}
	s.api = newClient(s.server.BotToken(), s.server.URL(), &silence{}, silent) // the limit is over
	if err := s.Working(s.ctx, p, "thinks"); err != nil || s.mute {
		t.Errorf("%v", err)
	}
}
