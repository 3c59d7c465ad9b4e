package slack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bgbot/bot"
)

// linkOptions say whose link it is.
type linkOptions struct {
	web    *web // asks with the app token, and so learns Slack's time before anything comes
	log    *slog.Logger
	timing linkTiming // zero = slackTiming
}

// listener is who hears what comes over a link. Its functions are called from goroutines of the link, each of them never
// twice at once, and must end when their ctx does: run waits for them.
type listener struct {
	// take records an envelope and returns at once; what is to be done about it happens later. Envelopes come one by one, in
	// the order in which they arrived, whatever socket they came on; its ctx ends after some seconds. nil means recorded:
	// the envelope is acknowledged, with the answer if there is one and the envelope accepts it. An error means not
	// recorded: it is not acknowledged, Slack sends it again, and gap is called once take succeeds. What cannot be
	// understood must be taken too, or it comes again.
	take func(ctx context.Context, e envelope) (answer []byte, err error)
	// gap reads back what may have been missed since then; the zero time is this link's first connection. It is called
	// after hello, may take long, and meanwhile envelopes go on being taken. Most gaps are short and empty, since Slack
	// sends again what nobody acknowledged: it is not for each of them to be told.
	gap func(ctx context.Context, since time.Time)
	// alarm tells people something about the link itself. The log has it already.
	alarm func(ctx context.Context, text string)
}

// link keeps this app connected to Socket Mode. It is our own because slack-go's closes the socket at the first warning,
// asks for new ones thousands of times a second when Slack ends them at once, does not acknowledge what it cannot decode,
// and goes deaf behind a consumer that stalls (measured with v0.35.0; the benchmarks have both side by side).
type link struct {
	web    *web
	log    *slog.Logger
	timing linkTiming

	queue chan envelope // received and not yet taken
	news  chan string   // alarms on their way to people
	owed  chan struct{} // a gap is to be read back; capacity 1
	again chan struct{} // a new socket is wanted; capacity 1
	end   context.CancelCauseFunc

	running sync.WaitGroup // sockets

	mu       sync.Mutex       // guards what follows
	sockets  map[*socket]bool // from hello to end; true until Slack says that it has done with it
	started  time.Time
	deaf     time.Time   // since when no socket hears; zero: there has been none yet
	told     bool        // people know that no socket hears
	unsent   []unsent    // acknowledgements for the next socket
	gap      *time.Time  // from when on something may have been missed that is still to be read back
	unheard  *time.Time  // when the first envelope came that was not recorded, since the last that was
	shedding bool        // the queue is full and people know it
	ghosts   []time.Time // when our latest sockets ended: Slack may still count them
	crowded  bool        // Slack has too many of our connections, and people know it
	foreign  int         // connections of others on our token, of which people know
	doubts   int         // how often in a row Slack counted more than we hold
}

// linkTiming is every duration of a link; tests have shorter ones.
type linkTiming struct {
	open    time.Duration // apps.connections.open, then the dial, then hello: each within this
	ping    time.Duration // between our pings; NATs forget idle connections after some 10 s (slack-go#1566)
	dead    time.Duration // silence after which a socket is dead; Slack's pongs have taken more than 5 s (bolt-js#2496)
	frame   time.Duration // for one slow frame
	write   time.Duration // for one write
	least   time.Duration // first pause between attempts to connect
	most    time.Duration // longest pause between them, plus or minus a third
	away    time.Duration // the same while Slack cannot be reached
	healthy time.Duration // a socket that has lived so long ends the back-off
	drain   time.Duration // how long a replaced socket is still read; Slack ends it some 10 s after its warning
	take    time.Duration // for recording one envelope; Slack sends it again after 3 s, but late is better than never
	finish  time.Duration // at a shutdown, for all that was received
	patient time.Duration // without any socket, before people are told
	ghost   time.Duration // how long Slack may count a connection that has ended
}

var slackTiming = linkTiming{
	open: 10 * time.Second, ping: 5 * time.Second, dead: 20 * time.Second, frame: time.Minute, write: 5 * time.Second,
	least: time.Second, most: 45 * time.Second, away: 5 * time.Second, healthy: time.Minute, drain: 30 * time.Second,
	take: 10 * time.Second, finish: 3 * time.Second, patient: 2 * time.Minute, ghost: 2 * time.Minute,
}

// linkQueue is how many envelopes wait while one is recorded; those beyond it are left for Slack to send again.
const linkQueue = 256

func newLink(o linkOptions) *link {
	if o.timing == (linkTiming{}) {
		o.timing = slackTiming
	}
	return &link{
		web: o.web, log: o.log, timing: o.timing,
		queue: make(chan envelope, linkQueue), news: make(chan string, 16), owed: make(chan struct{}, 1), again: make(chan struct{}, 1),
		sockets: map[*socket]bool{}, started: time.Now(), end: func(error) {},
	}
}

