package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/auth"
	"bgbot/bot"
	"bgbot/bot/console"
	"bgbot/bot/slack"
	"bgbot/internal/slacktest"
	"bgbot/internal/store"
)

// desk is a Slack workspace with our channel, and a terminal for each person, which shows what Slack's client would and
// hands on what is typed. The same stories are then told of Slack, in the same words.
type desk struct {
	slack   *slacktest.Server
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	sitting map[string]*sitter
}

// sitter is a person with their terminal.
type sitter struct {
	id      string // in Slack
	console *console.Console
	cards   map[string]string // Slack's ts of a message, to the terminal's id
	threads map[string]string // the terminal's id of a thread, to Slack's ts
}

// member is the ID of a character in Slack.
func member(name string) string { return "U0" + strings.ToUpper(name) }

func newDesk(t testing.TB) *desk {
	t.Helper()
	s, err := slacktest.Start(slacktest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{slack: s, sitting: map[string]*sitter{}}
	d.ctx, d.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		d.stop()
		must(t, s.Close())
		d.running.Wait()
	})
	return d
}

func (d *desk) person(name string) auth.Person { return auth.Person{Chat: "slack", ID: member(name)} }

// words are a story's in Slack: the stories are written for people at consoles.
func (d *desk) words(pattern string) string {
	for name := range characters {
		pattern = strings.ReplaceAll(pattern, "console:"+name, "slack:"+member(name))
	}
	// A button of a message that only one person sees has no thread of its own, so what it begins is another one.
	return strings.NewReplacer(`auth\.console`, `auth\.slack`, "auth.console", "auth.slack", "bgbot  ▸ ", `bgbot  ▸ (?:\(thread \d+\) )?`).Replace(pattern)
}

func (d *desk) open(w *world) opener {
	var people []string
	for name, allowed := range characters {
		if allowed {
			people = append(people, member(name))
		}
	}
	return func(ctx context.Context, db *store.Store) (map[string]bot.Chat, error) {
		chat, err := slack.Open(ctx, slack.Options{
			AppToken: d.slack.AppToken(), BotToken: d.slack.BotToken(), Channel: d.slack.Channel(), APIURL: d.slack.URL(), People: people,
			Cursor:    func(ctx context.Context, key string) string { return db.Cursor(ctx, "slack", key) },
			SetCursor: func(ctx context.Context, key, value string) { db.SetCursor(ctx, "slack", key, value) },
			Log:       w.logger(),
		})
		return map[string]bot.Chat{"slack": chat}, err
	}
}

