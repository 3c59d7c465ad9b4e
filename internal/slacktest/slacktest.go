// Package slacktest is Slack for tests, stories and benchmarks: the part of the Web API and of Socket Mode that a bot in
// one channel meets, on a loopback port, with people, limits, error codes and bad luck. It owns the bytes on the wire, what
// the people of the workspace do and see, and the record of what was asked. It is written from Slack's reference and
// knows no client, ours included.
package slacktest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Options is what a workspace is like. The zero value is one with nominal limits and Slack's own times.
type Options struct {
	Scopes     []string // granted to the bot token; nil means those that a bot in a private channel needs
	Enterprise string   // the id of an Enterprise Grid organisation: payloads then look as they do there
	Commands   []string // slash commands of the app; nil means /vm

	Unlimited bool // no rate limits

	AckTimeout time.Duration   // how long an envelope waits for its ack; 3 s
	Redeliver  []time.Duration // waits before the attempts 1, 2, 3; at once, 1 min, 5 min
	PingEvery  time.Duration   // between two pings on a socket; 4 s
	SocketLife time.Duration   // until a socket is asked to be replaced; 1 h
	WarnAhead  time.Duration   // between the warning and the end of a socket; 10 s

	NoEcho      bool // the app does not hear what it has posted itself
	NoAssistant bool // assistant.threads.setStatus and agents.sessions.setStatus are unknown methods, as in some workspaces
}

func (o Options) withDefaults() Options {
	if o.Scopes == nil {
		o.Scopes = []string{"chat:write", "commands", "files:write", "groups:history", "groups:read", "users:read"}
	}
	if o.Commands == nil {
		o.Commands = []string{"/vm"}
	}
	if o.Redeliver == nil {
		o.Redeliver = []time.Duration{0, time.Minute, 5 * time.Minute}
	}
	for d, otherwise := range map[*time.Duration]time.Duration{
		&o.AckTimeout: 3 * time.Second, &o.PingEvery: 4 * time.Second, &o.SocketLife: time.Hour, &o.WarnAhead: 10 * time.Second,
	} {
		if *d == 0 {
			*d = otherwise
		}
	}
	return o
}

// Server is a running workspace with one app in it. Its methods may be called from many goroutines at once.
type Server struct {
	opt     Options
	address string // host:port
	http    *http.Server
	upgrade websocket.Upgrader
	methods map[string]method
	done    chan struct{}  // closed by Close
	busy    sync.WaitGroup // the accept loop, every handler, the writer of every socket

	mu      sync.Mutex // guards the rest
	closed  bool
	changed chan struct{} // closed and replaced whenever something happens that somebody may wait for
	timers  map[*time.Timer]bool
	passed  time.Duration // by Pass
	minted  int           // ids given out
	lastTS  int64         // microseconds
	scopes  string        // of the bot token
	refusal map[string]string

	users    map[string]*User
	channels map[string]*channel
	feed     []Happening
	calls    []Call
	rates    Rates
	buckets  map[string]*bucket
	blocked  map[string]time.Time // by method, or method and channel: the end of an open Retry-After
	faults   []*Fault

	link      Link
	tickets   map[string]bool // unused; true when it asks for short connections
	sockets   []*socket       // those that are not gone
	dialled   int
	envelopes map[string]*envelope
	order     []*envelope // in the order of their making
	queued    []*envelope // made while no socket was open
	swapped   *envelope   // waits for the next one to overtake it
	stray     Strays

	homes     map[string]*View
	views     map[string]*View
	triggers  map[string]*trigger
	responses map[string]*response
	uploads   map[string]*upload
	streams   map[string]*stream
}

// Start serves a workspace on a free port of 127.0.0.1 until Close. It has one private channel, [Server.Channel], in
// which the app is the only member.
func Start(o Options) (*Server, error) {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("slacktest: %w", err)
	}
	s := &Server{
		opt: o.withDefaults(), address: ln.Addr().String(), done: make(chan struct{}), changed: make(chan struct{}),
		upgrade: websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }},
		timers:  map[*time.Timer]bool{}, refusal: map[string]string{}, users: map[string]*User{}, channels: map[string]*channel{},
		rates: Nominal(), buckets: map[string]*bucket{}, blocked: map[string]time.Time{},
		tickets: map[string]bool{}, envelopes: map[string]*envelope{},
		homes: map[string]*View{}, views: map[string]*View{}, triggers: map[string]*trigger{},
		responses: map[string]*response{}, uploads: map[string]*upload{}, streams: map[string]*stream{},
	}
	s.methods = s.methodTable()
	if o.Unlimited {
		s.rates = Rates{}
	}
	s.settle()
	mux := http.NewServeMux()
	mux.HandleFunc("/api/{method}", s.api)
	mux.HandleFunc("/link/", s.dial)
	mux.HandleFunc("POST /commands/{id}", s.respond)
	mux.HandleFunc("POST /actions/{id}", s.respond)
	mux.HandleFunc("POST /upload/{id}", s.upload)
	s.http = &http.Server{Handler: s.counted(mux), ReadHeaderTimeout: 10 * time.Second}
	s.busy.Go(func() { _ = s.http.Serve(ln) }) // it always ends with ErrServerClosed
	return s, nil
}

// counted lets Close wait for handlers, those of sockets included.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		s.busy.Add(1)
		s.mu.Unlock()
		defer s.busy.Done()
		next.ServeHTTP(w, r)
	})
}

// Close hangs up on every client and returns when all handlers have ended.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	for t := range s.timers {
		t.Stop()
	}
	for _, k := range s.sockets {
		_ = k.conn.UnderlyingConn().Close()
	}
	s.mu.Unlock()
	err := s.http.Close()
	s.busy.Wait()
	return err
}

// URL is what a client takes for https://slack.com/api/.
func (s *Server) URL() string { return "http://" + s.address + "/api/" }

// after runs f with the lock held when d has passed, unless the server is closed before. The lock is held by the caller.
func (s *Server) after(d time.Duration, f func()) *time.Timer {
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.timers, t)
		if !s.closed {
			f()
		}
	})
	s.timers[t] = true
	return t
}

// stop ends a timer of after. The lock is held by the caller.
func (s *Server) stop(t *time.Timer) {
	if t != nil {
		t.Stop()
		delete(s.timers, t)
	}
}

// How long things live.
const (
	triggerLife  = 3 * time.Second  // a trigger_id opens a view
	responseLife = 30 * time.Minute // a response_url answers
	streamLife   = 5 * time.Minute  // a native stream takes more
)

// Pass lets so much time pass for what has a life of its own: triggers, response_urls and streams.
func (s *Server) Pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed += d
}

// now is the time by which such things live. The lock is held by the caller.
func (s *Server) now() time.Time { return time.Now().Add(s.passed) }

// notify wakes everybody who waits. The lock is held by the caller.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait returns when is has become true; is is called with the lock held.
func (s *Server) wait(ctx context.Context, is func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := is(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.done:
			return fmt.Errorf("slacktest: %w", net.ErrClosed)
		}
	}
}
