package agentrun

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

// at is a moment; the reader of lines has no clock of its own.
var at = time.Date(2026, 11, 22, 18, 20, 0, 0, time.UTC)

// pipeline is the way of lines into a process that has no CLI.
func pipeline(t *testing.T) (feed func(string), gather func() []any) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{lines: make(chan any), log: slog.New(slog.DiscardHandler)}
	go func() {
		defer close(p.lines)
		defer r.Close()
		p.readLines(r)
	}()
	feed = func(text string) {
		defer w.Close()
		_, _ = w.WriteString(text)
	}
	return feed, func() (out []any) {
		for m := range p.lines {
			out = append(out, m)
		}
		return out
	}
}

// TestRecordings reads conversations with the real CLI and compares the events with those of before.
func TestRecordings(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/recordings/*.txt")
	if err != nil || len(files) < 22 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			replay(t, file, &got)
			golden := filepath.Join("testdata", "events", name+".txt")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", got.Bytes(), want)
			}
		})
	}
}

// replay writes the events of a recording, and what it asks and concludes.
func replay(t *testing.T, file string, to *bytes.Buffer) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Steps: 60, BudgetUSD: 5}
	r := newReader(false)
	lines := bufio.NewReader(bytes.NewReader(data))
	for {
		line, err := lines.ReadString('\n')
		if said, ok := strings.CutPrefix(line, "< "); ok {
			m, bad := decode([]byte(said))
			if bad != nil {
				t.Errorf("%v in %.100s", bad, said)
			}
			switch m := m.(type) {
			case *askLine:
				fmt.Fprintf(to, "ask %s %s\n", m.Request.Tool, m.Request.Input)
			case *withdrawLine:
				fmt.Fprintf(to, "withdrawn\n")
			case *lifecycleLine:
				fmt.Fprintf(to, "message %s %s\n", m.ID[:8], m.State)
			case *resultLine:
				if m.IsError {
					why, model := cfg.explain(m, r.kind, "sonnet")
					fmt.Fprintf(to, "failed: %s (model %v)\n", why, model)
				} else {
					fmt.Fprintf(to, "result: %s\n", m.Result)
				}
				if len(r.busy()) > 0 {
					fmt.Fprintf(to, "still running: %v\n", r.busy())
				}
			}
			for _, e := range r.read(m, at) {
				text := fmt.Sprintf("%T %+v", e, e)
				if len(text) > 300 {
					text = fmt.Sprintf("%.300s… (%d bytes)", text, len(text))
				}
				fmt.Fprintln(to, strings.TrimPrefix(strings.ReplaceAll(text, "\n", `\n`), "agentrun."))
			}
		}
		if err != nil {
			return
		}
	}
}

func TestCleanTextHasNothingButText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain ü\n\ttab":                  "plain ü\n\ttab",
		"\x1b[1;31mred\x1b[0m":            "red",
		"\x1b]0;title\x07text":            "text",
		"\x1b]8;;http://x\x1b\\link":      "link",
		"10%\r20%\r\ndone":                "10%\n20%\ndone",
		"nul\x00 bell\a del\x7f c1\u009b": "nul bell del c1",
		"bad \xff\xfe bytes":              "bad \uFFFD bytes",
		"cut \x1b":                        "cut ",
		"\x1b(Bascii":                     "ascii",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/recordings/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if said, ok := strings.CutPrefix(line, "< "); ok && len(said) < 4000 {
				f.Add([]byte(said))
			}
		}
	}
	f.Add([]byte(`{"type":"user","message":{"content":[{"type":"tool_result","content":7}]}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := decode(line)
		if err == nil && !json.Valid(line) {
			t.Error("it took what is not JSON")
		}
		r := newReader(false)
		r.running["toolu_stub_795_2"] = &call{since: at}
		for _, e := range r.read(m, at) {
			var text string
			switch e := e.(type) {
			case Text:
				text = e.Text
			case Tool:
				text = e.Input + e.Purpose
			case ToolResult:
				text = e.Output
			case Notice:
				text = e.Text
			case Started, Waiting, Folded, Result: // no text of the CLI
			}
			if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x1b\r") {
				t.Errorf("unclean text %q", text)
			}
		}
		if res, ok := m.(*resultLine); ok {
			cfg := Config{}
			if why, _ := cfg.explain(res, r.kind, "sonnet"); why == "" || strings.ContainsAny(why, "\n\x00") {
				t.Errorf("got reason %q", why)
			}
		}
	})
}
