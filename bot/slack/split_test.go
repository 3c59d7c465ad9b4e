package slack

import (
	"fmt"
	"strings"
	"testing"
)

func TestALongTextIsCutBetweenParagraphs(t *testing.T) {
	t.Parallel()
	a, b := strings.Repeat("first words. ", 40), strings.Repeat("second words. ", 40)
	parts := split(a+"\n\n"+b, 1000)
	if len(parts) != 2 || strings.TrimSpace(parts[0]) != strings.TrimSpace(a) || strings.TrimSpace(parts[1]) != strings.TrimSpace(b) {
		t.Errorf("got %d parts:\n%s", len(parts), strings.Join(parts, "\n=====\n"))
	}
}

func TestACodeBlockIsClosedAndOpenedAgainWithItsLanguage(t *testing.T) {
	t.Parallel()
	for name, fenced := range map[string][3]string{
		"plain":      {"```sh", "```sh", "```"},
		"tilde":      {"~~~ python", "~~~ python", "~~~"},
		"quoted":     {"> ```go", "> ```go", "> ```"},
		"in an item": {"- ```sh", "```sh", "```"},
	} {
		prefix := ""
		if name == "quoted" {
			prefix = "> "
		}
		body := fenced[0] + "\n" + strings.Repeat(prefix+"dmesg | tail\n", 100) + prefix + fenced[2] + "\nDone."
		if name == "quoted" {
			body = fenced[0] + "\n" + strings.Repeat(prefix+"dmesg | tail\n", 100) + fenced[2] + "\n\nDone."
		}
		parts := split(body, 800)
		if len(parts) < 2 {
			t.Fatalf("%s: %d parts", name, len(parts))
		}
		for i, part := range parts {
			if i > 0 && strings.Contains(part, "dmesg") && !strings.HasPrefix(part, fenced[1]+"\n") {
				t.Errorf("%s: part %d begins %q", name, i, part[:20])
			}
			if open := left(part); open {
				t.Errorf("%s: part %d leaves its code open:\n%s", name, i, part)
			}
		}
		if n := strings.Count(strings.Join(parts, "\n"), "dmesg"); n != 100 {
			t.Errorf("%s: %d of 100 lines", name, n)
		}
	}
}

func TestATableGetsItsHeadAgain(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("What I saw:\n\n| unit | state |\n|---|:---:|\n")
	for i := range 100 {
		fmt.Fprintf(&b, "| unit-%d.service | failed |\n", i)
	}
	parts := split(b.String()+"\nAnd **that** is all.", 1000)
	rows := 0
	for i, part := range parts {
		rows += strings.Count(part, ".service")
		if i > 0 && !strings.HasPrefix(part, "| unit | state |\n|---|:---:|\n| unit-") {
			t.Errorf("part %d begins %q", i, part[:40])
		}
	}
	if rows != 100 || len(parts) < 3 || !strings.HasSuffix(parts[len(parts)-1], "And **that** is all.") {
		t.Errorf("%d rows in %d parts", rows, len(parts))
	}
}

func TestAListIsCutBetweenItsItemsAndKeepsItsNumbers(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, "%d. %s\n    - %s\n", i+1, strings.Repeat("step ", 8), strings.Repeat("detail ", 6))
	}
	parts := split(b.String(), 1000)
	for i, part := range parts {
		if part[0] < '0' || part[0] > '9' {
			t.Errorf("part %d begins %q", i, part[:20])
		}
	}
	if len(parts) < 3 {
		t.Errorf("%d parts", len(parts))
	}
}

func TestAnInnerListThatBeginsAPartIsNoCode(t *testing.T) {
	t.Parallel()
	body := "1. first\n" + strings.Repeat("    - "+strings.Repeat("detail ", 8)+"\n", 40) + "2. second"
	for i, part := range split(body, 1000) {
		if strings.HasPrefix(part, "    ") {
			t.Errorf("part %d begins %q", i, part[:20])
		}
	}
}

// left says that a text ends within a fenced block.
func left(text string) bool {
	var open *fence
	for line := range strings.SplitSeq(text, "\n") {
		if open != nil && open.outlived(line) {
			open = nil
		}
		switch f, is := opens(line); {
		case open != nil && open.closes(line):
			open = nil
		case open == nil && is:
			open = &f
		}
	}
	return open != nil
}

// ink is what is left of a text without blanks and without what splitting adds.
func ink(text string) map[rune]int {
	n := map[rune]int{}
	for _, r := range text {
		if !strings.ContainsRune(" \t\n`~>|:-", r) {
			n[r]++
		}
	}
	return n
}

func FuzzSplit(f *testing.F) {
	f.Add("a\n\n```sh\n"+strings.Repeat("x <y> & z\n", 80)+"```\nend", 500)
	f.Add("| a | b |\n|---|---|\n"+strings.Repeat("| 1 | 2 |\n", 90), 500)
	f.Add("> ~~~ q\n> "+strings.Repeat("z", 900), 500)
	f.Add("1. a\n   ```\n"+strings.Repeat("   🦊 code\n", 90)+"   ```\n2. b", 600)
	f.Add(strings.Repeat("&lt;", 400), 500)
	f.Fuzz(func(t *testing.T, body string, most int) {
		if most < 500 || most > 5000 || !utf8Valid(body) {
			t.Skip()
		}
		parts := split(body, most)
		got := map[rune]int{}
		for i, part := range parts {
			if size(part) > most {
				t.Errorf("part %d has %d of %d", i, size(part), most)
			}
			if left(part) {
				t.Errorf("part %d leaves its code open", i)
			}
			for r, n := range ink(part) {
				got[r] += n
			}
		}
		for r, n := range ink(body) {
			if got[r] < n {
				t.Errorf("%q: %d of %d are left", r, got[r], n)
			}
		}
	})
}
