package console

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// history is what was typed, also in earlier runs. With a path it is kept in a file, one quoted line each, which
// several consoles may append to.
type history struct {
	path  string
	lines []string
	at    int    // which line is shown; len(lines) = the draft
	draft string // what stood in the input before
}

const (
	remembered = 500     // lines that are kept when the file is read
	tooLong    = 4 << 10 // what was pasted is no line to bring back
)

// openHistory reads the file, which need not exist. The history that it returns can be used also with an error.
func openHistory(path string) (*history, error) {
	h := &history{}
	if path == "" {
		return h, nil
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return h, err
	}
	for line := range strings.Lines(string(data)) {
		if text, err := strconv.Unquote(strings.TrimSpace(line)); err == nil {
			h.lines = append(h.lines, clean(text))
		}
	}
	long := len(h.lines) > 2*remembered
	h.lines = h.lines[max(0, len(h.lines)-remembered):]
	h.at = len(h.lines)
	h.path = path
	if long {
		return h, h.rewrite()
	}
	return h, nil
}

// add remembers text, unless it repeats the last line.
func (h *history) add(text string) error {
	text = strings.TrimSpace(text)
	if text != "" && len(text) <= tooLong && (len(h.lines) == 0 || h.lines[len(h.lines)-1] != text) {
		h.lines = append(h.lines, text)
		defer h.rest()
		return h.write(os.O_APPEND, h.lines[len(h.lines)-1:])
	}
	h.rest()
	return nil
}

// rest goes back to the draft, which is empty now.
func (h *history) rest() { h.at, h.draft = len(h.lines), "" }

func (h *history) rewrite() error { return h.write(os.O_TRUNC, h.lines) }

func (h *history) write(how int, lines []string) error {
	if h.path == "" {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(h.path), 0o700)
	if err == nil {
		err = writeLines(h.path, how, lines)
	}
	if err != nil {
		h.path = "" // said once
	}
	return err
}

func writeLines(path string, how int, lines []string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|how, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(0o600); err != nil { // it may have been made by hand
		return err
	}
	for line := range slices.Values(lines) {
		if _, err := fmt.Fprintln(f, strconv.Quote(line)); err != nil {
			return err
		}
	}
	return f.Close()
}

// older is the line before the one that is shown; now is what the input holds.
func (h *history) older(now string) (string, bool) {
	if h.at == 0 {
		return "", false
	}
	if h.at == len(h.lines) {
		h.draft = now
	}
	h.at--
	return h.lines[h.at], true
}

// newer is the line after the one that is shown, and at last what the input held before.
func (h *history) newer() (string, bool) {
	if h.at >= len(h.lines) {
		return "", false
	}
	h.at++
	if h.at == len(h.lines) {
		return h.draft, true
	}
	return h.lines[h.at], true
}
