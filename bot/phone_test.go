package bot

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// phone is a chat that takes everything and shows it.
type phone struct {
	mu     sync.Mutex // guards what follows
	thread []post
	pages  map[string][]Text // by person, the newest last
	status []string          // beside threads
	fails  func(Place, Text) error
	more   chan struct{}
}

// post is what was said, as it stands now, and where.
type post struct {
	Text
	place Place
}

func (p *phone) Limits() Limits {
	return Limits{EditGap: time.Millisecond, Tick: 50 * time.Millisecond}
}

func (p *phone) Run(ctx context.Context, _ func(context.Context, Message) error) error {
	<-ctx.Done()
	return nil
}

func (p *phone) Post(_ context.Context, where Place, t Text) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails != nil {
		if err := p.fails(where, t); err != nil {
			return "", err
		}
	}
	p.thread = append(p.thread, post{t, where})
	p.changed()
	if t.Only != "" { // as in Slack
		return "", nil
	}
	return fmt.Sprint(len(p.thread) - 1), nil
}

func (p *phone) Edit(_ context.Context, _ Place, id string, t Text) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int
	_, _ = fmt.Sscan(id, &n)
	t.Files = p.thread[n].Files
	p.thread[n].Text = t
	p.changed()
	return nil
}

func (p *phone) Home(_ context.Context, person string, t Text) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pages == nil {
		p.pages = map[string][]Text{}
	}
	p.pages[person] = append(p.pages[person], t)
	p.changed()
	return nil
}

func (p *phone) Working(_ context.Context, where Place, status string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = append(p.status, where.Thread+": "+status)
	p.changed()
	return nil
}

func (p *phone) changed() {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *phone) find(re *regexp.Regexp) (post, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.thread {
		if re.MatchString(t.Body) {
			return t, true
		}
	}
	return post{}, false
}

// page is what a person's page shows now, and how often it was drawn.
func (p *phone) page(person string) (t Text, drawn int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.pages[person]); n > 0 {
		return p.pages[person][n-1], n
	}
	return Text{}, 0
}

func (p *phone) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, t := range p.thread {
		all = append(all, fmt.Sprintf("(%s) %s%s\n%v", t.place.Thread, t.Only, t.Body, t.Choices))
	}
	for person, pages := range p.pages {
		for _, t := range pages {
			all = append(all, fmt.Sprintf("(page of %s) %s\n%v", person, t.Body, t.Choices))
		}
	}
	return strings.Join(all, "\n--\n")
}

// said is what stands in a place.
func (p *phone) said(where Place) (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.thread {
		if t.place == where {
			all = append(all, t.Body)
		}
	}
	return all
}

// count is how many messages begin with these words.
func (p *phone) count(words string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.thread {
		if strings.HasPrefix(t.Body, words) {
			n++
		}
	}
	return n
}

func (p *phone) says(t *testing.T, words string, times int) {
	t.Helper()
	if n := p.count(words); n != times {
		t.Errorf("%d messages begin with %q, want %d", n, words, times)
	}
}

// refuse makes the phone fail.
func (p *phone) refuse(fails func(Place, Text) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = fails
}
