package bot

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bgbot/agentrun"
	"bgbot/pve"
)

// pageSize is the most runes of one live message; what grows beyond it goes on in another. Slack refuses an edit of more
// than 4,000 characters (measured by others as msg_too_long), and a phone scrolls badly in a long message.
const pageSize = 3200

// mostOutput is how much of one command's output the file beside the answer keeps, in runes.
const mostOutput = 40_000

// view is what a turn looks like: events in, CommonMark out. It does no I/O and is not safe for concurrent use.
type view struct {
	turn  string // the turn's ID, for the Stop button
	began time.Time
	items []item
	place int    // in line; 0 is not waiting
	trail string // the last notice, until something happens
	over  string // the state line of a turn that has ended
	steps int
	cut   string // the command that the end of the turn cut
	most  int    // pages drawn so far: what is in the chat once cannot be taken back, only emptied
}

type item struct {
	tool   bool
	id     string
	text   string // prose; or what a tool was asked
	name   string
	began  time.Time
	took   time.Duration
	ended  bool
	failed bool
	denied bool
	hint   string // the first line of a tool's output
	output string
}

func newView(turn string, now time.Time) *view { return &view{turn: turn, began: now} }

// add takes one event. A Result is not shown here: the answer is a message of its own.
func (v *view) add(e agentrun.Event, now time.Time) {
	if _, notice := e.(agentrun.Notice); !notice {
		v.trail = ""
	}
	switch e := e.(type) {
	case agentrun.Waiting:
		v.place = e.Place
	case agentrun.Started:
		v.place = 0
	case agentrun.Text:
		v.prose(e)
	case agentrun.Tool:
		v.steps++
		v.cut = ""
		v.items = append(v.items, item{tool: true, id: e.ID, name: e.Name, text: e.Input, began: now})
	case agentrun.ToolResult:
		v.result(e)
	case agentrun.Folded:
		v.note("↪ passed on to the agent")
	case agentrun.Notice:
		v.trail = e.Text
	case agentrun.Result:
	}
}

func (v *view) prose(e agentrun.Text) {
	for i := range slices.Backward(v.items) {
		if !v.items[i].tool && v.items[i].id == e.ID {
			v.items[i].text = e.Text
			return
		}
	}
	v.items = append(v.items, item{id: e.ID, text: e.Text})
}

func (v *view) note(s string) {
	v.items = append(v.items, item{id: fmt.Sprintf("note-%d", len(v.items)), text: "_" + s + "_"})
}

func (v *view) result(e agentrun.ToolResult) {
	for i := range v.items {
		it := &v.items[i]
		if it.tool && it.id == e.ID {
			it.ended, it.failed, it.denied, it.took = true, e.Failed, e.Denied, e.Took
			it.output, it.hint = cut(e.Output, mostOutput), cut(hint(it.text, e.Output, e.Failed), 200)
			if e.Failed && (e.Output == "stopped" || e.Output == "no result") { // agentrun's words for a call that never ended
				v.cut = it.text
			}
		}
	}
}

// hint is the one line of an output that tells most: the first, or of a failure the last.
func hint(command, output string, failed bool) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	switch {
	case failed && strings.Contains(output, "Exit code 124") && strings.Contains(command, "timeout "):
		return "timed out" // timeout(1) says so by 124
	case failed:
		return oneLine(lines[len(lines)-1])
	default:
		return oneLine(lines[0])
	}
}

// verdict is a better hint for a tool call that gave a verb to the host: what the host said, in one line.
func (v *view) verdict(call string, verb pve.Verb, text string) {
	for i := range v.items {
		it := &v.items[i]
		if it.tool && it.id == call && slices.Contains(powerVerbs(it.text), verb) {
			it.hint = oneLine(text)
		}
	}
}

// end sets the state line of a turn that is over and takes the answer out of the running text, as it is said again in
// a message of its own.
func (v *view) end(state, answer string) {
	v.over = state
	if n := len(v.items); n > 0 && !v.items[n-1].tool && strings.TrimSpace(v.items[n-1].text) == strings.TrimSpace(answer) {
		v.items = v.items[:n-1]
	}
}

// doing is what runs now, or ran when the turn was cut, for the state line and for the record of a turn.
func (v *view) doing() string {
	for _, it := range slices.Backward(v.items) {
		if it.tool && !it.ended {
			return it.text
		}
	}
	return v.cut
}

// state is the first line: what is going on, in at most 120 characters.
func (v *view) state(now time.Time) string {
	switch {
	case v.over != "":
		return v.over
	case v.place > 0:
		return fmt.Sprintf("⏳ In line, place %d · %s · all agents are busy; the verbs work at once", v.place, clock(now.Sub(v.began)))
	case v.doing() != "":
		return fmt.Sprintf("⏳ Working %s · %s", clock(now.Sub(v.began)), code(v.doing(), 90))
	default:
		return "⏳ Working " + clock(now.Sub(v.began))
	}
}

