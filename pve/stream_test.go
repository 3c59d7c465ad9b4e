package pve

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzOutput feeds a gate's output in two pieces: it must not crash, keep the limits, and read the same as in one piece.
func FuzzOutput(f *testing.F) {
	for _, text := range []string{
		"", "\n\n", "plain", `{"result":{"exit":0}}`, `{"op":"a","step":"s","state":"ok","data":"QUJD","name":"n"}` + "\n" + `{"result":null}`,
		`{"result":{"text":"\u001b[31m` + "\xff" + `"}}`, `{"step":1}`, `[]`, "{", `{"step":"x","at":"yesterday"}`,
	} {
		f.Add([]byte(text), len(text)/2)
	}
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		if at < 0 || at > len(text) {
			at = 0
		}
		whole, parts := readAll(text), readAll(text[:at], text[at:])
		if !reflect.DeepEqual(whole.report.Result, parts.report.Result) || len(whole.report.Steps) != len(parts.report.Steps) || whole.plain.String() != parts.plain.String() {
			t.Errorf("in one piece %+v, in two %+v", whole.report, parts.report)
		}
		for _, s := range append([]Step{{Text: whole.report.Result.Text, Op: whole.report.Result.Op}}, whole.report.Steps...) {
			if !utf8.ValidString(s.Text+s.Step+s.Op) || strings.ContainsAny(s.Text+s.Step+s.Op, "\x00\x1b") {
				t.Errorf("unclean: %+v", s)
			}
		}
		if whole.files > maxFiles || whole.plain.Len() > maxText+4*maxLine {
			t.Errorf("%d bytes of files, %d of text", whole.files, whole.plain.Len())
		}
	})
}

func readAll(parts ...[]byte) *reading {
	r := &reading{}
	s := &splitter{emit: func(line []byte) { r.take(line) }}
	for _, p := range parts {
		_, _ = s.Write(p)
	}
	s.flush()
	return r
}

func FuzzParseVerb(f *testing.F) {
	for _, s := range []string{"", "status", "status x", "cycle;id", "cycle\n", "сycle", "STOP", "stop\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVerb(s)
		if (err == nil) != strings.Contains(" status forensics start reset stop cycle ", " "+s+" ") || (err == nil && string(v) != s) {
			t.Errorf("%q: got %q, %v", s, v, err)
		}
		if err != nil && (len(err.Error()) > 400 || !utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\n\x00\x1b")) {
			t.Errorf("%q: the error is %q", s, err)
		}
	})
}

func TestEveryVerbHasABudgetAndWords(t *testing.T) {
	t.Parallel()
	for _, v := range Verbs() {
		if v.Budget() <= 0 || v.Explain() == Verb("x").Explain() {
			t.Errorf("%s: %s, %q", v, v.Budget(), v.Explain())
		}
	}
	if Verb("x").Budget() != 0 || Verb("x").Changes() || Words() != "status forensics start reset stop cycle" {
		t.Error("a word that is no verb")
	}
}

func TestALineOfAnyLengthDoesNotGrowTheBuffer(t *testing.T) {
	t.Parallel()
	lines := 0
	s := &splitter{emit: func([]byte) { lines++ }}
	for range 5 {
		_, _ = s.Write(bytes.Repeat([]byte("x"), 1<<20))
		if len(s.partial) > maxLine {
			t.Fatalf("%d bytes are kept", len(s.partial))
		}
	}
	_, _ = s.Write([]byte("\nshort\n"))
	if lines != 1 || !s.cutLines {
		t.Errorf("%d lines, cut %v", lines, s.cutLines)
	}
}
