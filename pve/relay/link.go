package relay

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"bgbot/pve"

	"golang.org/x/crypto/ssh"
)

const (
	flushTime = 10 * time.Second // for the client to read the last of the output
	leaveTime = 2 * time.Second  // for the client to hang up after that
)

// link is one connection whose client has logged in. It carries one session with one request.
type link struct {
	raw  net.Conn
	conn *ssh.ServerConn
	end  context.CancelCauseFunc // ends what only reads

	mu       sync.Mutex // guards what follows
	ended    bool
	changing bool
	mute     bool // it was cut
}

// cut ends the link: reads are cancelled, a change goes on without its client.
func (l *link) cut(cause error) {
	l.mu.Lock()
	l.ended, l.mute = true, true
	l.mu.Unlock()
	l.end(cause)
	_ = l.conn.Close()
}

// stop ends the link, but leaves the client of a running change its answer.
func (l *link) stop() {
	l.mu.Lock()
	changing := l.changing
	l.ended = true
	l.mu.Unlock()
	if !changing {
		l.cut(errStopping)
	}
}

// cutOff says that the client was cut. It is told nothing more: its read has ended because of that, perhaps before the
// connection has.
func (l *link) cutOff() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mute
}

// begin says whether v may still begin. From here on a change holds the link open.
func (l *link) begin(v pve.Verb) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.changing = v.Changes()
	return true
}

// serve takes a connection from its first byte to its last.
func (s *Server) serve(ctx context.Context, raw net.Conn) {
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(s.patience))
	stopLogin := context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn, chans, reqs, err := ssh.NewServerConn(raw, s.config())
	stopLogin()
	if err != nil {
		if left, now := s.warned.At(time.Now()); now {
			s.log.WarnContext(ctx, "relay refused a login", "err", err, "left_out", left)
		}
		return
	}
	reads, end := context.WithCancelCause(ctx)
	defer end(nil)
	l := &link{raw: raw, conn: conn, end: end}

	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = conn.Close() }()
	wg.Go(func() { ssh.DiscardRequests(reqs) }) // keepalives want an answer, forwardings are refused by it
	g := s.join(conn.Permissions, l)
	if g == nil {
		if left, now := s.warned.At(time.Now()); now {
			s.log.WarnContext(ctx, "relay closed a connection", "reason", "revoked, or too many at once", "left_out", left)
		}
		return
	}
	defer s.part(g, l)
	done := make(chan struct{})
	defer close(done)
	wg.Go(func() {
		select {
		case <-ctx.Done():
			l.stop()
		case <-done:
		}
	})

	ch, requests := session(chans)
	if ch == nil {
		return
	}
	wg.Go(func() {
		for nc := range chans {
			_ = nc.Reject(ssh.Prohibited, "one session for each connection")
		}
	})
	command, ok := request(requests)
	if !ok {
		return
	}
	_ = raw.SetDeadline(time.Time{})
	wg.Go(func() {
		for r := range requests {
			_ = r.Reply(false, nil)
		}
		end(errHungUp)
	})
	s.answer(reads, g, l, ch, command)
}

// session is the first session that the client opens; nil when it leaves. Every other channel is a forwarding.
func session(chans <-chan ssh.NewChannel) (ssh.Channel, <-chan *ssh.Request) {
	for nc := range chans {
		if nc.ChannelType() != "session" {
			_ = nc.Reject(ssh.Prohibited, "nothing is forwarded here")
			continue
		}
		ch, requests, err := nc.Accept()
		if err != nil {
			return nil, nil
		}
		return ch, requests
	}
	return nil, nil
}

// request is the one command that the client asks for. A shell is the empty command, so that a bare `ssh pve` is told
// the verbs. Terminals, variables, subsystems and whatever else there is are refused on the way.
func request(requests <-chan *ssh.Request) (command string, ok bool) {
	for r := range requests {
		switch r.Type {
		case "shell":
			_ = r.Reply(true, nil)
			return "", true
		case "exec":
			command, err := parseExec(r.Payload)
			if err != nil {
				_ = r.Reply(false, nil)
				continue
			}
			_ = r.Reply(true, nil)
			return command, true
		default:
			_ = r.Reply(false, nil)
		}
	}
	return "", false
}

// parseExec reads the payload of an exec request (RFC 4254, section 6.5).
func parseExec(payload []byte) (string, error) {
	var exec struct{ Command string }
	if err := ssh.Unmarshal(payload, &exec); err != nil {
		return "", errors.New("an exec request that cannot be parsed")
	}
	return exec.Command, nil
}

// answer runs the command for g and sends what came of it. reads is the context of a verb that changes nothing.
func (s *Server) answer(reads context.Context, g *guest, l *link, ch ssh.Channel, command string) {
	out := newPrinter(ch)
	exit := s.run(reads, g, l, out, command)

	// From here on a client that does not read, or does not leave, holds nothing up.
	_ = l.raw.SetDeadline(time.Now().Add(flushTime))
	out.close()
	if l.cutOff() {
		return
	}
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(exit)})) //nolint:gosec // 0 to 7
	_ = ch.Close()
	_ = l.raw.SetDeadline(time.Now().Add(leaveTime))
	_ = l.conn.Wait()
}

func (s *Server) run(reads context.Context, g *guest, l *link, out *printer, command string) pve.Exit {
	verb, err := pve.ParseVerb(command)
	if err != nil {
		s.log.WarnContext(reads, "relay refused a command", "session", g.name, "err", err)
		out.fail(err)
		return pve.Rejected
	}
	if !l.begin(verb) {
		out.fail(stoppingError{})
		return pve.Broken
	}
	ctx := reads
	if verb.Changes() {
		ctx = context.WithoutCancel(reads)
	}
	began := time.Now()
	report, err := g.handler(ctx, verb, out.step)
	exit := report.Result.Exit
	switch {
	case err != nil && exit == pve.Done:
		exit = pve.Broken
	case err == nil && report.Result.Text == "":
		report.Result.Text = exit.Sentence()
	}
	s.log.InfoContext(ctx, "relay ran a verb", "session", g.name, "verb", verb, "op", report.Result.Op,
		"exit", int(exit), "took", time.Since(began), "err", err)
	if l.cutOff() {
		return exit
	}
	out.report(report)
	if err != nil {
		out.fail(err)
	}
	return exit
}

// stoppingError is what a client hears whose verb came too late.
type stoppingError struct{}

func (stoppingError) Error() string       { return errStopping.Error() }
func (stoppingError) UserMessage() string { return "The bot is stopping; nothing was started." }
