// Package console is a terminal as a chat: the same bot when the chat service is down, and the chat of a drill. It owns
// the screen, the keys, the plain lines that scripts read, the input history and where attachments are saved. It decides
// nothing: what a message means, who may act and what a button does belong to the core.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"bgbot/auth"
	"bgbot/bot"
)

// Options say how a terminal becomes a chat.
type Options struct {
	In       io.Reader        // what the person types; if it is a Closer and no file, it is closed to end a blocked read
	Out      io.Writer        // where the bot speaks
	Person   auth.Person      // who sits here
	Name     string           // how the person is shown; "" = you
	Title    string           // what stands above the transcript
	Plain    bool             // lines also on a terminal
	Echo     bool             // plain lines: show what the person typed, for an Out whose terminal did not echo it
	Dir      string           // attachments are saved there; it is made when needed; "" = they are not saved
	History  string           // file of the typed lines, mode 0600; "" = none
	Environ  []string         // KEY=value; TERM, NO_COLOR, COLORTERM and the like choose what the terminal is given
	Greeting string           // CommonMark, shown first
	Now      func() time.Time // nil = time.Now
}

// Console is a [bot.Chat]. Post and Edit may be called at any time from any goroutine: also before Run and after it,
// when what the bot still has to say is printed as plain lines.
type Console struct {
	opt    Options
	full   bool             // the screen is drawn; else plain lines
	paints bool             // the screen's cells may have any colour, so that pictures are drawn
	quiet  time.Duration    // how long nothing may happen before a finished script ends
	wake   chan struct{}    // something changed; capacity 1, never blocks
	outbox chan bot.Message // what the person said and the core has not recorded yet
	stuck  func() bool      // the terminal takes nothing
	finish func()           // waits until it has taken all

	mu      sync.Mutex // guards all below
	talk    transcript
	buttons []numbered // that plain lines have shown, the newest last
	retired int        // how many were dropped before these
	painted []*entry   // with pictures, the oldest first
	drawing bool       // the screen owns Out
	pending int        // messages on their way to the core
	posts   int
	edits   int
	lastID  int64
}

const (
	chatName   = "console" // both Place.Chat and Place.Channel
	outboxSize = 64
)

// Open prepares a console and writes nothing itself. The screen is used if In and Out are a terminal that can
// address its cursor.
func Open(opt Options) (*Console, error) {
	switch {
	case opt.In == nil || opt.Out == nil:
		return nil, errors.New("console: In and Out must be given")
	case opt.Person.ID == "":
		return nil, errors.New("console: Person must be given, or every message would be refused")
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Name == "" {
		opt.Name = "you"
	}
	if opt.Dir != "" {
		dir, err := filepath.Abs(opt.Dir)
		if err != nil {
			return nil, fmt.Errorf("console: folder for attachments: %w", err)
		}
		opt.Dir = dir
	}
	c := &Console{
		opt:    opt,
		full:   !opt.Plain && addressable(opt),
		quiet:  2 * time.Second,
		wake:   make(chan struct{}, 1),
		outbox: make(chan bot.Message, outboxSize),
	}
	c.paints = c.full && colourful(opt.Environ)
	c.opt.Out, c.finish = Outlet(opt.Out)
	c.stuck = func() bool { return false }
	if o, ok := c.opt.Out.(*outlet); ok {
		c.stuck = o.stuck
		o.tell(c.changed)
	}
	if opt.Greeting != "" {
		c.talk.here().add(&entry{from: hello, text: strings.TrimSpace(clean(opt.Greeting)), at: opt.Now()})
	}
	return c, nil
}

// addressable says that a full screen can be drawn: both ends are a terminal, and not a dumb one.
func addressable(opt Options) bool {
	return terminal(opt.In) && terminal(opt.Out) && !slices.Contains(opt.Environ, "TERM=dumb")
}

// device is what may be a terminal.
type device interface {
	io.Writer
	Fd() uintptr
}

func terminal(v any) bool {
	f, ok := v.(device)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Run serves the person until they leave (nil), until In ends and the bot has nothing more to do (nil), or until ctx is
// done (its cause). A message that handle refuses is shown as not recorded.
func (c *Console) Run(ctx context.Context, handle func(context.Context, bot.Message) error) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { c.deliver(ctx, handle) })
	if c.full {
		return c.runScreen(ctx)
	}
	return c.runPlain(ctx)
}

