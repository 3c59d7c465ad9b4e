package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
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
	read int       // what sees has consumed
	said time.Time // when the person typed last
}

func newPerson(name string) *person { return &person{name: name, cond: make(chan struct{}, 1)} }

func (p *person) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	select {
	case p.cond <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *person) says(line string) error {
	p.mu.Lock()
	p.said = time.Now()
	p.mu.Unlock()
	_, err := fmt.Fprintln(p.keys, line)
	return err
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

// patience is how long a person waits; the machines that run the stories may be slow, the product is not.
const patience = 30 * time.Second

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
		rest := p.text.Bytes()[p.read:]
		at := re.FindSubmatchIndex(rest)
		var groups []string
		if at != nil {
			for i := 0; i < len(at); i += 2 {
				groups = append(groups, string(rest[max(at[i], 0):max(at[i+1], 0)]))
			}
			p.read += at[1]
		}
		seen := string(rest)
		p.mu.Unlock()
		if at != nil {
			return groups, nil
		}
		select {
		case <-p.cond:
		case <-timer.C:
			return nil, fmt.Errorf("%s does not see %q within %s; after the last thing seen there is:\n%s", p.name, pattern, patience, seen)
		}
	}
}

// seesWithin is sees with a limit that counts from the person's last words.
func (p *person) seesWithin(pattern, limit string) ([]string, error) {
	d, err := time.ParseDuration(limit)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	left := time.Until(p.said.Add(d))
	p.mu.Unlock()
	return p.sees(pattern, left)
}

// saw counts how often the terminal has shown pattern so far.
func (p *person) saw(pattern string) (int, error) {
	re, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		return 0, err
	}
	return len(re.FindAllString(p.all(), -1)), nil
}

// all is everything that the terminal has shown.
func (p *person) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
