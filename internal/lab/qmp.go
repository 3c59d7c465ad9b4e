package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// monitor is one QMP connection as a client.
type monitor struct {
	conn  net.Conn
	lines *bufio.Reader
}

// openMonitor connects and negotiates; everything on the connection shares the deadline. Real QEMU serves one client at
// a time, so a second one connects and is not greeted until the first has left (measured).
func openMonitor(ctx context.Context, socket string, limit time.Duration) (*monitor, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(limit))
	m := &monitor{conn: conn, lines: bufio.NewReader(conn)}
	var greeting struct {
		QMP *json.RawMessage `json:"QMP"`
	}
	if err := m.read(&greeting); err != nil || greeting.QMP == nil {
		return nil, errors.Join(errors.New("got timeout"), conn.Close())
	}
	if err := m.do("qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return m, nil
}

func (m *monitor) close() { _ = m.conn.Close() }

func (m *monitor) read(to any) error {
	line, err := m.lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, to)
}

// do runs one command and decodes its answer into to, unless that is nil.
func (m *monitor) do(command string, arguments, to any) error {
	ask := map[string]any{"execute": command}
	if arguments != nil {
		ask["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(ask); err != nil {
		return err
	}
	for {
		var reply struct {
			Event  string          `json:"event"`
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := m.read(&reply); err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				return errors.New("got timeout")
			}
			return errors.New("client closed connection")
		}
		switch {
		case reply.Event != "":
		case reply.Error != nil:
			return errors.New(reply.Error.Desc)
		case to != nil:
			return json.Unmarshal(reply.Return, to)
		default:
			return nil
		}
	}
}

// qmpServer is the monitor of the simulated QEMU. handle returns the value of a command, or an error for the client.
type qmpServer struct {
	handle func(command string, arguments json.RawMessage) (any, error)
}

// serve talks to one client after the other, as QEMU does, until ctx is done.
func (s *qmpServer) serve(ctx context.Context, listener net.Listener) {
	release := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer release()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		s.client(ctx, conn)
	}
}

func (s *qmpServer) client(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer release()
	reply := json.NewEncoder(conn)
	const greeting = `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 9}, "package": "pve-qemu-kvm_9.2.0-5"}, "capabilities": []}}` + "\n"
	if _, err := conn.Write([]byte(greeting)); err != nil {
		return
	}
	ready := false
	for in := json.NewDecoder(conn); ; {
		var ask struct {
			Execute   string          `json:"execute"`
			Arguments json.RawMessage `json:"arguments"`
			ID        any             `json:"id"`
		}
		if in.Decode(&ask) != nil {
			return
		}
		answer, err := s.answer(&ready, ask.Execute, ask.Arguments)
		msg := map[string]any{"return": answer}
		if err != nil {
			msg = map[string]any{"error": map[string]string{"class": "GenericError", "desc": err.Error()}}
		}
		if ask.ID != nil {
			msg["id"] = ask.ID
		}
		if reply.Encode(msg) != nil {
			return
		}
	}
}

func (s *qmpServer) answer(ready *bool, command string, arguments json.RawMessage) (any, error) {
	if command == "qmp_capabilities" {
		*ready = true
		return struct{}{}, nil
	}
	if !*ready {
		return nil, fmt.Errorf("Expecting capabilities negotiation with 'qmp_capabilities'") //nolint:staticcheck // QEMU's words
	}
	return s.handle(command, arguments)
}