// seat lets a person into the channel, the first time. The workspace outlives the bot.
func (d *desk) seat(t testing.TB, p *person) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sitting[p.name] != nil {
		return
	}
	s := &sitter{id: member(p.name), cards: map[string]string{}, threads: map[string]string{}}
	d.enters(t, p.name)
	keys, typed := io.Pipe()
	p.keys = typed
	var err error
	s.console, err = console.Open(console.Options{
		In: keys, Out: p, Person: d.person(p.name), Name: p.name, Plain: true, Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.sitting[p.name] = s
	d.running.Go(func() {
		_ = s.console.Run(d.ctx, func(_ context.Context, m bot.Message) error { return d.typed(s, m) })
	})
	d.running.Go(func() {
		for h := range d.slack.Feed(d.ctx, 0) {
			d.shows(s, h)
		}
	})
}

// enters lets a person into the channel before the bot is there.
func (d *desk) enters(t testing.TB, name string) {
	t.Helper()
	d.slack.AddUser(slacktest.User{ID: member(name), Name: name, Admin: name == "colleague"})
	if _, err := d.slack.Join(d.slack.Channel(), member(name)); err != nil {
		t.Fatal(err)
	}
	d.slack.DropQueued() // they were here before the bot
}

// typed does in Slack what a person does at their terminal.
func (d *desk) typed(s *sitter, m bot.Message) error {
	rest, slash := strings.CutPrefix(m.Text, "/vm")
	if slash { // it fails before the person's eyes while there is no connection
		ctx, cancel := context.WithTimeout(d.ctx, patience)
		defer cancel()
		if err := d.slack.AwaitSockets(ctx, 1, -1); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.Click != "" {
		for ts, id := range s.cards {
			if id == m.Card {
				_, err := d.slack.Click(s.id, ts, m.Click)
				return err
			}
		}
		return fmt.Errorf("there is no message %s", m.Card)
	}
	if slash {
		_, err := d.slack.Slash(s.id, "", "/vm", strings.TrimSpace(rest))
		return err
	}
	thread := s.threads[m.Place.Thread]
	if thread == "" && m.ID != m.Place.Thread {
		thread = m.Place.Thread // one that the bot began, under Slack's own name
	}
	sent, err := d.slack.Say(s.id, thread, m.Text)
	if err == nil && m.ID == m.Place.Thread {
		s.threads[m.ID] = sent.TS
	}
	return err
}

// shows is what Slack's client does with news: what the bot said, to whom it is visible.
func (d *desk) shows(s *sitter, h slacktest.Happening) {
	m := h.Message
	if m.BotID == "" || m.Only != "" && m.Only != s.id {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := bot.Place{Chat: "console", Channel: "console", Thread: m.ThreadTS}
	for id, ts := range s.threads {
		if ts == m.ThreadTS {
			p.Thread = id
		}
	}
	t := bot.Text{Body: m.Shown()}
	for _, b := range m.Buttons() {
		t.Choices = append(t.Choices, bot.Choice{ID: b.ActionID, Label: b.Label, Danger: b.Style == "danger"})
	}
	for _, f := range m.Files {
		t.Files = append(t.Files, bot.File{Name: f.Name, Type: f.Type, Data: f.Data})
	}
	switch h.Kind {
	case slacktest.Posted, slacktest.Whispered:
		if id, err := s.console.Post(d.ctx, p, t); err == nil {
			s.cards[m.TS] = id
		}
	case slacktest.Changed:
		_ = s.console.Edit(d.ctx, p, s.cards[m.TS], t) // who came later does not see what was before
	case slacktest.Deleted, slacktest.Drawn, slacktest.Status, slacktest.Reacted:
	}
}

// hasty counts the calls that came while Slack had asked for silence.
func (d *desk) hasty() (n int) {
	for _, c := range d.slack.Calls() {
		if c.Inside {
			n++
		}
	}
	return n
}

// breaks makes Slack misbehave, in the words of [room.breaks].
func (d *desk) breaks(kind string, args ...string) error {
	switch {
	case kind == "limits" && len(args) == 2:
		var every int
		after, err := time.ParseDuration(args[1])
		if _, bad := fmt.Sscan(args[0], &every); errors.Join(err, bad) != nil {
			return errors.Join(err, bad)
		}
		d.slack.Inject(slacktest.Fault{Methods: []string{"chat.update"}, Kind: slacktest.RateLimited, Every: every, RetryAfter: int(after.Seconds())})
		return nil
	case kind == "down" && len(args) == 1:
		long, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		remove := d.slack.Inject(slacktest.Fault{Kind: slacktest.HTML503})
		time.AfterFunc(long, remove)
		return nil
	case kind == "deletes" && len(args) == 0:
		d.running.Go(d.deleteNext)
		return nil
	}
	return errors.New("usage: chat limits N DURATION | down DURATION | deletes")
}

// deleteNext has an administrator delete the message that the bot edits next.
func (d *desk) deleteNext() {
	h, err := d.slack.Await(d.ctx, len(d.slack.Happenings()), func(h slacktest.Happening) bool { return h.Kind == slacktest.Changed })
	if err == nil {
		_, _ = d.slack.Delete(member("colleague"), h.Message.TS)
	}
}
