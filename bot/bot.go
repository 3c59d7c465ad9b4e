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

// Options are what a Bot works with. All fields but Look, Mask, Turning and Prompts are needed.
type Options struct {
	Chats   map[string]Chat // by the name that their Places carry
	Policy  auth.Policy
	Confirm Confirm
	Power   Power
	VM      VM
	Gate    *pve.Client
	Guest
	Runner  *agentrun.Runner
	Model   string // what threads begin with
	Store   *store.Store
	Prompts []Prompt // one tap each
	Mask    func(string) string
	Turning func(session string, running bool) // the agent's keys work only while a turn runs
	Log     *slog.Logger
}

// Guest is the VM behind its own sshd. Its functions may be called from many goroutines at once.
type Guest struct {
	// Reach logs in and runs a command; nil means that SSH answered.
	Reach func(context.Context) error
	// Look logs in and returns what `systemctl is-system-running; systemctl --failed --no-legend --plain` prints, whatever
	// the exit codes; nothing where there is no systemctl.
	Look func(context.Context) (string, error)
	// Knock logs in and leaves again.
	Knock func(context.Context) error
	// Accept makes a host key ("TYPE BASE64") the one that bgbot and its agents expect from now on.
	Accept func(ctx context.Context, key, by string) error
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
	out   map[string]*delivery
	looks chan struct{} // holds a token while an agent looks at the host: the gate lets three look at once, and people come first

	mu      sync.Mutex // guards what follows
	closing bool
	turns   map[Place]*turn
	adopted map[Place]bool           // threads that are ours, of those that began in this process
	begins  map[Place]bool           // threads whose first message is being judged, and those that waited for it
	waiting map[Place][]*early       // replies that came before what began their thread
	over    map[string]bool          // operations that are over, and open in the store until their result is told
	pending map[string]*pending      // confirmations without an answer, by nonce
	refused map[auth.Person]refusals // who was told lately that they may not
	knocked time.Time                // when the VM's host key was looked at last
	kept    map[Place]*absence       // what reached us too late and was not run
	visits  map[auth.Person]visit    // to their pages
	names   map[auth.Person]string   // of those who may act, as their chat showed them last
	sight   sight                    // of the VM, since the last change
	inquiry *inquiry                 // under way; nil: nobody asks
	changed time.Time                // when a change of the VM began or ended last

	wg    sync.WaitGroup  // everything that the bot does but its chats; admit and start add to it
	verbs sync.WaitGroup  // the operations among it
	work  context.Context // of all work and its reports: ends when shutdown has waited long enough
	cut   context.Context // of turns: ends, with its cause, when shutdown begins
	quit  context.CancelCauseFunc
	kill  context.CancelFunc
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
	b := &Bot{
		Options: o, out: map[string]*delivery{}, looks: make(chan struct{}, 1), turns: map[Place]*turn{}, adopted: map[Place]bool{}, begins: map[Place]bool{}, waiting: map[Place][]*early{},
		over: map[string]bool{}, pending: map[string]*pending{}, refused: map[auth.Person]refusals{}, kept: map[Place]*absence{}, visits: map[auth.Person]visit{}, names: map[auth.Person]string{},
	}
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

// Limit is the longest that an operation takes: the verb with its link, and looking whether the VM is back.
func Limit() time.Duration { return pve.Cycle.Limit() + backWait }

// farewell is how long the last words may take once no verb runs any more.
const farewell = 15 * time.Second

func (b *Bot) shutdown() {
	b.mu.Lock()
	b.closing = true
	b.mu.Unlock()
	b.quit(errRestart)
	b.verbs.Wait() // each within Limit
	timer := time.AfterFunc(farewell, b.kill)
	defer timer.Stop()
	b.wg.Wait()
	b.kill()
}

// admit lets somebody in whom shutdown then waits for, until they call b.wg.Done. It refuses once shutdown has begun;
// both happen under one lock.
func (b *Bot) admit() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return false
	}
	b.wg.Add(1)
	return true
}

// start runs f in a goroutine that shutdown waits for, unless shutdown has begun.
func (b *Bot) start(f func()) bool {
	if !b.admit() {
		return false
	}
	go func() {
		defer b.wg.Done()
		f()
	}()
	return true
}

// handle takes one message: may it still come in? allowed? seen before? recorded; then a goroutine acts on it. It
// returns at once; nil means that the message is recorded and may be acknowledged.
func (b *Bot) handle(ctx context.Context, m Message) error {
	c := parse(m, b.Prompts)
	if c.kind == nothing {
		return nil
	}
	if !b.admit() {
		return errRestart // before it is recorded, so that the next process takes it
	}
	act := b.received(ctx, m, c)
	go func() {
		defer b.wg.Done()
		act()
	}()
	return nil
}

