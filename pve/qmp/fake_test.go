package qmp_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fake is a QEMU with one socket. It does what a real one was seen to do: it serves one client at a time, tells events
// in between, and wants descriptors that can only write.
type fake struct {
	socket  string
	hello   string            // what a client is sent first
	script  map[string]string // answers by command, sent as they are but for $id; "hangup" hangs up
	files   map[string]string // of the guest
	picture []byte
}

const greeting = `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 9}, "package": "pve-qemu-kvm_9.2.0-5"}, "capabilities": []}}` + "\r\n"

const event = `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_IO_ERROR", "data": {"id": 1}}` + "\r\n"

func newFake(t testing.TB, f *fake, serve func(*fake, *net.UnixConn)) string {
	t.Helper()
	f.socket = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	live, gone := make(chan net.Conn, 1), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			live <- conn
			serve(f, conn.(*net.UnixConn)) // the next client waits, connected
			conn.Close()
			select {
			case <-live:
			default: // the test is over and has taken it
			}
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		for {
			select {
			case conn := <-live:
				conn.Close()
			case <-gone:
				return
			}
		}
	})
	return f.socket
}

// monitor starts a fake monitor.
func monitor(t testing.TB, f *fake) string {
	if f.hello == "" {
		f.hello = greeting
	}
	return newFake(t, f, (*fake).serveMonitor)
}

type call struct {
	Execute   string
	ID        json.RawMessage
	Arguments struct {
		Filename string
		Set      int `json:"fdset-id"`
		Path     string
		Handle   int
		Count    int
		ID       int64
	}
}

type desk struct {
	*fake
	conn  *net.UnixConn
	ready bool
	held  []int // descriptors that came and are not in a set
	sets  map[int]int
}

func (f *fake) serveMonitor(conn *net.UnixConn) {
	fmt.Fprint(conn, f.hello)
	d := &desk{fake: f, conn: conn, sets: map[int]int{}}
	for lines := bufio.NewScanner(d); lines.Scan(); {
		var c call
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			fmt.Fprint(conn, `{"error": {"class": "GenericError", "desc": "JSON parse error"}}`+"\r\n")
			continue
		}
		text, scripted := f.script[c.Execute]
		if text == "hangup" {
			return
		}
		if !scripted {
			text = event + d.answer(c) + "\r\n"
		}
		fmt.Fprint(conn, strings.ReplaceAll(text, "$id", string(c.ID)))
	}
}

// Read takes bytes, and the descriptors that came with them.
func (d *desk) Read(p []byte) (int, error) {
	oob := make([]byte, 64)
	n, oobn, _, _, err := d.conn.ReadMsgUnix(p, oob)
	if oobn > 0 {
		control, _ := unix.ParseSocketControlMessage(oob[:oobn])
		fds, _ := unix.ParseUnixRights(&control[0])
		d.held = append(d.held, fds...)
	}
	return n, err
}

func (d *desk) answer(c call) string {
	refuse := func(class, desc string, a ...any) string {
		return fmt.Sprintf(`{"id": $id, "error": {"class": %q, "desc": %q}}`, class, fmt.Sprintf(desc, a...))
	}
	if d.ready == (c.Execute == "qmp_capabilities") {
		return refuse("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'")
	}
	done := `{"return": {}, "id": $id}`
	switch c.Execute {
	case "qmp_capabilities":
		d.ready = true
	case "query-status":
		return `{"return": {"status": "running", "running": true}, "id": $id}`
	case "query-fdsets":
		return fmt.Sprintf(`{"return": %d, "id": $id}`, len(d.sets))
	case "add-fd":
		if len(d.held) == 0 {
			return refuse("GenericError", "No file descriptor supplied via SCM_RIGHTS")
		}
		d.sets[7], d.held = d.held[0], nil
		return `{"return": {"fdset-id": 7, "fd": 12}, "id": $id}`
	case "remove-fd":
		unix.Close(d.sets[c.Arguments.Set])
		delete(d.sets, c.Arguments.Set)
	case "screendump":
		var id int
		fmt.Sscanf(c.Arguments.Filename, "/dev/fdset/%d", &id)
		if flags, err := unix.FcntlInt(uintptr(d.sets[id]), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE != unix.O_WRONLY {
			return refuse("GenericError", "Could not open '%s': Permission denied", c.Arguments.Filename)
		}
		unix.Write(d.sets[id], d.picture)
	default:
		return refuse("CommandNotFound", "The command %s has not been found", c.Execute)
	}
	return done
}

// guest starts a fake guest agent. It is slow of mind: what is left of earlier clients comes first.
func guest(t testing.TB, f *fake) string { return newFake(t, f, (*fake).serveAgent) }

func (f *fake) serveAgent(conn *net.UnixConn) {
	fmt.Fprint(conn, f.hello)
	rest := map[int]string{}
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		line = line[bytes.LastIndexByte(line, 0xFF)+1:]
		var c call
		_ = json.Unmarshal(line, &c)
		answer := `{"return": {}}`
		if text, scripted := f.script[c.Execute]; scripted {
			fmt.Fprint(conn, text)
			continue
		}
		switch text, ok := f.files[c.Arguments.Path]; c.Execute {
		case "guest-sync-delimited":
			answer = fmt.Sprintf("\xff{\"return\": %d}", c.Arguments.ID)
		case "guest-ping":
		case "guest-file-open":
			if answer = `{"return": 1000}`; ok {
				rest[1000] = text
			} else {
				answer = `{"error": {"class": "GenericError", "desc": "failed to open file '` + c.Arguments.Path + `' (mode: 'r'): No such file or directory"}}`
			}
		case "guest-file-read":
			part := rest[c.Arguments.Handle]
			part = part[:min(len(part), c.Arguments.Count)]
			rest[c.Arguments.Handle] = rest[c.Arguments.Handle][len(part):]
			b, _ := json.Marshal(map[string]any{"count": len(part), "buf-b64": []byte(part), "eof": len(part) < c.Arguments.Count})
			answer = `{"return": ` + string(b) + `}`
		case "guest-file-close":
			delete(rest, c.Arguments.Handle)
		case "guest-get-open":
			answer = fmt.Sprintf(`{"return": %d}`, len(rest))
		default:
			answer = `{"error": {"class": "CommandNotFound", "desc": "The command ` + c.Execute + ` has not been found"}}`
		}
		fmt.Fprintln(conn, answer)
	}
}

// frame is a picture as a monitor sends it.
func frame(width, height int) []byte {
	return append(fmt.Appendf(nil, "P6\n%d %d\n255\n", width, height), bytes.Repeat([]byte{0, 80, 160}, width*height)...)
}

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
