package qmp_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"bgbot/pve/qmp"
)

// Whatever comes, and in whatever pieces: a line is whole, within the limit and not empty, and nothing panics on it.
func FuzzLines(f *testing.F) {
	f.Add([]byte(greeting + event + "{\"return\": {}, \"id\": 1}\r\n"))
	f.Add([]byte("\r\n\n \n{\n\xff{\"return\": 7}\n{\"error\": {\"class\": 1}}\n{\"half"))
	f.Add([]byte(strings.Repeat("x", 300) + "\n"))
	const limit = 200
	f.Fuzz(func(t *testing.T, sent []byte) {
		var want []string
		tooLong := false
		for line := range bytes.Lines(sent) {
			if len(line) > limit {
				tooLong = true
				break
			}
			if word := bytes.TrimSpace(line); len(word) > 0 && bytes.HasSuffix(line, []byte("\n")) {
				want = append(want, string(word))
			}
		}
		in := bufio.NewReaderSize(iotest.HalfReader(bytes.NewReader(sent)), 16)
		for {
			line, err := qmp.ReadLine(in, limit)
			if err != nil {
				if errors.Is(err, io.EOF) == tooLong || len(want) > 0 {
					t.Fatalf("%v with %q to come (too long: %v)", err, want, tooLong)
				}
				return
			}
			if len(want) == 0 || string(line) != want[0] {
				t.Fatalf("got %q, want %q", line, want)
			}
			want = want[1:]
			_, _ = qmp.Parse(line)
		}
	})
}
