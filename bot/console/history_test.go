package console

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHistoryOutlivesTheConsole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "history")
	h, err := openHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one", "two\nlines", "two\nlines", " ", "\x1b[31mthree"} {
		if err := h.add(line); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	again, err := openHistory(path)
	if err != nil || len(again.lines) != 3 || again.lines[1] != "two\nlines" || again.lines[2] != "three" {
		t.Errorf("read %q, %v", again.lines, err)
	}
}

func TestAHistoryThatOthersCanReadIsClosed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, []byte("\"one\"\nnot quoted\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := openHistory(path)
	if err != nil || len(h.lines) != 1 {
		t.Errorf("read %q, %v", h.lines, err)
	}
	if err := h.add("two"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
}

func TestALongHistoryIsCut(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history")
	var b strings.Builder
	for i := range 3 * remembered {
		fmt.Fprintf(&b, "%q\n", fmt.Sprint(i))
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openHistory(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if got := strings.Count(string(data), "\n"); err != nil || got != remembered || !strings.HasPrefix(string(data), `"1000"`) {
		t.Errorf("%d lines are kept, %v", got, err)
	}
}

func TestAHistoryThatCannotBeWrittenIsSaidOnce(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := openHistory("")
	if err != nil {
		t.Fatal(err)
	}
	h.path = filepath.Join(folder, "history")
	if h.add("one") == nil {
		t.Error("the first line was not missed")
	}
	if err := h.add("two"); err != nil {
		t.Errorf("it is said again: %v", err)
	}
	if got, ok := h.older(""); !ok || got != "two" {
		t.Errorf("Up gives %q", got)
	}
}
