package pve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// The client's habits.
const (
	keepaliveEvery = 10 * time.Second
	keepaliveLimit = 3 * time.Second
	warmLimit      = 3 * time.Second // for opening a channel on a link that was alive a moment ago
	maxPause       = 30 * time.Second
	firstPause     = 500 * time.Millisecond
	steadyAfter    = 10 * time.Second
)

var errClosed = errors.New("the client was closed")

// Client asks the gate of one VM, over one connection that [Client.Keep] holds warm. A connection full of
// commands that the host does not end is replaced. Its methods may be called from many goroutines at once.
type Client struct {
	host Host
	vmid int
	log  *slog.Logger

	// closing ends with Close. It is kept here because no caller's context spans the client's life.
	closing context.Context
	close   context.CancelCauseFunc

	dialing chan struct{} // one dial at a time

	keepaliveEvery, keepaliveLimit time.Duration
	pace                           pace

	mu     sync.Mutex    // guards the rest, all that links say so of, and wg against Close
	link   *link         // nil or the newest one
	old    []*link       // retired, and still listened to
	freed  chan struct{} // closed and made anew when there may be room again
	closed bool
	wg     sync.WaitGroup
}

// NewClient makes a client for the gate of the VM with that id; it does not connect yet. Close it.
func NewClient(h Host, vmid int, log *slog.Logger) *Client {
	c := &Client{
		host: h, vmid: vmid, log: log.With("host", h.Name),
		dialing: make(chan struct{}, 1), freed: make(chan struct{}),
		keepaliveEvery: keepaliveEvery, keepaliveLimit: keepaliveLimit, pace: usual(),
	}
	c.closing, c.close = context.WithCancelCause(context.Background())
	return c
}

// Keep dials, and dials again with growing pauses whenever the connection is lost, until ctx ends or the client is
// closed. Without it Run dials when it needs to. The caller runs it in a goroutine of its own and waits for it.
func (c *Client) Keep(ctx context.Context) {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return
	}
	defer leave()
	pause, said := firstPause, ""
	for ctx.Err() == nil {
		l, err := c.connect(ctx)
		if err != nil {
			if text := err.Error(); text != said && ctx.Err() == nil {
				c.log.WarnContext(ctx, "host is out of reach", "err", err)
				said = text
			}
		} else {
			c.log.InfoContext(ctx, "link is up")
			said = ""
			up := time.Now()
			select {
			case <-l.retired:
				c.log.WarnContext(ctx, "link is full of commands that do not end, taking another one")
				continue
			case <-l.gone:
				c.log.WarnContext(ctx, "link was lost", "err", l.why)
			case <-ctx.Done():
				return
			}
			if time.Since(up) > steadyAfter {
				pause = firstPause
			}
		}
		wait(ctx, pause/2+rand.N(pause)) //nolint:gosec // jitter needs no secrecy
		pause = min(2*pause, maxPause)
	}
}

// Close ends the connection and waits for everything that the client started. A Run that is under way returns; the
// change that it follows goes on at the host.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	links := slices.Clone(c.old)
	if c.link != nil {
		links = append(links, c.link)
	}
	c.mu.Unlock()
	c.close(errClosed)
	for _, l := range links {
		l.fail(errClosed)
	}
	c.wg.Wait()
	return nil
}

// enter admits a caller unless the client is closed. Its context ends with the client as well.
func (c *Client) enter(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ctx, nil, errClosed
	}
	c.wg.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(c.closing, func() { cancel(errClosed) })
	return ctx, func() {
		release()
		cancel(nil)
		c.wg.Done()
	}, nil
}

// connect returns the link, dialing if there is none.
func (c *Client) connect(ctx context.Context) (*link, error) {
	if l := c.warm(); l != nil {
		return l, nil
	}
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, c.host.unreachable(Closed, context.Cause(ctx))
	}
	if l := c.warm(); l != nil {
		return l, nil
	}
	client, err := c.host.Dial(ctx)
	if err != nil {
		return nil, err
	}
	l := newLink(client)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = client.Close()
		return nil, c.host.unreachable(Closed, errClosed)
	}
	c.link = l
	c.wg.Go(func() {
		err := client.Wait()
		l.die.Do(func() { l.why = fmt.Errorf("the host ended the connection: %w", err) })
		close(l.gone)
	})
	c.wg.Go(func() { l.watch(c.keepaliveEvery, c.keepaliveLimit, func() bool { return c.busy(l) }) })
	return l, nil
}

// warm returns the link if nothing is known against it.
func (c *Client) warm() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return nil
	}
	select {
	case <-c.link.gone:
		c.link = nil
	default:
	}
	return c.link
}

// start opens a channel for the verb, on the warm link or on a new one. As long as it returns an error, nothing was run.
func (c *Client) start(ctx context.Context, v Verb) (*session, error) {
	cold := false
	for {
		if ctx.Err() != nil {
			return nil, c.host.unreachable(Stuck, context.Cause(ctx))
		}
		cold = cold || c.warm() == nil
		l, err := c.connect(ctx)
		if err != nil {
			return nil, err
		}
		s, again, err := c.admit(l, v)
		if err != nil {
			return nil, c.host.unreachable(Closed, err)
		}
		if s == nil {
			select {
			case <-again:
				continue
			case <-ctx.Done():
				return nil, c.host.unreachable(Stuck, context.Cause(ctx))
			}
		}
		limit := warmLimit
		if cold {
			limit = sessionLimit
		}
		if err = s.open(ctx, limit); err == nil {
			s.proceed <- struct{}{}
			return s, nil
		}
		c.leave(s)
		if refused := c.host.refusal(err); refused != nil {
			return nil, refused
		}
		if cold || ctx.Err() != nil {
			return nil, c.host.unreachable(Stuck, err)
		}
		<-l.gone // soon: open has failed it
		cold = true
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
