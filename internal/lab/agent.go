package lab

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"bgbot/internal/lab/guest"
)

// sentinel makes an agent drop what came before it, and stands before its answer to guest-sync-delimited.
const sentinel = 0xFF

// agentServer is the guest agent of the simulated guest. Like a real one it is silent when the guest does not run it, and
// lives from memory alone, so a dead disk does not keep it from answering.
type agentServer struct {
	runs    func() bool
	drive   *guest.Drive
	hostKey []byte // the line of ssh_host_ed25519_key.pub
}

// client serves one client of the agent's socket.
func (a *agentServer) client(conn io.ReadWriter) {
	unread := map[int][]byte{} // what is left of each open file
	for in := bufio.NewReader(conn); ; {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var ask question
		if json.Unmarshal(line[bytes.LastIndexByte(line, sentinel)+1:], &ask) != nil || !a.runs() {
			continue
		}
		text, err := json.Marshal(ask.answer(a.answer(ask, unread)))
		if err != nil {
			return
		}
		if ask.Execute == "guest-sync-delimited" {
			text = append([]byte{sentinel}, text...)
		}
		if _, err := conn.Write(append(text, '\n')); err != nil {
			return
		}
	}
}

func (a *agentServer) answer(ask question, unread map[int][]byte) (any, error) {
	var args struct {
		ID     int64
		Path   string
		Handle int
	}
	if len(ask.Arguments) > 0 {
		if err := json.Unmarshal(ask.Arguments, &args); err != nil {
			return nil, err
		}
	}
	switch ask.Execute {
	case "guest-sync-delimited", "guest-sync":
		return args.ID, nil
	case "guest-ping":
		return struct{}{}, nil
	case "guest-fsfreeze-status":
		return "thawed", nil
	case "guest-get-diskstats":
		return []any{object{"name": "sda", "major": 8, "minor": 0, "stats": a.diskstats()}}, nil
	case "guest-file-open":
		if args.Path != "/etc/ssh/ssh_host_ed25519_key.pub" {
			return nil, fmt.Errorf("failed to open file '%s' (mode: 'r'): No such file or directory", args.Path)
		}
		unread[len(unread)+1000] = a.hostKey
		return len(unread) + 999, nil
	case "guest-file-read":
		data, open := unread[args.Handle]
		if !open {
			return nil, fmt.Errorf("handle '%d' has not been found", args.Handle)
		}
		unread[args.Handle] = nil
		return object{"count": len(data), "buf-b64": data, "eof": true}, nil
	case "guest-file-close":
		delete(unread, args.Handle)
		return struct{}{}, nil
	default:
		return nil, errors.New("The command " + ask.Execute + " has not been found")
	}
}

// diskstats are the fields of the QAPI type GuestDiskStats.
func (a *agentServer) diskstats() map[string]int64 {
	c := a.drive.Counters()
	busy := int64(0)
	if since := a.drive.Stalled(); !since.IsZero() {
		busy = time.Since(since).Milliseconds()
	}
	return map[string]int64{
		"read-ios": 21877, "read-merges": 0, "read-sectors": 1433600, "read-ticks": 8120,
		"write-ios": c.Writes, "write-merges": 0, "write-sectors": c.Bytes / 512, "write-ticks": c.Writes,
		"flush-ios": c.Flushes, "flush-ticks": c.Flushes, "ios-pgr": c.Waiting, "total-ticks": c.Writes + busy, "weight-ticks": c.Writes + busy*c.Waiting,
	}
}
