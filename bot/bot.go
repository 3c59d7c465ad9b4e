// Package bot is the core: it takes messages and clicks from the chats, decides by the allowlist, and turns them into
// turns of the agent, verbs for the gate, and answers. It owns threads, turns, confirmations, what things look like and
// what is sent when. It knows no chat service, no SSH and no process: those are its adapters, pve and agentrun.
package bot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/internal/store"
	"bgbot/pve"
)

// Options are what a Bot works with. All fields but Mask, Turning and Prompts are needed.
type Options struct {
	Chats   map[string]Chat // by the name that their Places carry
	Policy  auth.Policy
	Confirm Confirm
	Power   Power
	VM      VM
	Gate    *pve.Client
	Reach   func(context.Context) error // logs in to the VM; nil error means that SSH answered
	Runner  *agentrun.Runner
	Model   string // what threads begin with
	Store   *store.Store
	Prompts []Prompt // one tap each
	Mask    func(string) string
	Turning func(session string, running bool) // the agent's keys work only while a turn runs
	Log     *slog.Logger
}

// VM names what is served.
type VM struct {
	Name string
	ID   int
}

// Prompt is a one-tap prompt.
type Prompt struct{ ID, Label, Text string }

// Power is what the agent may do with the verbs that change the VM.
type Power string

// The powers of the agent. The zero value is none of them and denies.
const (
	Auto     Power = "auto"
	Ask      Power = "confirm"
	ReadOnly Power = "readonly"
)

// Bot serves one VM in one channel of each chat. Its exported methods may be called from many goroutines.
type Bot struct {
	Options
	out map[string]*delivery

	mu      sync.Mutex // guards what follows
	closing bool
	turns   map[Place]*turn
	pending map[string]*pending // confirmations without an answer, by nonce

	wg   sync.WaitGroup  // every goroutine of the bot but those of the chats
	work context.Context // of all work and its reports: ends when shutdown has waited long enough
	cut  context.Context // of turns: ends, with its cause, when shutdown begins
	quit context.CancelCauseFunc
	kill context.CancelFunc
}

// errRestart is why a turn ends when the process does.
var errRestart = errors.New("bgbot is restarting")

// New makes a Bot; Run starts it.
func New(o Options) *Bot {
	if o.Mask == nil {
		o.Mask = func(s string) string { return s }
	}
	if o.Turning == nil {
		o.Turning = func(string, bool) {}
	}
	b := &Bot{Options: o, out: map[string]*delivery{}, turns: map[Place]*turn{}, pending: map[string]*pending{}}
	for name, chat := range o.Chats {
		b.out[name] = newDelivery(chat, o.Mask, o.Log.With("chat", name))
	}
	b.work, b.kill = context.WithCancel(context.Background())
	b.cut, b.quit = context.WithCancelCause(b.work)
	return b
}

// Run serves until ctx ends or a chat ends, then shuts down: nobody new is admitted, turns are cut and say so, verbs
// that run are waited for. It returns the chat's error, if there is one.
func (b *Bot) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	b.takeOver()
	var chats, links sync.WaitGroup
	errs := make(chan error, len(b.Chats))
	links.Go(func() { b.Gate.Keep(ctx) })
	for name, chat := range b.Chats {
		chats.Go(func() {
			err := chat.Run(ctx, b.handle)
			if err != nil && ctx.Err() == nil {
				errs <- fmt.Errorf("%s: %w", name, err)
			}
			stop(nil) // one chat that cannot go on ends all: a supervisor's restart is louder than a deaf half
		})
	}
	<-ctx.Done()
	b.shutdown()
	chats.Wait()
	links.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// grace is how long shutdown waits: the longest verb, its verification and the report (a cycle of a wedged VM).
const grace = 6 * time.Minute

func (b *Bot) shutdown() {
	b.mu.Lock()
	b.closing = true
	b.mu.Unlock()
	b.quit(errRestart)
	timer := time.AfterFunc(grace, b.kill)
	defer timer.Stop()
	b.wg.Wait()
	b.kill()
}

// start runs f in a goroutine that shutdown waits for. It refuses once shutdown has begun; both happen under one lock.
func (b *Bot) start(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return false
	}
	b.wg.Go(f)
	return true
}

// handle takes one message: seen before? recorded; allowed? then a goroutine acts on it. It returns at once; nil means
// that the message is recorded and may be acknowledged.
func (b *Bot) handle(ctx context.Context, m Message) error {
	c := parse(m, b.Prompts)
	if c.kind == nothing {
		return nil
	}
	if b.Store.Seen(ctx, m.Place.Chat, m.ID, m.At) {
		return nil
	}
	if err := b.Policy.Check(m.From, c.act()); err != nil {
		b.record(ctx, m.Place, m.From, string(c.act()), "", "refused", m.Text+m.Click)
		if !b.start(func() { b.answer(m, message(err)) }) {
			return errRestart
		}
		return nil
	}
	if !b.start(func() { b.act(m, c) }) {
		return errRestart
	}
	return nil
}

// act does what a permitted message asks for. The paths without a model come first and share nothing with it.
func (b *Bot) act(m Message, c command) {
	if late := time.Since(m.At); late > b.Confirm.TTL && (c.kind == confirm || c.kind == power && c.verb.Changes()) {
		b.record(b.work, m.Place, m.From, string(c.act()), string(c.verb), "too late", "")
		b.answer(m, fmt.Sprintf("⌛ Not done: this reached me %s late, and a power verb never runs late. Say it again if you still want it.", span(late)))
		return
	}
	switch c.kind {
	case stop:
		b.stop(m, c.arg)
	case power:
		b.verb(m, c.verb)
	case confirm:
		b.confirm(m, c.arg, true)
	case cancel:
		b.confirm(m, c.arg, false)
	case help:
		b.help(m)
	case invalid:
		b.answer(m, message(c.err))
	case model:
		b.model(m, c.arg)
	case talk:
		b.talk(m, c.arg)
	case nothing:
	}
}

// answer says one sentence in the thread, to the person alone where the chat can do that.
func (b *Bot) answer(m Message, text string) {
	b.say(m.Place, Text{Body: text, Only: m.From.ID})
}

// say posts for certain; a failure that lasts until shutdown is logged.
func (b *Bot) say(p Place, t Text) string {
	id, err := b.out[p.Chat].post(b.work, p, t)
	if err != nil {
		b.Log.Error("a message was not delivered", "place", p.String(), "err", err)
	}
	return id
}

// record keeps a decision or a command with who and when; it never blocks what it records.
func (b *Bot) record(ctx context.Context, p Place, who auth.Person, act, subject, outcome, text string) {
	b.Store.Record(ctx, store.Entry{
		At: time.Now(), Actor: who.String(), Act: act, Chat: p.Chat, Channel: p.Channel, Thread: p.Thread,
		Subject: subject, Outcome: outcome, Text: cut(b.Mask(text), 8000),
	})
}

// trouble is what an answer adds while the store fails, with a blank line before it.
func (b *Bot) trouble() string {
	if t := b.Store.Trouble(); t != "" {
		return "\n\n⚠️ " + t
	}
	return ""
}

// message is an error as a person may read it: their own sentence, or a neutral one.
func message(err error) string {
	var said interface{ UserMessage() string }
	if errors.As(err, &said) {
		return said.UserMessage()
	}
	return "Something inside me failed; the log has the details."
}