// run connects and stays connected until ctx ends, whose cause it returns, or until waiting cannot mend it ([bot.Fatal]).
// It is called once. When it returns, nothing of the link runs any more, all that was received and taken is acknowledged,
// and what was not is Slack's to send again.
func (l *link) run(ctx context.Context, to listener) error {
	ctx, end := context.WithCancelCause(ctx)
	l.end = end
	var taking, telling sync.WaitGroup
	taking.Go(func() { l.takeAll(ctx, to.take) })
	telling.Go(func() { l.readBack(ctx, to.gap) })
	telling.Go(func() { l.tell(ctx, to.alarm) })
	end(l.stay(ctx)) // the first cause stays
	taking.Wait()
	for _, s := range l.held() {
		s.close()
	}
	l.running.Wait()
	telling.Wait()
	return context.Cause(ctx)
}

// stay replaces sockets, the old one only once its successor has said hello, and returns why that is over.
func (l *link) stay(ctx context.Context) error {
	pace := backoff{least: l.timing.least, most: l.timing.most}
	var current *socket
	var asked time.Duration // how long Slack itself wants us to wait
	said := ""              // in the log, of why there is no connection
	for {
		if err := pauseFor(ctx, max(pace.pause(), asked)); err != nil {
			return err
		}
		next, err := l.connect(ctx)
		asked = 0
		if ctx.Err() != nil {
			return context.Cause(ctx) // run closes next, if there is one
		}
		if err != nil {
			if fatal, ok := errors.AsType[*bot.Fatal](err); ok {
				return fatal
			}
			if _, away := errors.AsType[*unreached](err); away {
				pace.ease(l.timing.away)
			}
			if busy, ok := errors.AsType[*bot.Busy](err); ok {
				asked = busy.After
			}
			if text := err.Error(); text != said {
				l.log.WarnContext(ctx, "no connection to slack", "attempt", pace.tries, "err", err)
				said = text
			}
			l.tellDeaf()
			continue
		}
		if current != nil {
			current.retire()
		}
		current, said = next, ""
		l.ackLate(current)
		l.outlast(ctx, current, &pace)
	}
}

// outlast returns when a socket has ended or is about to.
func (l *link) outlast(ctx context.Context, s *socket, pace *backoff) {
	began := time.Now()
	l.log.InfoContext(ctx, "connected to slack", "for", s.life)
	var announced <-chan time.Time
	if s.life > 0 {
		timer := time.NewTimer(s.life)
		defer timer.Stop()
		announced = timer.C
	}
	why := "its time is over"
	select {
	case <-announced:
	case <-l.again:
		why = "the connections are to be counted anew"
	case <-s.leaving:
	case <-s.done:
		why = s.err.Error()
	case <-ctx.Done():
		return
	}
	why = cmp.Or(s.parting(), why)
	age := time.Since(began)
	switch {
	case why == linkTooMany:
		pace.exhaust()
	case age >= l.timing.healthy:
		pace.reset()
		l.settle()
	}
	l.log.InfoContext(ctx, "a connection to slack is to be replaced", "reason", why, "age", age.Round(time.Millisecond))
}

// connect makes one attempt. It returns a socket that has said hello, and starts to receive on it.
func (l *link) connect(ctx context.Context) (*socket, error) {
	u, err := l.openSocket(ctx)
	if err != nil {
		return nil, err
	}
	s, err := dialSocket(ctx, u, l.timing)
	if err != nil {
		return nil, &unreached{err}
	}
	l.running.Go(func() { s.serve(func(data []byte) { l.receive(ctx, s, data) }, func() { l.lost(s) }) })
	timer := time.NewTimer(l.timing.open)
	defer timer.Stop()
	select {
	case <-s.greeted:
		return s, nil
	case <-s.leaving:
	case <-s.done:
		err = fmt.Errorf("socket: ended before hello: %w", s.err)
	case <-timer.C:
		err = fmt.Errorf("socket: no hello within %s", l.timing.open)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.close()
	<-s.done
	switch reason := s.parting(); reason {
	case "":
		return nil, err
	case linkTooMany: // the pause must be the longest here too
		return nil, fmt.Errorf("socket: slack ended it before hello: %s: %w", reason, &bot.Busy{After: l.timing.most})
	case linkDisabled:
		return nil, &bot.Fatal{Reason: switchedOff}
	default:
		return nil, fmt.Errorf("socket: slack ended it before hello: %s", reason)
	}
}

// pauseFor waits, or returns why ctx ended.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return context.Cause(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
