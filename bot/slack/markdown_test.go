package slack

import (
	"html"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func utf8Valid(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, joiner) }

func TestNothingPingsAndNothingIsLostInProse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a <!channel> b":                                       "a &lt;!channel> b",
		"hello <@U123> and <#C1|x>":                            "hello &lt;@U123> and &lt;#C1|x>",
		"<!subteam^S1|@ops>":                                   "&lt;!subteam^S1|@ops>",
		"<https://evil.example|your bank>":                     "&lt;https://evil.example|your bank>",
		"see <https://a.example/?x=1&y=2>.":                    "see https://a.example/?x=1&y=2.",
		"see <https://a.example>b":                             "see https://a.example b",
		`\<!here\> \& \*x\* a\_b`:                              "&lt;!here&gt; &amp; \\*x\\* a\\_b",
		`sda1 \| 80% \#1 \{a\}, oh\!`:                          `sda1 | 80% #1 {a}, oh!`,
		"\\# no heading\n| a \\| b |":                          "\\# no heading  \n| a \\| b |",
		`\![no](picture)`:                                      `\![no](picture)`,
		`\\<!here>`:                                            `\\&lt;!here>`,
		"@here @Channel @everyone @operator":                   "@" + joiner + "here @" + joiner + "Channel @" + joiner + "everyone @operator",
		"> quoted\n> more":                                     "> quoted  \n> more",
		"a && b || c":                                          "a && b || c",
		"[x](https://a.example/?a=1&b=2)":                      "[x](https://a.example/?a=1&b=2)",
		"&lt;!here&gt;":                                        "&lt;!here&gt;",
		"[https://pve.local/login](https://evil.example/?d=x)": "https://pve.local/login (https://evil.example/?d=x)",
		"[**pve.local**](https://evil.example)":                "**pve.local** (https://evil.example)",
		"[https://pve.local/a](https://pve.local/a/)":          "[https://pve.local/a](https://pve.local/a/)",
		"![i](https://evil.example/leak?k=1)":                  "i (https://evil.example/leak?k=1)",
		"![](https://evil.example/leak?k=1)":                   "(https://evil.example/leak?k=1)",
		"[`pve.local`](https://evil.example)":                  "[`pve.local`] (https://evil.example)",
		"[a [pve.local]](https://evil.example)":                "[a [pve.local]] (https://evil.example)",
		"[pve.local][1]\n\n> [1]: https://evil.example":        "[pve.local] [1]\n\n> \\[1]: https://evil.example",
		"- [pve.local]: https://evil.example\n\n[pve.local]":   "- \\[pve.local]: https://evil.example\n\n[pve.local]",
		"1. [pve.local]: https://evil.example":                 "1. \\[pve.local]: https://evil.example",
		"> - * 2) [pve.local]: https://evil.example":           "> - * 2) \\[pve.local]: https://evil.example",
		"a - [x]: no definition":                               "a - [x]: no definition",
		"[the log](https://a.example/x_(y) \"t\")":             "[the log](https://a.example/x_(y) \"t\")",
		"state\nwhy":                                           "state  \nwhy",
		"one\n\ntwo\n":                                         "one\n\ntwo\n",
		"run `x`\nand `y`\nnow":                                "run `x`  \nand `y`  \nnow",
		"| a | b |\n|---|---|\n| 1 | 2 |":                      "| a | b |\n|---|---|\n| 1 | 2 |",
		"already  \nhard\\\nbreaks":                            "already  \nhard\\\nbreaks",
		"a ` b <x> c":                                          "a ` b &lt;x> c",
		"code `a <b> 2>&1` end <c>":                            "code `a <b> 2>&1` end &lt;c>",
		"`<!channel>` and `<@U1>`":                             "`<" + joiner + "!channel>` and `<" + joiner + "@U1>`",
		"``a ` <#C1>`` <!x>":                                   "``a ` <" + joiner + "#C1>`` &lt;!x>",
		"```\ncat <<EOF >x\n<!here>\n```\n":                    "```\ncat <<EOF >x\n<" + joiner + "!here>\n```\n",
		"~~~\na\nb\n~~~\n<!here>\nz":                           "~~~\na\nb\n~~~\n&lt;!here>  \nz",
		"> ```\n> x\n<!here>":                                  "> ```\n> x\n&lt;!here>",
		"`never closed\n\n`<!here>":                            "`never closed\n\n`&lt;!here>",
	} {
		if got := dialect(in); got != want {
			t.Errorf("%q\n got %q\nwant %q", in, got, want)
		}
	}
}

