package console

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"charm.land/lipgloss/v2"
)

func TestWhatIsShownIsWhatWasSaid(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"⏳ **Working** 0:14\n✓ one\n✓ two":      "⏳ Working 0:14\n✓ one\n✓ two",
		"`sed 's/\\./x/' <a &27; &#27;b`":       `sed 's/\./x/' <a &27; &#27;b`,
		"``a ` \\` b``":                         "a ` \\` b",
		"```sh\nsed 's/\\./x/' <in &#7; &\n```": `sed 's/\./x/' <in &#7; &`,
		"~~~\n```\n\\.\n~~~":                    "```\n\\.",
		"text\n\n    code \\. &#27;":            "text\n\ncode \\. &#27;",
		"qm reset <vmid> <script>x</script>":    "qm reset <vmid> <script>x</script>",
		"&#27;[31m &#x9b;5m &Tab; &copy &amp;":  "&#27;[31m &#x9b;5m &Tab; &copy &",
		`a\*b\_c \<d\> \~ \" C:\x`:              `a*b_c <d> ~ " C:\x`,
		"one  \ntwo":                            "one\ntwo",
		"a_b_c 2*3*4":                           "a_b_c 234",
		"see https://x.example/?a=1&b=2":        "see https://x.example/?a=1&b=2",
		"- one\n- two\n  - three\n\n1. x\n2. y": "• one\n• two\n  • three\n\n\n1. x\n2. y",
		"> said\n> so":                          "│ said\n│ so",
		"# Head\ntext":                          "Head\ntext",
		"an unclosed ` tick \\. <x>":            "an unclosed ` tick . <x>",
		"":                                      "",
	} {
		var m markdown
		if got := clean(strings.Join(m.lines(clean(in), 60), "\n")); strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%q is shown as\n%s\nwant\n%s", in, got, want)
		}
	}
}

func TestNoStopMarkStandsAlone(t *testing.T) {
	t.Parallel()
	var m markdown
	for width := 20; width < 40; width++ {
		for _, line := range m.lines("- Look at the storage and the QEMU version, by day, or not.\n- x.", width) {
			if strings.Trim(clean(line), " .,") == "" {
				t.Errorf("at width %d a row is %q", width, line)
			}
		}
	}
}

var colours = regexp.MustCompile("\x1b\\[[0-9;:]*m")

func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{evil, "`&#27;`", "[a](http://x/&#27;]0;t&#7;)", "<http://x/&#7;>", "![i](u \"&#27;t\")", "| a |\n|-|\n| &#27; |", "http://localhost/&#27;[2J", "- [ ] x\n\t- y"} {
		f.Add(s, 40)
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		width = 1 + (width&0xff+0xff)&0xff
		var m markdown
		for _, line := range m.lines(clean(s), width) {
			text := colours.ReplaceAllString(line, "")
			if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 {
				t.Fatalf("%q keeps a control at %d of %q", s, i, text)
			}
			if w := lipgloss.Width(line); w > max(width, 2) {
				t.Fatalf("%q is %d columns wide, not %d", line, w, width)
			}
		}
	})
}

func TestWordsBetweenTwoCodeSpansAreNotCode(t *testing.T) {
	t.Parallel()
	in := "⊘ `ssh`  did: and \\`cycle\\` changes `x`"
	if got, want := unshield(shield(in)), "⊘ `ssh`  did: and `cycle` changes `x`"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
