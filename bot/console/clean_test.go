package console

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestTheAgentCannotDriveTheTerminal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain, ünï, ✅ 🔴 👩‍🚀":                    "plain, ünï, ✅ 🔴 👩‍🚀",
		"\x1b[31mred\x1b[0m":                     "red",
		"\x1b[2J\x1b[1;1Hhome":                   "home",
		"\x1b]0;title\x07text":                   "text",
		"\x1b]52;c;ZXZpbA==\x1b\\text":           "text",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x07": "link",
		"\x1bP+q544e\x1b\\dcs":                   "dcs",
		"\u009b31mc1":                            "c1",
		"\u009d0;title\u009ctext":                "text",
		"\x9b31mraw":                             "\uFFFD31mraw",
		"\x1b(0charset \x1bc reset":              "charset  reset",
		"\x1b]0;no end\nsecond line":             "]0;no end\nsecond line",
		"\x1b[31":                                "[31",
		"\x1b":                                   "",
		"10%\r20%\r\nnext":                       "10%\n20%\nnext",
		"a\tb\x00\x07\x08\x7fc":                  "a    bc",
		"safe\u202egnp.exe":                      "safegnp.exe",
		"\U000f003cb":                            "b",
		"by @\u2060kim\u200b\ufeff":              "by @kim",
		"bad \xff utf8":                          "bad \uFFFD utf8",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b]52;c;AAAA\x07\x1b[2J\u009b5m\u0090x\u009c\r\n\t")
	f.Add("\x1b\x1b[[31m\x1b]\x1b\\")
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
		if i := strings.IndexFunc(got, func(r rune) bool {
			return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r))
		}); i >= 0 {
			t.Fatalf("%q keeps a control at %d", got, i)
		}
		if again := clean(got); again != got {
			t.Fatalf("clean is not stable: %q, then %q", got, again)
		}
	})
}

func TestAFloodOfIntroducersIsQuick(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"\u009d", "\x1b]", "\x1b[", "\x1bP1", "\u009b1;"} {
		start := time.Now()
		clean(strings.Repeat(s, 1<<20/len(s)))
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a megabyte of %q took %v", s, took)
		}
	}
}