// Close waits a moment until the terminal has taken all. What else runs, runs inside Run, and Run waits for it.
func (c *Console) Close() error {
	c.finish()
	return nil
}

// Counts says how often the bot pushed (posts that are not quiet) and how often it edited.
func (c *Console) Counts() (posts, edits int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.posts, c.edits
}

// Post shows t in the thread of p. It fails only when plain lines cannot be written any more.
func (c *Console) Post(_ context.Context, p bot.Place, t bot.Text) (string, error) {
	e := &entry{from: theBot, files: c.save(t.Files)}
	if c.paints {
		e.pictures = pictures(t.Files)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.id, e.at = c.newID(), c.opt.Now()
	e.set(t)
	c.keep(e)
	if p.Thread != "" && c.talk.untouched() { // after a restart the person goes on where the bot does
		c.talk.begin(p.Thread)
	}
	th := c.talk.thread(p.Thread)
	th.add(e)
	if !t.Quiet {
		c.posts++
	}
	c.changed()
	if !c.drawing {
		err := c.printPost(th, e)
		c.show(t.Files)
		return e.id, err
	}
	if th != c.talk.here() {
		th.unread++
		c.talk.here().add(&entry{from: alert, text: th.notice(e), at: e.at})
	}
	return e.id, nil
}

// mostPainted is how many messages keep their pictures; older ones have the file.
const mostPainted = 16

// keep bounds what pictures take of the memory.
func (c *Console) keep(e *entry) {
	if len(e.pictures) == 0 {
		return
	}
	c.painted = append(c.painted, e)
	if len(c.painted) > mostPainted {
		c.painted[0].pictures, c.painted[0].drawn.stale = nil, true
		c.painted = slices.Delete(c.painted, 0, 1)
	}
}

// show draws the pictures among the files below the plain lines that follow the screen.
func (c *Console) show(files []bot.File) {
	out, ok := c.opt.Out.(device)
	if !ok || !c.full {
		return
	}
	for _, f := range files {
		if f.Type == pictureType {
			Draw(out, c.opt.Environ, f.Data)
		}
	}
}

// Edit replaces what Post said in place. A message of an earlier run is [bot.Gone].
func (c *Console) Edit(_ context.Context, _ bot.Place, id string, t bot.Text) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	th, e := c.talk.find(id)
	if e == nil {
		return &bot.Gone{Reason: "this terminal does not show that message any more"}
	}
	e.set(t)
	c.edits++
	c.changed()
	if !c.drawing {
		return c.printEdit(th, e)
	}
	return nil
}

// changed wakes whoever draws or waits; several changes may become one wake-up.
func (c *Console) changed() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// newID is unique across restarts as long as the clock does not run backwards over one.
func (c *Console) newID() string {
	c.lastID = max(c.lastID+1, c.opt.Now().UnixNano())
	return strconv.FormatInt(c.lastID, 36)
}

// deliver hands messages to the core one by one, in the order in which they were typed.
func (c *Console) deliver(ctx context.Context, handle func(context.Context, bot.Message) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-c.outbox:
			err := handle(ctx, m)
			c.mu.Lock()
			c.pending--
			if err != nil {
				c.refuse(m, sentence(err))
			}
			c.changed()
			c.mu.Unlock()
		}
	}
}

// sentence is an error as the person reads it.
func sentence(err error) string {
	type spoken interface {
		error
		UserMessage() string
	}
	if e, ok := errors.AsType[spoken](err); ok {
		return e.UserMessage()
	}
	return err.Error()
}
