package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// qmpServer is the monitor of the simulated QEMU. handle returns the value of a command, or an error for the client.
type qmpServer struct {
	handle func(command string, arguments json.RawMessage) (any, error)
}

// oneByOne talks to one client after the other, as QEMU does on both of its sockets, until ctx is done.
func oneByOne(ctx context.Context, listener net.Listener, client func(io.ReadWriter)) {
	release := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer release()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		hangUp := context.AfterFunc(ctx, func() { _ = conn.Close() })
		client(conn)
		hangUp()
		_ = conn.Close()
	}
}

// question is a command as it comes over either socket.
type question struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
	ID        any             `json:"id"`
}

// answer is what goes back for it.
func (q question) answer(value any, err error) map[string]any {
	msg := map[string]any{"return": value}
	if err != nil {
		msg = map[string]any{"error": map[string]string{"class": "GenericError", "desc": err.Error()}}
	}
	if q.ID != nil {
		msg["id"] = q.ID
	}
	return msg
}

func (s *qmpServer) client(conn io.ReadWriter) {
	reply := json.NewEncoder(conn)
	const greeting = `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 9}, "package": "pve-qemu-kvm_9.2.0-5"}, "capabilities": []}}` + "\n"
	if _, err := io.WriteString(conn, greeting); err != nil {
		return
	}
	ready := false
	for in := json.NewDecoder(conn); ; {
		var ask question
		if in.Decode(&ask) != nil {
			return
		}
		if reply.Encode(ask.answer(s.answer(&ready, ask.Execute, ask.Arguments))) != nil {
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

// handle is the part of QMP that qm, the gate and the lab use.
func (q *qemu) handle(command string, arguments json.RawMessage) (any, error) {
	switch command {
	case "block_set_io_throttle": // what made the stall that the scenario is made after (measured with a real QEMU)
		var throttle struct{ BPS int64 }
		if err := json.Unmarshal(arguments, &throttle); err != nil {
			return nil, err
		}
		if throttle.BPS == 1 {
			q.drive.Stall()
		} else {
			q.drive.Resume()
		}
		return struct{}{}, nil
	case "system_reset":
		q.restart(errReset)
		return struct{}{}, nil
	case "quit":
		// Real QEMU answers first, so let the reply out.
		time.AfterFunc(20*time.Millisecond, func() { q.end(errQuit) })
		return struct{}{}, nil
	default:
		return q.tell(command)
	}
}

type object = map[string]any

// tell are the commands that change nothing.
func (q *qemu) tell(command string) (any, error) {
	limit := 0
	if !q.drive.Stalled().IsZero() {
		limit = 1
	}
	switch command {
	case "query-status":
		return object{"running": true, "singlestep": false, "status": "running"}, nil
	case "query-version":
		return object{"qemu": map[string]int{"major": 9, "minor": 2, "micro": 0}, "package": "pve-qemu-kvm_9.2.0-5"}, nil
	case "query-blockstats":
		c := q.drive.Counters()
		return []any{object{"device": "drive-scsi0", "qdev": "scsi0", "stats": map[string]int64{
			"wr_bytes": c.Bytes, "wr_operations": c.Writes, "flush_operations": c.Flushes, "idle_time_ns": c.Idle.Nanoseconds(),
			"rd_bytes": 734003200, "rd_operations": 21877, "failed_wr_operations": 0, "failed_rd_operations": 0, "failed_flush_operations": 0,
		}}}, nil
	case "query-block":
		inserted := object{"drv": "raw", "bps": limit, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}
		return []any{object{"device": "drive-scsi0", "qdev": "scsi0", "io-status": "ok", "locked": false, "removable": false, "inserted": inserted}}, nil
	case "query-block-jobs":
		return []any{}, nil
	case "query-iothreads":
		return []any{object{"id": "iothread-virtioscsi0", "thread-id": os.Getpid()}}, nil
	case "query-cpus-fast":
		return []any{object{"cpu-index": 0, "thread-id": os.Getpid(), "target": "x86_64"}}, nil
	case "query-chardev":
		return []any{object{"label": "qga0", "filename": "unix:" + q.state.runFile(q.vm, "qga") + ",server=on", "frontend-open": q.agentRuns()}}, nil
	case "screendump":
		return nil, errors.New("There is no console to take a screendump from") //nolint:staticcheck // QEMU's words
	default:
		return nil, fmt.Errorf("The command %s has not been found", command) //nolint:staticcheck // QEMU's words
	}
}
