package qmp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Monitor is a conversation with a QEMU.
type Monitor struct {
	wire    *wire
	version string
	last    int // id of the last command
}

type greeting struct {
	Version struct {
		QEMU    struct{ Major, Minor, Micro int }
		Package string
	}
}

// Dial connects to a monitor's socket, waits for the greeting and opens the conversation.
//
// No greeting, ErrSilent, is no proof of a wedge. QEMU serves one client of a monitor at a time and leaves the next one
// connected and waiting, and Proxmox asks each VM every few seconds on the same socket. Who wants to know asks once more
// after about 3 s; for the same reason a conversation should be over within 2 s.
func Dial(ctx context.Context, socket string) (*Monitor, error) {
	w, err := dial(ctx, socket, maxLine)
	if err != nil {
		return nil, err
	}
	m := &Monitor{wire: w}
	if err := m.greet(ctx); err != nil {
		_ = w.close()
		return nil, err
	}
	return m, nil
}

func (m *Monitor) greet(ctx context.Context) error {
	err := m.wire.during(ctx, func() error {
		hello, err := m.wire.receive()
		if err == nil && hello.QMP == nil {
			err = errors.New("not a monitor: it does not greet")
		}
		if err != nil {
			return err
		}
		v := hello.QMP.Version
		m.version = fmt.Sprintf("%d.%d.%d", v.QEMU.Major, v.QEMU.Minor, v.QEMU.Micro)
		if v.Package != "" {
			m.version += " (" + v.Package + ")"
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err = m.Do(ctx, "qmp_capabilities", nil, nil); errors.Is(err, ErrSilent) {
		return fmt.Errorf("%w: %w", ErrGreeted, err)
	}
	return err
}

// Version is QEMU's own, as "9.2.0 (pve-qemu-kvm_9.2.0-5)".
func (m *Monitor) Version() string { return m.version }

// Close ends the conversation and lets the next client in.
func (m *Monitor) Close() error { return m.wire.close() }

// Do has QEMU execute a command and waits for the answer until ctx ends; events that come between are skipped.
// Arguments are what JSON makes an object of, or nil. The answer is decoded into result, unless that is nil. If QEMU
// refuses, the error is a *[CommandError].
//
// A command whose answer did not come may be executed all the same, even much later.
func (m *Monitor) Do(ctx context.Context, command string, arguments, result any) error {
	return m.do(ctx, command, arguments, result)
}

func (m *Monitor) do(ctx context.Context, command string, arguments, result any, fds ...int) error {
	m.last++
	line, err := encode(request{command, arguments, m.last})
	if err != nil {
		return err
	}
	var answer message
	err = m.wire.during(ctx, func() error {
		if err := m.wire.send(line, fds...); err != nil {
			return err
		}
		answer, err = m.answer(strconv.Itoa(m.last))
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return answer.settle(command, result)
}

// answer skips events and answers to something else. An error without an id is ours: QEMU sends it when it cannot read
// what it was sent.
func (m *Monitor) answer(id string) (message, error) {
	for {
		got, err := m.wire.receive()
		if err != nil || string(got.ID) == id || (got.ID == nil && got.Error != nil) {
			return got, err
		}
	}
}
