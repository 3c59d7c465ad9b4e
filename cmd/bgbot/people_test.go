package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// person is somebody at a terminal.
type person struct {
	name string
	keys io.Writer
	mu   sync.Mutex // guards what follows
	cond chan struct{}
	text bytes.Buffer
	flat string    // text with each message on one line, however it was wrapped
	read int       // what sees has consumed of flat
	said time.Time // when the person typed last
}

func newPerson(name string) *person { return &person{name: name, cond: make(chan struct{}, 1)} }

func (p *person) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	p.flat = flatten.Replace(p.text.String())
	select {
	case p.cond <- struct{}{}:
	default:
	}
	return len(b), nil
}

// flatten undoes the wrapping of plain lines: what goes on has the width of "bgbot  ▸ " before it.
var flatten = strings.NewReplacer("\n\n         ", " ", "\n         ", " ")

func (p *person) says(line string) error {
	p.mu.Lock()
	p.said = time.Now()
	p.mu.Unlock()
	typed := make(chan error, 1)
	go func() { // a terminal that nobody reads would hold it up for ever; the pipe ends with the world
		_, err := fmt.Fprintln(p.keys, line)
		typed <- err
	}()
	select {
	case err := <-typed:
		return err
	case <-time.After(patience):
		return fmt.Errorf("%s typed %q, and nothing read it within %s: is the service up?", p.name, line, patience)
	}
}

// presses types the number of the button that was shown last under this label.
func (p *person) presses(label string) error {
	re, err := regexp.Compile(`\[(\d+)\] ` + regexp.QuoteMeta(label) + `(?:   |\n)`)
	if err != nil {
		return err
	}
	all := re.FindAllStringSubmatch(p.all(), -1)
	if all == nil {
		return fmt.Errorf("%s has no button %q:\n%s", p.name, label, p.all())
	}
	return p.says(all[len(all)-1][1])
}

// patience is how long a person waits before the story has failed. It costs nothing while all is well, and the machines that
// run the stories may be slow; what the product promises in time is asked for by "within".
const patience = 90 * time.Second

// sees waits until the terminal shows pattern after what was seen last, and returns the match and its groups.
func (p *person) sees(pattern string, patience time.Duration) ([]string, error) {
	re, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		p.mu.Lock()
		rest := p.flat[p.read:]
		at := re.FindStringSubmatchIndex(rest)
		var groups []string
		if at != nil {
			for i := 0; i < len(at); i += 2 {
				groups = append(groups, rest[max(at[i], 0):max(at[i+1], 0)])
			}
			p.read += at[1]
		}
		p.mu.Unlock()
		if at != nil {
			return groups, nil
		}
		select {
		case <-p.cond:
		case <-timer.C:
			return nil, fmt.Errorf("%s does not see %q within %s; after the last thing seen there is:\n%s", p.name, pattern, patience, rest)
		}
	}
}

// seesWithin is sees with a limit that counts from the person's last words.
func (p *person) seesWithin(pattern string, limit time.Duration) ([]string, error) {
	p.mu.Lock()
	left := time.Until(p.said.Add(limit))
	p.mu.Unlock()
	return p.sees(pattern, left)
}

// saw counts how often the terminal has shown pattern so far.
func (p *person) saw(pattern string) (int, error) {
	re, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(re.FindAllString(p.flat, -1)), nil
}

// all is everything that the terminal has shown.
func (p *person) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
