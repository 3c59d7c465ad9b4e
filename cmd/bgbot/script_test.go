package main

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"bgbot/internal/anthropictest"
)

// script is the model of a story: answers by prompt, one after the other.
type script struct {
	mu    sync.Mutex // guards what follows
	parts []part
	asked int
}

type part struct {
	on     *regexp.Regexp
	answer anthropictest.Answer
}

func (s *script) add(on string, a anthropictest.Answer) error {
	re, err := regexp.Compile(on)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = append(s.parts, part{re, a})
	return nil
}

// answer is the step'th answer among those whose pattern fits the prompt.
func (s *script) answer(r anthropictest.Request) anthropictest.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	step := r.Step
	for _, p := range s.parts {
		if !p.on.MatchString(r.Prompt) {
			continue
		}
		if step == 0 {
			a := p.answer
			a.Text = strings.ReplaceAll(a.Text, "TOOL", r.ToolText)
			a.Text = strings.ReplaceAll(a.Text, "MODEL", r.Model)
			return a
		}
		step--
	}
	return anthropictest.Answer{Text: "The story has no answer for step " + fmt.Sprint(r.Step) + "."}
}

func (s *script) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// answerOf reads an answer as the stories write it.
func answerOf(kind, text string) (anthropictest.Answer, error) {
	a := anthropictest.Answer{}
	switch kind {
	case "text":
		a.Text = text
	case "bash":
		a.Bash = []string{text}
	case "read":
		a.Tools = []anthropictest.ToolUse{{Name: "Read", Input: map[string]any{"file_path": text}}}
	case "status", "busy":
		code, after, _ := strings.Cut(text, " ")
		a.RetryAfter = after
		if kind == "busy" {
			a.Times = 1 // then it says "recovered"
		}
		_, err := fmt.Sscan(code, &a.Status)
		return a, err
	case "hang":
		a.Fault = anthropictest.Hang
	default:
		return a, fmt.Errorf("model: unknown kind %q; use text, bash, read, status, busy or hang", kind)
	}
	return a, nil
}
