package slack

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// hastyLink has the proportions of the real one.
var hastyLink = linkTiming{
	open: 2 * time.Second, ping: 50 * time.Millisecond, dead: 8 * time.Second, frame: 2 * time.Second, write: time.Second,
	least: 10 * time.Millisecond, most: 150 * time.Millisecond, away: 150 * time.Millisecond, healthy: 300 * time.Millisecond, drain: 400 * time.Millisecond,
	take: 2 * time.Second, finish: time.Second, patient: 5 * time.Second, ghost: 300 * time.Millisecond,
}

// patientTest is how long a test waits for something that must happen: many run at once, on few cores.
const patientTest = 40 * time.Second

// scene is a workspace with an operator, a colleague of theirs and a stranger, and what a store behind the bot keeps.
type scene struct {
	*slacktest.Server
	t    *testing.T
	core *recorder
	with func(*Chat)    // changes a Chat before it runs
	over func(*Options) // changes how it is opened

	mu   sync.Mutex // guards kept
	kept map[string]string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	server, err := slacktest.Start(slacktest.Options{
		Unlimited: true, NoEcho: true, AckTimeout: 150 * time.Millisecond, PingEvery: 50 * time.Millisecond,
		Redeliver: []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	s := &scene{Server: server, t: t, core: newRecorder(), kept: map[string]string{}}
	for _, id := range []string{operator, colleague, stranger} {
		s.AddUser(slacktest.User{ID: id, Name: strings.ToLower(id[2:])})
	}
	for _, id := range []string{operator, colleague} {
		if _, err := s.Join(s.Channel(), id); err != nil {
			t.Fatal(err)
		}
	}
	s.DropQueued()
	return s
}

func (s *scene) options() Options {
	return Options{
		AppToken: s.AppToken(), BotToken: s.BotToken(), Channel: s.Channel(), APIURL: s.URL(), People: []string{operator, colleague},
		Cursor: func(_ context.Context, key string) string {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.kept[key]
		},
		SetCursor: func(_ context.Context, key, value string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.kept[key] = value
		},
		Log: slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// running is a Chat that runs.
type running struct {
	*Chat
	stop func() error // ends it and returns what Run returned
}

// run opens a Chat that is in a hurry and runs it until stop or the end of the test.
func (s *scene) run(hurry func(*pace)) *running {
	s.t.Helper()
	options := s.options()
	if s.over != nil {
		s.over(&options)
	}
	chat, err := Open(s.t.Context(), options)
	if err != nil {
		s.t.Fatal(err)
	}
	chat.pace = pace{
		look: time.Minute, lookAgain: 20 * time.Millisecond, lookGap: 5 * time.Millisecond, readBack: time.Minute,
		keep: 5 * time.Millisecond, alive: time.Minute, most: 20_000, link: hastyLink,
	}
	if hurry != nil {
		hurry(&chat.pace)
	}
	if s.with != nil {
		s.with(chat)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan error, 1)
	dialled := s.Dialled()
	go func() { done <- chat.Run(ctx, s.core.handle) }()
	stop := sync.OnceValue(func() error {
		cancel()
		err := <-done
		if gone := s.AwaitSockets(s.deadline(), 0, 0); gone != nil {
			s.t.Error(gone)
		}
		return err
	})
	s.t.Cleanup(func() { _ = stop() })
	if err := s.AwaitSockets(s.deadline(), 1, dialled); err != nil {
		s.t.Fatal(err)
	}
	opened := s.Calls("apps.connections.open") // what is read back reaches up to hello, which comes after this
	s.until("the first reading back", func() bool {
		var l ledger
		s.mu.Lock()
		defer s.mu.Unlock()
		fresh := l.load(s.kept["read/"+s.Channel()], time.Now()) // nothing is kept yet
		return !fresh && l.s.Mark > stamp(opened[len(opened)-1].At)
	})
	return &running{chat, stop}
}

// until waits for something that nobody announces.
func (s *scene) until(what string, is func() bool) {
	s.t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for ctx := s.deadline(); !is(); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			s.t.Fatalf("%s did not happen", what)
		}
	}
}

func (s *scene) deadline() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), patientTest)
	s.t.Cleanup(cancel)
	return ctx
}

// says has a person type something and returns its id.
func (s *scene) says(user, thread, text string) string {
	s.t.Helper()
	sent, err := s.Say(user, thread, text)
	if err != nil {
		s.t.Fatal(err)
	}
	return sent.TS
}

// hears waits for a message with this text.
func (s *scene) hears(text string) bot.Message {
	s.t.Helper()
	return s.core.await(s.t, text, func(m bot.Message) bool { return m.Text == text })
}

// notes waits for a notice.
func (s *scene) notes(text string) {
	s.t.Helper()
	s.core.await(s.t, text, func(m bot.Message) bool { return m.Notice == text })
}

// texts is all that people said as far as the core knows.
func (s *scene) texts() []string {
	var all []string
	for _, m := range s.core.all() {
		if m.Text != "" {
			all = append(all, m.Text)
		}
	}
	return all
}

func TestAMessageReachesTheCoreBeforeItIsAcknowledged(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(nil)
	sent, err := s.Say(operator, "", "devvm is frozen")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AwaitAck(s.deadline(), sent.Envelope); err != nil {
		t.Fatal(err)
	}
	all := s.core.all()
	if len(all) != 1 || all[0].ID != sent.TS || all[0].Name != "operator" || all[0].Missed {
		t.Errorf("when the acknowledgement came the core had %+v", all)
	}
}

func TestWhatTheCoreDoesNotRecordIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	in, r := newIntake(t)
	r.fail = errors.New("bgbot is restarting")
	message := envelope{Type: "events_api", Payload: wrap(typed()).raw()}
	if _, err := in.take(t.Context(), message); err == nil {
		t.Error("it was acknowledged")
	}
	if len(in.ledger.s.Taken) > 0 {
		t.Error("it counts as taken")
	}
	if _, err := in.take(t.Context(), message); err != nil || len(r.got) != 1 { // Slack sends it again
		t.Errorf("%v, the core got %+v", err, r.got)
	}
}