// received records a message and says what to do with it. What decides on order happens here, not in the goroutine: a
// text reserves the turn of its place, so that a "stop" right behind it finds it.
func (b *Bot) received(ctx context.Context, m Message, c command) (act func()) {
	if c.kind != notice {
		if err := b.Policy.Check(m.From, c.act()); err != nil {
			if m.Opens {
				b.opens(m.Place)
			}
			return b.refuse(ctx, m, c, err) // who may not act could fill the store with what was seen
		}
	}
	switch {
	case m.Missed && b.Store.Refused(m.From.String(), m.At), // before they were let in; not each of their words is kept
		b.Store.Seen(ctx, m.Place.Chat, m.ID, m.At): // also while the first delivery is still at it
		return func() {}
	case c.kind == notice:
		return func() { b.notice(m) }
	}
	return b.taken(m, c)
}

// taken says what to do with a permitted message that is new. What begins a thread goes before all replies there.
func (b *Bot) taken(m Message, c command) (act func()) {
	b.meets(m)
	if m.Opens {
		b.begin(m.Place)
		b.adopt(m.Place, c.kind == talk && !m.Missed)
		act, _ = b.judged(m, c) // it is ours
		b.opens(m.Place)
		return act
	}
	if !c.forThread(m) || !b.waited(m.Place) {
		if act, ours := b.judged(m, c); ours {
			return act
		}
	}
	return b.early(m, c)
}

// judged says what to do with a permitted message, unless it is for the agent in a thread that is not ours.
func (b *Bot) judged(m Message, c command) (act func(), ours bool) {
	if said := b.meant(m, c); said != "" {
		return func() { b.answer(m, said) }, true
	}
	if c.forThread(m) && !b.ours(m.Place) {
		return nil, false
	}
	if m.Missed {
		if act := b.missed(m, c); act != nil {
			return act, true
		}
	}
	var speakers []auth.Person
	if c.kind == rerun {
		if text, who, files := b.recall(m); text != "" {
			c, speakers = command{kind: talk, arg: text}, who
			m.Files += files
		}
	}
	if c.kind == talk && m.Place.Thread != "" {
		s := b.turnAt(m)
		s.words = speakers
		return func() { b.talk(m, c.arg, s) }, true
	}
	return func() { b.act(m, c) }, true
}

// notice passes on what the chat itself has to tell.
func (b *Bot) notice(m Message) {
	channel := Place{Chat: m.Place.Chat, Channel: m.Place.Channel}
	b.record(b.work, channel, auth.Person{}, "notice", "", "told", m.Notice)
	b.say(channel, Text{Body: m.Notice})
}

// act does what a permitted message asks for. The paths without a model come first and share nothing with it.
func (b *Bot) act(m Message, c command) {
	if late := time.Since(m.At); !m.At.IsZero() && late > b.Confirm.TTL && (c.kind == confirm || c.kind == power && c.verb.Changes()) {
		b.tooLate(m, c)
		return
	}
	if m.Place.Thread == "" {
		var ok bool
		if m, ok = b.opened(m, c); !ok {
			return
		}
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
	case home:
		b.home(m.From, "")
	case talk: // in a thread that was opened for it
		b.talk(m, c.arg, b.turnAt(m))
	case rerun:
		b.rerun(m)
	case notice, nothing:
	}
}

// answer says one sentence in the thread, to the person alone where the chat can do that. Who pressed a button on the
// bot's own page reads it there.
func (b *Bot) answer(m Message, text string) {
	if m.onPage() {
		b.home(m.From, text)
		return
	}
	b.say(m.Place, Text{Body: text, Only: m.From.ID})
}

// say posts for certain; a failure that lasts until shutdown is logged.
func (b *Bot) say(p Place, t Text) string {
	id, _ := b.post(p, t)
	return id
}

func (b *Bot) post(p Place, t Text) (id string, err error) {
	id, err = b.out[p.Chat].post(b.work, p, t)
	if err != nil {
		b.Log.Error("a message was not delivered", "place", p.String(), "text", cut(b.safe(t.Body), mostLogged), "err", err)
	}
	return id, err
}

// told says t, and that this is done with. What a thread does not take any more, locked or deleted, its channel hears; what
// no chat will ever take is done with as well; what a shutdown has cut is for the next start.
func (b *Bot) told(p Place, t Text) bool {
	_, err := b.post(p, t)
	if gone(err) && p.Thread != "" && t.Only == "" {
		p.Thread, t.Choices = "", nil // which were about the thread
		t.Body += "\n\nI say this here because its thread takes no messages any more; it is locked or deleted."
		_, err = b.post(p, t)
	}
	return err == nil || gone(err) || errors.Is(err, errRefused)
}

// record keeps a decision or a command with who and when; it never blocks what it records.
func (b *Bot) record(ctx context.Context, p Place, who auth.Person, act, subject, outcome, text string) {
	b.Store.Record(ctx, b.entry(p, who, act, subject, outcome, text))
}

func (b *Bot) entry(p Place, who auth.Person, act, subject, outcome, text string) store.Entry {
	return store.Entry{
		At: time.Now(), Actor: who.String(), Act: act, Chat: p.Chat, Channel: p.Channel, Thread: p.Thread,
		Subject: subject, Outcome: outcome, Text: cut(b.safe(text), mostCommand),
	}
}

// safe is foreign text without control bytes and without our secrets; it comes before any cutting and escaping, which
// would hide a secret from the mask.
func (b *Bot) safe(s string) string { return b.Mask(printable(s)) }

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
