// Package qmp owns the conversation with a running QEMU over its unix sockets: the monitor (QMP), the guest agent behind
// it (QGA), and how the picture of the screen comes out. It does not look for the sockets, does not retry, and draws no
// conclusion from an answer or from silence.
//
// A conversation is one connection, for one goroutine at a time. When the connection fails, or an answer does not come,
// it is over: nobody knows whose answer would come next, so every later call fails with the same error. Dial anew.
// A refusal, a [CommandError], ends nothing. Nothing here has a limit of its own but in size: give each context a
// deadline.
package qmp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Why a conversation ended, or did not begin. If the context was cancelled, or was over before anything was asked, the
// error wraps the context's cause instead: that is no fault of QEMU's.
var (
	// ErrAbsent: there is no socket, or nobody listens on it.
	ErrAbsent = errors.New("nobody listens")
	// ErrSilent: the connection stands, or waits in line, and no answer came before the deadline. A hung main loop looks
	// like this, and so does a QEMU that talks to somebody else: both sockets serve one client at a time. Behind the
	// agent's socket it may also be the guest that sleeps.
	ErrSilent = errors.New("no answer in time")
	// ErrGreeted comes with ErrSilent: QEMU greeted, so its main loop runs, and did not take the first command. Its
	// commands are executed one after the other, whoever sends them, so an earlier one has not ended.
	ErrGreeted = errors.New("it greets, but takes no command")
	// ErrGone: the other side hung up. QEMU has ended, or is about to.
	ErrGone = errors.New("hung up")
)

// CommandError is what QEMU, or the guest agent, has against a command. The conversation goes on.
type CommandError struct{ Command, Class, Desc string }

func (e *CommandError) Error() string { return fmt.Sprintf("%s: %s (%s)", e.Command, e.Desc, e.Class) }

// What an answer may cost at most. The longest one of a healthy QEMU 7.2, the schema, has 200 kB; of an agent, which says
// whatever the guest likes, 64 kB of a file are the longest that is asked for.
const (
	maxLine      = 4 << 20
	maxAgentLine = 256 << 10
)

// message is a line of either protocol: a greeting, an event, or an answer.
type message struct {
	QMP    *greeting
	Event  string
	ID     json.RawMessage
	Return json.RawMessage
	Error  *struct{ Class, Desc string }
}

type request struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        int    `json:"id,omitempty"`
}

// wire is one connection and the lines on it.
type wire struct {
	socket string
	conn   *net.UnixConn
	in     *bufio.Reader
	most   int   // bytes of a line
	err    error // what ended the conversation
}

func dial(ctx context.Context, socket string, most int) (*wire, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%s: %w", socket, ErrAbsent)
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", socket, context.Cause(ctx))
	case errors.Is(err, syscall.EAGAIN):
		// The line of those who wait to be served is full. QEMU's is one long, so two clients that gave up suffice.
		return nil, fmt.Errorf("%s: %w: others wait already", socket, ErrSilent)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	return &wire{socket: socket, conn: conn.(*net.UnixConn), in: bufio.NewReader(conn), most: most}, nil
}

func (w *wire) close() error { return w.conn.Close() }

// during has talk end with ctx, by its deadline or its cancellation. An error of talk ends the conversation.
func (w *wire) during(ctx context.Context, talk func() error) error {
	if w.err != nil {
		return w.err
	}
	if ctx.Err() != nil { // nothing was asked, so nothing is lost
		return fmt.Errorf("%s: %w", w.socket, context.Cause(ctx))
	}
	deadline, _ := ctx.Deadline() // without one it is zero, and zero takes off the last call's
	_ = w.conn.SetDeadline(deadline)
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = w.conn.SetDeadline(time.Unix(1, 0))
		close(over)
	})
	err := talk()
	if !stop() {
		<-over // lest it cuts off the next call
	}
	if err != nil {
		w.err = w.explain(ctx, err)
	}
	return w.err
}

func (w *wire) explain(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && errors.Is(ctx.Err(), context.Canceled):
		err = context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = ErrSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		err = ErrGone
	}
	return fmt.Errorf("%s: %w", w.socket, err)
}

// send writes all of line; the descriptors travel with its first byte.
func (w *wire) send(line []byte, fds ...int) error {
	if len(fds) > 0 {
		n, _, err := w.conn.WriteMsgUnix(line, unix.UnixRights(fds...), nil)
		if err != nil {
			return err
		}
		line = line[n:]
	}
	_, err := w.conn.Write(line)
	return err
}

// receive reads the next message.
func (w *wire) receive() (message, error) {
	line, err := readLine(w.in, w.most)
	if err != nil {
		return message{}, err
	}
	return parse(line)
}

func parse(line []byte) (m message, err error) {
	if json.Unmarshal(line, &m) != nil || line[0] != '{' {
		return m, fmt.Errorf("not a message of QEMU: %.80q", line)
	}
	return m, nil
}

// readLine returns the next line that is not empty, without the white space around it.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	for {
		line, err := rawLine(r, limit)
		if line = bytes.TrimSpace(line); err != nil || len(line) > 0 {
			return line, err
		}
	}
}

func rawLine(r *bufio.Reader, limit int) (line []byte, _ error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, fmt.Errorf("a line is longer than %d bytes", limit)
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// settle turns an answer into the caller's result.
func (m message) settle(command string, result any) error {
	if m.Error != nil {
		return &CommandError{command, m.Error.Class, m.Error.Desc}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, result); err != nil {
		return fmt.Errorf("%s: the answer is not what was expected: %w", command, err)
	}
	return nil
}

func encode(r request) ([]byte, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Execute, err)
	}
	return append(line, '\n'), nil
}
