package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"bgbot/internal/anthropictest"
)

// model is the scripted agent behind a Messages API of our own.
type model struct {
	scenario Scenario
	url      string
	pace     time.Duration
	closing  atomic.Bool // it has said that the incident is over
}

func (l *Lab) startModel(context.Context) error {
	m := &model{scenario: l.scenario, pace: 20 * time.Millisecond}
	if l.opts.Fast {
		m.pace = 0
	}
	l.model = m
	if l.opts.BreakModel {
		url, release, err := anthropictest.Refuse()
		if err != nil {
			return err
		}
		m.url = url
		l.onClose(release)
		return nil
	}
	server, err := anthropictest.Start(m.answer)
	if err != nil {
		return err
	}
	m.url = server.URL()
	l.onClose(server.Close)
	return nil
}

// talk is one turn of the scripted agent, told from its beginning each time: a script is straight code that asks for one
// command after the other. The conversation supplies the results of those that have run; the first that has not is the
// answer. So a repeated request is answered alike, and every word comes after what it speaks about was seen.
type talk struct {
	results []string
	answer  anthropictest.Answer
	over    bool // the script said that the incident is over
}

// bash runs a command, or, when its result is not there yet, makes it the answer; then the script returns.
func (t *talk) bash(text, command string) (result string, ran bool) {
	if len(t.results) == 0 {
		t.answer = anthropictest.Answer{Text: text, Bash: []string{command}}
		return "", false
	}
	result, t.results = t.results[0], t.results[1:]
	return result, true
}

// say ends the turn.
func (t *talk) say(format string, args ...any) {
	t.answer = anthropictest.Answer{Text: fmt.Sprintf(format, args...)}
}

func (m *model) answer(r anthropictest.Request) anthropictest.Answer {
	t := &talk{results: results(r.Body, r.Step)}
	m.script(r.Prompt)(t)
	t.answer.Pace = m.pace
	if t.over {
		m.closing.Store(true)
	}
	return t.answer
}

// script chooses what the turn is about. Until the incident is over every prompt that is no one-tap question is taken
// for the incident.
func (m *model) script(prompt string) func(*talk) {
	if s := oneTap(prompt); s != nil {
		return s
	}
	if m.closing.Load() && !strings.Contains(prompt, m.scenario.Prompt) {
		return explain
	}
	return m.scenario.script
}

// results are the texts of the tool results of the last n user messages, in order: those since the prompt.
func results(body []byte, n int) []string {
	var request struct {
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
	}
	if json.Unmarshal(body, &request) != nil {
		return nil
	}
	var all []string
	for _, m := range request.Messages {
		var blocks []struct {
			Type    string          `json:"type"`
			Content json.RawMessage `json:"content"`
		}
		if m.Role != "user" || json.Unmarshal(m.Content, &blocks) != nil {
			continue
		}
		for _, b := range blocks {
			if b.Type == "tool_result" {
				all = append(all, plain(b.Content))
			}
		}
	}
	return all[max(0, len(all)-n):]
}

// plain is the text of a tool result, which is a string or a list of blocks.
func plain(content json.RawMessage) string {
	var text string
	if json.Unmarshal(content, &text) == nil {
		return text
	}
	var blocks []struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(content, &blocks)
	for _, b := range blocks {
		text += b.Text
	}
	return text
}

var (
	exitCode = regexp.MustCompile(`(?i)exit code (\d+)`)
	refusal  = regexp.MustCompile(`\bDenied\b|A person declined|nobody answered within|did not run`) // the bot's own words
	begun    = regexp.MustCompile(`(?m)^ok +op\b`)                                                   // the gate has taken the verb
)

// refused tells whether the bot kept a command back. Only how a result begins counts, and nothing that the gate has
// taken: behind it come files with any words in them.
func refused(result string) bool {
	head, _, _ := strings.Cut(result, "\n--- ")
	return refusal.MatchString(firstLines(head, 3)) && !begun.MatchString(head)
}

// unanswered tells whether nobody has answered the card. Silence is not a refusal, and the agent must not call it one.
func unanswered(result string) bool {
	return refused(result) && strings.Contains(firstLines(result, 3), "nobody answered")
}

// code is the exit code that a failed command's result tells; 0 if it tells none.
func code(result string) string {
	if m := exitCode.FindStringSubmatch(result); m != nil {
		return m[1]
	}
	return "0"
}

// firstLines quotes the beginning of a result.
func firstLines(result string, n int) string {
	var out []string
	for l := range strings.SplitSeq(strings.TrimSpace(result), "\n") {
		if l = strings.TrimSpace(l); l != "" && len(out) < n {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}
