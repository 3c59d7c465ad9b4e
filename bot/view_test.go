package bot

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bgbot/agentrun"
)

var t0 = time.Date(2026, 6, 22, 3, 0, 0, 0, time.UTC)

func TestATurnAsAPhoneShowsIt(t *testing.T) {
	v := newView("t1", t0)
	for _, e := range []agentrun.Event{
		agentrun.Started{},
		agentrun.Text{ID: "a", Text: "I look", Partial: true},
		agentrun.Text{ID: "a", Text: "I look at the disk."},
		agentrun.Tool{ID: "1", Name: "Bash", Input: "ssh devvm 'df -h'"},
		agentrun.ToolResult{ID: "1", Output: "Filesystem  Size\n/dev/sda1 10G", Took: 1200 * time.Millisecond},
		agentrun.Tool{ID: "2", Name: "Bash", Input: "ssh devvm `reboot`"},
		agentrun.ToolResult{ID: "2", Output: "not now", Denied: true, Failed: true},
		agentrun.Tool{ID: "3", Name: "Bash", Input: "ssh devvm uptime"},
	} {
		v.add(e, t0)
	}
	pages := v.pages(t0.Add(14 * time.Second))
	want := "⏳ Working 0:14 · `ssh devvm uptime`\n\n" +
		"I look at the disk.\n\n" +
		"✓ `ssh devvm 'df -h'`  1.2 s · Filesystem Size  \n" +
		"⊘ ``ssh devvm `reboot` ``  did not run · not now  \n" +
		"▸ `ssh devvm uptime`"
	want = strings.Replace(want, "``ssh devvm `reboot` ``", "`` ssh devvm `reboot` ``", 1)
	if len(pages) != 1 || pages[0].Body != want {
		t.Errorf("got\n%s\nwant\n%s", pages[0].Body, want)
	}
	if c := pages[0].Choices; len(c) != 1 || c[0].ID != "stop:t1" {
		t.Errorf("a running turn has the choices %v, want Stop", c)
	}
}

func TestTheAnswerIsNotSaidTwice(t *testing.T) {
	v := newView("t1", t0)
	v.add(agentrun.Text{ID: "a", Text: "All is well."}, t0)
	v.end("✅ Done in 0:03", "All is well.")
	if got := v.pages(t0)[0]; got.Body != "✅ Done in 0:03" || got.Choices != nil {
		t.Errorf("got %q with %v", got.Body, got.Choices)
	}
}

func TestTheFirstLineFitsALockScreen(t *testing.T) {
	v := newView("t1", t0)
	v.add(agentrun.Tool{ID: "1", Name: "Bash", Input: strings.Repeat("é`very long command ", 100)}, t0)
	first, _, _ := strings.Cut(v.pages(t0.Add(40 * time.Hour))[0].Body, "\n")
	if n := utf8.RuneCountInString(first); n > 120 {
		t.Errorf("the first line has %d characters: %s", n, first)
	}
	v.place = 3
	first, _, _ = strings.Cut(v.pages(t0)[0].Body, "\n")
	if n := utf8.RuneCountInString(first); n > 120 || !strings.Contains(first, "place 3") {
		t.Errorf("the first line has %d characters: %s", n, first)
	}
}

func TestALongTurnGoesOnInFurtherMessages(t *testing.T) {
	v := newView("t1", t0)
	var before []Text
	for i := range 300 {
		v.add(agentrun.Text{ID: string(rune('a' + i)), Text: strings.Repeat("word ", 20)}, t0)
		pages := v.pages(t0)
		for j := range len(before) - 1 { // what is full stays as it was
			if pages[j].Body != before[j].Body {
				t.Fatalf("page %d changed after it was full", j)
			}
		}
		before = pages
	}
	if len(before) < 5 {
		t.Fatalf("only %d pages", len(before))
	}
	words := 0
	for i, p := range before {
		if n := utf8.RuneCountInString(p.Body); n > 3800 {
			t.Errorf("page %d has %d characters", i, n)
		}
		if i < len(before)-1 && p.Choices != nil {
			t.Errorf("page %d of a longer turn still has a button", i)
		}
		words += strings.Count(p.Body, "word")
	}
	if words != 6000 {
		t.Errorf("%d of 6000 words are shown", words)
	}
}

func TestAPageThatWasShownIsNeverTakenBack(t *testing.T) {
	v := newView("t1", t0)
	v.add(agentrun.Tool{ID: "1", Name: "Bash", Input: "id"}, t0)
	v.add(agentrun.ToolResult{ID: "1"}, t0)
	answer := strings.Repeat("a long answer\n\n", 500)
	v.add(agentrun.Text{ID: "a", Text: answer}, t0)
	n := len(v.pages(t0))
	v.end("✅ Done", answer)
	pages := v.pages(t0)
	if len(pages) != n || pages[n-1].Body[:len("✅ Done")] != "✅ Done" {
		t.Errorf("%d pages became %d", n, len(pages))
	}
	for i, p := range pages {
		if p.Choices != nil {
			t.Errorf("page %d of a turn that is over still has a button", i)
		}
	}
}

func TestForeignTextIsNeverMarkup(t *testing.T) {
	for in, want := range map[string]string{
		"@channel **now** <!here>": "@\u2060channel \\*\\*now\\*\\* \\<\\!here\\>",
		"a\nb\x1b[31mc":            "a b\\[31mc",
	} {
		if got := plain(in, 100); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
	if got := code("``` x", 50); got != "```` ``` x ````" {
		t.Errorf("code fence can be closed from inside: %q", got)
	}
	if got := block("a\n```\nb"); !strings.HasPrefix(got, "````\n") {
		t.Errorf("block can be closed from inside: %q", got)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("a\n\nb\n```\ncode\n```\n", 5)
	f.Add(strings.Repeat("é", 50), 7)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 1 || n > 5000 || !utf8.ValidString(s) {
			return
		}
		letters := func(s string) string {
			return strings.Map(func(r rune) rune {
				if r == '\n' || r == '`' {
					return -1
				}
				return r
			}, s)
		}
		parts := split(s, n)
		if got := letters(strings.Join(parts, "")); got != letters(s) {
			t.Errorf("split(%q, %d) lost text: %q", s, n, parts)
		}
	})
}

// What ran is to be read whole somewhere in the chat, also when it had little to say.
func TestALongCommandWithoutOutputIsInTheFile(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"uptime": "", strings.Repeat("ä", 160): "",
		"true " + strings.Repeat("x", 160) + "; rm -rf /srv/data": "rm -rf /srv/data",
	} {
		v := &view{}
		v.add(agentrun.Tool{ID: "1", Name: "Bash", Input: command}, time.Now())
		v.add(agentrun.ToolResult{ID: "1", Output: "ok"}, time.Now())
		if got := v.transcript(); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%.20s…: got %q, want %q in it", command, got, want)
		}
	}
}
