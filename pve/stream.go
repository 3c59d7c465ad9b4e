package pve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// The limits on what a gate may say. Whatever overran is left out, and a note says so.
const (
	maxLine   = 1 << 20
	maxFiles  = 2 << 20
	maxOutput = 8 << 20
	maxText   = 64 << 10
)

// wireLine is one line of the gate: a step, or the result.
type wireLine struct {
	Step
	Result *Result `json:"result"`
}

// reading puts a report together, line by line.
type reading struct {
	report Report
	done   bool // the result line was seen
	plain  strings.Builder
	files  int // bytes
}

// take reads one line. It returns the step that the line holds, with its file, or nil. A line that is not JSON of the
// contract is text of a gate that we do not know, and kept as such.
func (r *reading) take(line []byte) *Step {
	var w wireLine
	if err := json.Unmarshal(line, &w); err != nil || (w.Result == nil && w.Step.Step == "") {
		if room := maxText - r.plain.Len(); room > 0 {
			r.plain.WriteString(clean(string(line[:min(len(line), room)])) + "\n")
		}
		return nil
	}
	if w.Result != nil {
		r.report.Result, r.done = *w.Result, true
		res := &r.report.Result
		for _, text := range []*string{&res.Op, &res.Text, &res.Status, &res.Verdict, &res.LastOp, &res.Lock, (*string)(&res.Advice)} {
			*text = clean(*text)
		}
		for i, key := range res.HostKeys {
			res.HostKeys[i] = clean(key)
		}
		return nil
	}
	step, file := w.Step, len(w.Data) > 0
	for _, text := range []*string{&step.Op, &step.Step, &step.Text, &step.Name, &step.Type} {
		*text = clean(*text)
	}
	if file && r.files+len(step.Data) > maxFiles {
		r.note("The file %s (%d bytes) was left out: the files of one run may have %d bytes.", step.Name, len(step.Data), maxFiles)
		step.Name, step.Type, step.Data = "", "", nil
	}
	if len(step.Data) > 0 {
		r.files += len(step.Data)
		r.report.Files = append(r.report.Files, File{Name: step.Name, Type: step.Type, Data: step.Data})
	}
	if !file { // a file is no step of its own: it comes between the beginning and the end of one
		r.report.Steps = append(r.report.Steps, step)
	}
	return &step
}

// last is the newest operation and step heard of.
func (r *reading) last() (op, step string) {
	if n := len(r.report.Steps); n > 0 {
		return r.report.Steps[n-1].Op, r.report.Steps[n-1].Step
	}
	return "", ""
}

func (r *reading) note(format string, args ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, args...))
}

// clean makes text of a host safe to show: valid UTF-8 without control characters, so without ANSI and NUL.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
}

// splitter cuts what is written to it into lines and hands each on. It never fails and never stops reading: one stream
// that is not drained blocks the other, since both share one window.
type splitter struct {
	emit    func(line []byte)
	partial []byte
	long    bool // the line at hand is too long; the rest of it is dropped
	total   int

	cutLines, cutOutput bool
}

func (s *splitter) Write(p []byte) (int, error) {
	n := len(p)
	if s.total += n; s.total > maxOutput {
		s.cutOutput = true
		return n, nil
	}
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		chunk := p
		if end >= 0 {
			chunk = p[:end]
		}
		if s.long = s.long || len(s.partial)+len(chunk) > maxLine; !s.long {
			s.partial = append(s.partial, chunk...)
		}
		if end < 0 {
			break
		}
		s.flush()
		p = p[end+1:]
	}
	return n, nil
}

// flush ends the line at hand.
func (s *splitter) flush() {
	if s.long {
		s.cutLines = true
	} else if len(bytes.TrimSpace(s.partial)) > 0 {
		s.emit(s.partial)
	}
	s.partial, s.long = nil, false
}

// capped keeps the first bytes of what is written to it and drops the rest.
type capped struct {
	kept []byte
	max  int
}

func (c *capped) Write(p []byte) (int, error) {
	c.kept = append(c.kept, p[:min(len(p), c.max-len(c.kept))]...)
	return len(p), nil
}
