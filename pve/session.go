package pve

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// link is one connection to the host that is logged in.
type link struct {
	client *ssh.Client
	gone   chan struct{} // closed when the connection has ended
	die    sync.Once
	why    error // guarded by die; read after gone

	// Guarded by Client.mu.
	sessions map[*session]bool // what the host has not ended yet; true while somebody listens
	retired  chan struct{}     // closed when it takes no more sessions
}

func newLink(client *ssh.Client) *link {
	return &link{client: client, gone: make(chan struct{}), sessions: map[*session]bool{}, retired: make(chan struct{})}
}

// fail ends the connection, and with it all that waits on it.
func (l *link) fail(why error) {
	l.die.Do(func() { l.why = why })
	_ = l.client.Close()
}

// watch asks the other side for a sign of life until the connection ends. SendRequest blocks for ever on a black hole
// (measured), so a timer runs beside it, and closing the client is what frees it.
// busy says that a verb is under way: a host in trouble then gets more time, since cutting the link would lose the
// answer, while an idle link is cheap to replace.
func (l *link) watch(every, patience time.Duration, busy func() bool) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-l.gone:
			return
		case <-ticker.C:
		}
		limit := patience
		if busy() {
			limit = 4 * patience
		}
		late := time.AfterFunc(limit, func() { l.fail(fmt.Errorf("no sign of life within %s", limit)) })
		_, _, err := l.client.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// session is one command on a link. Its goroutine belongs to the client and may outlive the Run that began it: closing
// a session does not end a forced command (measured), so a Run that gives up leaves it behind until the host is done.
type session struct {
	link *link
	verb Verb

	opened  chan error    // one value: nil when the channel is open
	proceed chan struct{} // the go-ahead; nothing that could run was sent before
	left    chan struct{} // closed when nobody listens any more
	lines   chan []byte   // closed after the last line, once run has returned
	ended   chan error    // one value: how the command ended

	// Valid once lines is closed.
	stderr              capped
	cutLines, cutOutput bool
}

func newSession(l *link, v Verb) *session {
	return &session{
		link: l, verb: v,
		opened: make(chan error, 1), proceed: make(chan struct{}), left: make(chan struct{}),
		lines: make(chan []byte, 16), ended: make(chan error, 1), stderr: capped{max: maxText},
	}
}

// run opens a channel, waits for the go-ahead, and follows the command to its end.
func (s *session) run(client *ssh.Client, command string) {
	channel, err := openSession(client, s.link.gone)
	s.opened <- err
	if err != nil {
		return
	}
	defer func() { _ = channel.Close() }()
	select {
	case <-s.proceed:
	case <-s.left:
		return
	}
	out := &splitter{emit: func(line []byte) {
		select {
		case s.lines <- line:
		case <-s.left:
		}
	}}
	channel.Stdout, channel.Stderr = out, &s.stderr
	if err = channel.Start(command); err == nil {
		err = channel.Wait()
	}
	out.flush()
	s.cutLines, s.cutOutput = out.cutLines, out.cutOutput
	s.ended <- err
}

// open waits until the channel is open. An error means that the command was not sent.
func (s *session) open(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-s.opened:
		if _, refused := errors.AsType[*ssh.OpenChannelError](err); err != nil && !refused {
			s.link.fail(err)
		}
		return err
	case <-timer.C:
		err := fmt.Errorf("no answer within %s", limit)
		s.link.fail(err)
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
