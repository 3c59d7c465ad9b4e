package qmp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
)

// Agent is a conversation with the agent inside a guest. QEMU only passes the bytes on, so all of it is the guest's
// word, and a guest may lie.
type Agent struct{ wire *wire }

// sentinel cannot occur in JSON: it makes the agent drop half a command of an earlier client, and it stands before its
// answer to guest-sync-delimited.
const sentinel = 0xFF

// DialAgent connects to the socket of a guest agent and waits until the agent answers. What it still had to say to
// earlier clients is skipped. ErrSilent means that no agent runs, that the guest or QEMU hangs, or that somebody else
// talks to it.
func DialAgent(ctx context.Context, socket string) (*Agent, error) {
	w, err := dial(ctx, socket, maxAgentLine)
	if err != nil {
		return nil, err
	}
	id := rand.Int64N(1 << 53) //nolint:gosec // it tells our answer from a stale one; no secret. JSON readers agree on 53 bits.
	if err := w.during(ctx, func() error { return w.sync(id) }); err != nil {
		_ = w.close()
		return nil, err
	}
	return &Agent{w}, nil
}

// sync asks for id and skips all that comes before it, at no cost in memory.
func (w *wire) sync(id int64) error {
	line, err := encode(request{Execute: "guest-sync-delimited", Arguments: map[string]any{"id": id}})
	if err != nil {
		return err
	}
	if err := w.send(append([]byte{sentinel}, line...)); err != nil {
		return err
	}
	want := fmt.Sprint(id)
	for {
		if err := skipPast(w.in, sentinel); err != nil {
			return err
		}
		line, err := readLine(w.in, w.most)
		if err != nil {
			return err
		}
		line = line[bytes.LastIndexByte(line, sentinel)+1:] // an earlier answer may have been cut off
		if m, err := parse(line); err == nil && string(m.Return) == want {
			return nil
		}
	}
}

func skipPast(r *bufio.Reader, mark byte) error {
	for {
		_, err := r.ReadSlice(mark)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// Close ends the conversation and lets the next client in.
func (a *Agent) Close() error { return a.wire.close() }

// Do has the agent execute a command, as [Monitor.Do] does QEMU.
func (a *Agent) Do(ctx context.Context, command string, arguments, result any) error {
	line, err := encode(request{Execute: command, Arguments: arguments}) // old agents know no id
	if err != nil {
		return err
	}
	var answer message
	err = a.wire.during(ctx, func() error {
		if err := a.wire.send(line); err != nil {
			return err
		}
		answer, err = a.wire.receive()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return answer.settle(command, result)
}

// ReadFile reads a file of the guest. One of more than limit bytes is an error.
func (a *Agent) ReadFile(ctx context.Context, path string, limit int) (data []byte, err error) {
	var handle int64
	if err := a.Do(ctx, "guest-file-open", map[string]any{"path": path, "mode": "r"}, &handle); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, err = a.readAll(ctx, handle, limit)
	if closed := a.Do(ctx, "guest-file-close", map[string]any{"handle": handle}, nil); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

func (a *Agent) readAll(ctx context.Context, handle int64, limit int) (data []byte, _ error) {
	const atATime = 64 << 10
	for {
		var part struct {
			Data []byte `json:"buf-b64"`
			EOF  bool
		}
		arguments := map[string]any{"handle": handle, "count": min(atATime, limit+1-len(data))}
		if err := a.Do(ctx, "guest-file-read", arguments, &part); err != nil {
			return nil, err
		}
		data = append(data, part.Data...)
		switch {
		case len(data) > limit:
			return nil, fmt.Errorf("longer than %d bytes", limit)
		case part.EOF:
			return data, nil
		case len(part.Data) == 0:
			return nil, errors.New("the agent sends nothing and names no end")
		}
	}
}
