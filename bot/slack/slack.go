// Package slack is Slack as a chat: Socket Mode in, the Web API out. It owns the connection, who and where the bot is in
// Slack, which of Slack's payloads a person said, what is read again after a gap, and how text looks and is split there.
// What a message means, who may do what and when to send again belong to the core.
package slack

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"bgbot/bot"
)

// chatName is [bot.Place].Chat and [auth.Person].Chat of everything that comes from here.
const chatName = "slack"

// Options say which app, which workspace and which channel.
type Options struct {
	AppToken string   // xapp-…, for the connection; whoever holds it can receive, and swallow, every event
	BotToken string   // xoxb-…, for the Web API; pins the workspace
	Channel  string   // C…, the one channel that is served
	APIURL   string   // ends in /; "" is Slack itself
	People   []string // user IDs on the allowlist. The core decides; here they say whose record to know and who is a stranger
	// Cursor and SetCursor keep how far the channel was read, durably.
	Cursor    func(ctx context.Context, key string) string
	SetCursor func(ctx context.Context, key, value string)
	Log       *slog.Logger
}

// Chat is a [bot.Chat].
type Chat struct {
	*sender
	opt    Options
	home   home
	web    *web
	people *people
	state  *channel
	stale  chan struct{} // asks for a look at the channel and the token now; capacity 1
	public bool          // the channel is not private
	pace   pace
}

// pace is every duration and bound of a running Chat; tests have smaller ones.
type pace struct {
	look      time.Duration // how often Slack is asked what the channel and the people are
	lookAgain time.Duration // after a failure
	lookGap   time.Duration // between two looks, whatever asks for them
	readBack  time.Duration // how often the channel is read back though nothing seems wrong; what is two minutes old is not run any more
	grace     time.Duration // for what is on its way when it is read back
	keep      time.Duration // how often the ledger is kept when it has changed
	alive     time.Duration // how exactly a later process knows when this one was connected
	merge     time.Duration // between two announcements of who came
	most      int           // messages of one conversation that are read back; of what was said before the mark, a tenth
	link      linkTiming
}

var slackPace = pace{
	look: 4 * time.Minute, lookAgain: 30 * time.Second, lookGap: 2 * time.Second,
	readBack: 90 * time.Second, grace: 10 * time.Second, keep: time.Second, alive: time.Minute,
	merge: time.Minute, most: 20_000,
}

// httpLimit is how long one call to the Web API may take; slack-go's own client has no limit, and a black hole would
// hang for ever (measured).
const httpLimit = 10 * time.Second

// Open checks the tokens, their scopes and the channel, and reads who is on the allowlist. It tries again for a while
// what may pass; its error is a sentence that names the key and the mend.
func Open(ctx context.Context, opt Options) (*Chat, error) {
	s := newSurvey(opt)
	first, rest := s.needed()
	for _, look := range first {
		if _, err := insist(ctx, s.opt.Log, openLimit, look.do); err != nil {
			return nil, err
		}
	}
	// At once, since each is as far away as the whole of Slack (measured with answers after 60 ms, on a busy machine: a socket
	// after 0.3 to 0.4 s; one after the other 0.5 s).
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var looking sync.WaitGroup
	for _, look := range rest {
		looking.Go(func() {
			if _, err := insist(ctx, s.opt.Log, openLimit, look.do); err != nil {
				stop(err)
			}
		})
	}
	looking.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return s.chat(), nil
}

// Run delivers what people say and click in the channel until ctx is done, and reads back what was said meanwhile.
func (c *Chat) Run(ctx context.Context, handle func(context.Context, bot.Message) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	in := c.intake(ctx, handle)
	link := newLink(linkOptions{web: c.web.forApp(c.opt.AppToken), log: c.opt.Log, timing: c.pace.link})
	in.recount = link.recount
	in.begin(ctx, c.public)
	var own sync.WaitGroup
	own.Go(func() {
		if err := in.watch(ctx, c.people.complete()); err != nil {
			stop(err)
		}
	})
	own.Go(func() { in.readers(ctx, c.public) })
	own.Go(func() { in.catchUp(ctx) })
	own.Go(func() { in.bookkeeping(ctx, link.connected) })
	err := link.run(ctx, listener{take: in.take, gap: in.gap, alarm: in.alarm})
	stop(err)
	own.Wait()
	in.wg.Wait()
	in.end(ctx)
	return err
}

// intake prepares to receive.
func (c *Chat) intake(ctx context.Context, handle func(context.Context, bot.Message) error) *intake {
	return &intake{
		home: c.home, web: c.web, people: c.people, channelState: c.state, clock: c.web.clock, ledger: &ledger{},
		gaps: &gaps{wake: make(chan struct{}, 1)}, stale: c.stale, audience: make(chan struct{}, 1),
		handle: handle, post: c.Post, draw: c.Home, cursor: c.opt.Cursor, setCursor: c.opt.SetCursor, pace: c.pace, log: c.opt.Log, ctx: ctx,
	}
}

// Post is [sender.Post].
func (c *Chat) Post(ctx context.Context, p bot.Place, t bot.Text) (string, error) {
	id, err := c.sender.Post(ctx, p, t)
	c.doubt(err)
	return id, err
}

// Edit is [sender.Edit].
func (c *Chat) Edit(ctx context.Context, p bot.Place, id string, t bot.Text) error {
	err := c.sender.Edit(ctx, p, id, t)
	c.doubt(err)
	return err
}

// Home is [sender.Home].
func (c *Chat) Home(ctx context.Context, person string, t bot.Text) error {
	err := c.sender.Home(ctx, person, t)
	c.doubt(err)
	return err
}

// NameOf is how Slack shows somebody; of the allowlist that is known from the start.
func (c *Chat) NameOf(person string) string {
	if name := c.people.name(person); name != person {
		return name
	}
	return ""
}

// doubt has the token looked at once it is refused, so that Run ends with the mend and not only what was to be said.
func (c *Chat) doubt(err error) {
	if _, fatal := errors.AsType[*bot.Fatal](err); fatal {
		wakeUp(c.stale)
	}
}
