package gate_test

import (
	"encoding/json"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// beMonitor is the control socket of the QEMU that the test binary plays: one client after the other, as QEMU has it.
// It is enough for the gate's questions; what real QEMUs answer is tested in internal/lab.
func beMonitor(argv []string) {
	path := strings.TrimSuffix(argv[slices.Index(argv, "-pidfile")+1], ".pid") + ".qmp"
	_ = os.Remove(path)
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	if slices.Contains(argv, "-wedged") {
		return // whoever connects waits in the queue, as with a main loop that hangs
	}
	for written := 4096; ; {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		switch {
		case slices.Contains(argv, "-idle"):
			written = 0
		case !slices.Contains(argv, "-stands"):
			written += 4096 // the guest writes between two questions
		}
		talk(conn, written, slices.Contains(argv, "-stands"))
		_ = conn.Close()
	}
}

func talk(conn net.Conn, written int, stands bool) {
	out := json.NewEncoder(conn)
	_, _ = conn.Write([]byte(`{"QMP":{"version":{"qemu":{"major":9,"minor":2,"micro":0},"package":"test"},"capabilities":[]}}` + "\n"))
	for in := json.NewDecoder(conn); ; {
		var ask struct {
			Execute string
			ID      any
		}
		if in.Decode(&ask) != nil {
			return
		}
		reply := map[string]any{"id": ask.ID}
		switch ask.Execute {
		case "qmp_capabilities":
			reply["return"] = struct{}{}
		case "query-status":
			reply["return"] = map[string]any{"status": "running", "running": true}
		case "query-blockstats":
			stats := map[string]any{"wr_bytes": written, "wr_operations": written / 4096}
			if stands {
				stats["idle_time_ns"] = time.Hour // the last request was done so long ago
			}
			reply["return"] = []any{map[string]any{"device": "drive-scsi0", "stats": stats}}
		case "quit":
			reply["return"] = struct{}{}
			_ = out.Encode(reply)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		default:
			reply["error"] = map[string]any{"class": "CommandNotFound", "desc": "The command " + ask.Execute + " has not been found"}
		}
		if out.Encode(reply) != nil {
			return
		}
	}
}