func FuzzDialect(f *testing.F) {
	f.Add("`a` <!here> ```\n<@U1>\n```")
	f.Add("\\<\\`<x>`\\`<!y>`")
	f.Add("> ~~~\n<!a>\n> ~~~\n- ```x\n<!b>")
	f.Add("<https://a.b>`<https://c|d>`")
	token := regexp.MustCompile(`<(?:[!@#]|https?:|mailto:)`)
	f.Fuzz(func(t *testing.T, body string) {
		if !utf8Valid(body) {
			t.Skip()
		}
		got := dialect(body)
		if m := token.FindString(got); m != "" {
			t.Errorf("%q is still in %q", m, got)
		}
		for part := range strings.SplitSeq(got, "\n") {
			if strings.Contains(part, "@here") && !strings.Contains(got, "`") && !strings.Contains(got, "~") && !strings.Contains(got, `\@here`) {
				t.Errorf("@here is still in %q", got)
			}
		}
		for _, p := range pieces(got) {
			if !p.code && strings.Contains(p.text, "<") && !strings.Contains(body, "`") && !strings.Contains(body, "~") {
				t.Errorf("a bare < in %q", got)
			}
		}
		bare := strings.NewReplacer("\\", "", joiner, "", " ", "", "<", "", ">", "")
		if a, b := bare.Replace(html.UnescapeString(body)), bare.Replace(html.UnescapeString(got)); a != b && !strings.Contains(body, "&") {
			t.Errorf("changed:\n%q\n%q", a, b)
		}
	})
}

func TestTheNotificationIsTheStateWithoutMarkup(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"✅ devvm is back after 41 s\nmore":                 "✅ devvm is back after 41 s",
		"⏳ Working 0:14 · `ssh devvm 'dmesg | tail'`\n\nx": "⏳ Working 0:14 · ssh devvm 'dmesg | tail'",
		"🤖\n\n# The disk is **full**":                      "🤖 The disk is full",
		`🔴 Cycle devvm? no block I\/O \& a \<b\>`:          "🔴 Cycle devvm? no block I/O &amp; a &lt;b&gt;",
		"see [the log](https://a.example) at once":         "see the log at once",
		"tell @channel and <!here>":                        "tell @" + joiner + "channel and &lt;!here&gt;",
		"":                                                 "…",
		"```\ncode first\n```":                             "code first",
	} {
		if got := fallback(in); got != want {
			t.Errorf("%q\n got %q\nwant %q", in, got, want)
		}
	}
	if got := fallback(strings.Repeat("&", 1000)); utf8.RuneCountInString(got) > 300 || !strings.HasSuffix(got, "&amp;…") {
		t.Errorf("%d characters: …%q", utf8.RuneCountInString(got), got[len(got)-12:])
	}
}

// A call to Slack has 15 s, and what an agent says on one line must not take them.
func TestALineOfTenTimesTheLengthTakesTenTimesAsLong(t *testing.T) {
	t.Parallel()
	took := func(n int) time.Duration {
		began := time.Now()
		_ = dialect(strings.Repeat("[", n))
		return time.Since(began)
	}
	if short, long := took(20_000), took(200_000); long > 35*short {
		t.Errorf("a line of 20,000 brackets takes %s, one of 200,000 %s", short, long)
	}
}