// pages draws the turn as messages of at most about pageSize runes. Only the last one has the state and the Stop button;
// a page that is full keeps its text.
func (v *view) pages(now time.Time) []Text {
	var pages []Text
	var body strings.Builder
	size := 0
	for i, it := range v.items {
		text := it.draw()
		if !it.tool && v.over == "" && i == len(v.items)-1 {
			text = tail(text, 1500) // the whole of it is shown when it ends
		}
		for _, part := range split(text, pageSize) {
			n := utf8.RuneCountInString(part) + 2
			if size > 0 && size+n > pageSize {
				// A mark in front: what the agent has read and says must not look like a result of ours.
				pages = append(pages, Text{Body: fmt.Sprintf("🤖 The agent's work, part %d\n\n%s", len(pages)+1, &body)})
				body.Reset()
				size = 0
			}
			if size > 0 {
				body.WriteString(separator(v.items, i))
			}
			body.WriteString(part)
			size += n
		}
	}
	last := v.state(now)
	if v.trail != "" && v.over == "" {
		last += "\n" + v.trail
	}
	if size > 0 {
		last += "\n\n" + body.String()
	}
	t := Text{Body: last}
	if v.over == "" {
		t.Choices = []Choice{{ID: clickStop + v.turn, Label: "Stop"}}
	}
	for len(pages) < v.most {
		pages = append(pages, Text{Body: "…"})
	}
	v.most = len(pages)
	return append(pages, t)
}

// tail is the end of a text that is still being written: the page that holds it can then be redrawn in place, and an
// answer, which is said again as a message of its own, leaves no empty pages behind.
func tail(s string, n int) string {
	over := utf8.RuneCountInString(s) - n
	if over <= 0 {
		return s
	}
	return "…" + s[byteOf(s, over):]
}

// separator keeps tool lines together and prose apart; two blanks before the newline are CommonMark's hard break.
func separator(items []item, i int) string {
	if items[i].tool && i > 0 && items[i-1].tool {
		return "  \n"
	}
	return "\n\n"
}

func (it item) draw() string {
	if !it.tool {
		return strings.TrimSpace(it.text)
	}
	name := ""
	if it.name != "Bash" {
		name = it.name + " "
	}
	switch {
	case !it.ended:
		return fmt.Sprintf("▸ %s%s", name, code(it.text, shownOfCommand))
	case it.denied:
		why, _, _ := strings.Cut(it.hint, ": ") // the rest are orders to the agent
		return fmt.Sprintf("⊘ %s%s  did not run · %s", name, code(it.text, shownOfCommand), plain(why, 80))
	case it.failed:
		return fmt.Sprintf("✗ %s%s  %s · %s", name, code(it.text, shownOfCommand), span(it.took), plain(it.hint, 80))
	case it.hint == "":
		return fmt.Sprintf("✓ %s%s  %s", name, code(it.text, shownOfCommand), span(it.took))
	default:
		return fmt.Sprintf("✓ %s%s  %s · %s", name, code(it.text, shownOfCommand), span(it.took), plain(it.hint, 80))
	}
}

// split cuts a text that is longer than n runes at a blank line, else at a line, else anywhere. An open fence is closed
// and opened again, so that each part is CommonMark by itself.
func split(s string, n int) []string {
	var parts []string
	for len(s) > n { // a text of n bytes has at most n runes
		end := byteOf(s, n)
		if end == len(s) {
			break
		}
		head := s[:end]
		at := strings.LastIndex(head, "\n\n")
		if at < len(head)/2 {
			at = strings.LastIndex(head, "\n")
		}
		if at <= len(head)/2 {
			at = len(head)
		}
		head, s = s[:at], strings.TrimLeft(s[at:], "\n")
		if n > 100 && strings.Count("\n"+head, "\n```")%2 == 1 {
			head += "\n```"
			s = "```\n" + s
		}
		parts = append(parts, head)
	}
	if s != "" {
		parts = append(parts, s)
	}
	return parts
}

// byteOf is where the n'th rune of s begins.
func byteOf(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

// shownOfCommand is how much of a command its line in the thread has room for, in runes.
const shownOfCommand = 160

// transcript is every command of the turn with its whole output, for the file beside the answer; empty if what the
// thread shows already is all there is.
func (v *view) transcript() string {
	var b strings.Builder
	long := false
	for _, it := range v.items {
		if !it.tool {
			continue
		}
		out := strings.TrimSpace(it.output)
		long = long || len(out) > 200 || strings.Count(out, "\n") > 2 || utf8.RuneCountInString(it.text) > shownOfCommand
		fmt.Fprintf(&b, "$ %s\n%s\n[%s]\n\n", it.text, out, span(it.took))
	}
	if !long {
		return ""
	}
	return printable(b.String())
}
