package evidence_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bgbot/pve/gate/evidence"
	"bgbot/pve/gate/host"
)

const vmid = 102

// stage is a host in a folder: its sockets and its qm are whatever the test makes of them, its process is a real one.
type stage struct {
	evidence.Subject
	t   testing.TB
	dir string
	cmd *exec.Cmd
}

func newStage(t testing.TB) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir()}
	s.cmd = exec.CommandContext(t.Context(), "/bin/sleep", "600")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	s.Subject = evidence.Subject{
		VMID: vmid, QEMU: process(t, s.cmd.Process.Pid), Run: s.dir, Scope: filepath.Join(s.dir, "no-scope"),
		QM: filepath.Join(s.dir, "qm"), Tasks: filepath.Join(s.dir, "tasks"),
	}
	s.qm("case $1 in status) echo 'running-qemu: 9.2.0'; echo 'status: running';; config) echo 'agent: 1'; echo 'cipassword: hunter2';; esac")
	return s
}

func process(t testing.TB, pid int) host.Process {
	t.Helper()
	st, err := host.ReadStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return host.Process{Pid: pid, Start: st.Start}
}

func (s *stage) qm(script string) { s.file("qm", "#!/bin/sh\n"+script+"\n", 0o700) }

func (s *stage) file(name, text string, mode os.FileMode) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

// freeze stops the process as SIGSTOP stops a QEMU.
func (s *stage) freeze() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
}

// client is one that a socket serves; n counts them from 1.
type client struct {
	net.Conn
	in *bufio.Reader
	n  int
}

func (c client) say(text string) { _, _ = io.WriteString(c, text) }

// silent reads what comes and never answers.
func silent(c client) { _, _ = io.Copy(io.Discard, c.in) }

// socket serves one client after the other, as QEMU does, until the test ends.
func (s *stage) socket(kind string, serve func(client)) {
	s.t.Helper()
	listener, err := net.Listen("unix", filepath.Join(s.dir, fmt.Sprintf("%d.%s", vmid, kind)))
	if err != nil {
		s.t.Fatal(err)
	}
	var mu sync.Mutex // guards live and over
	var live net.Conn
	over := false
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for n := 1; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if live = conn; over {
				_ = conn.Close()
			}
			mu.Unlock()
			serve(client{conn, bufio.NewReader(conn), n})
			_ = conn.Close()
		}
	}()
	s.t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		if over = true; live != nil {
			_ = live.Close()
		}
		mu.Unlock()
		<-gone
	})
}

const greeting = `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 9}, "package": "pve-qemu-kvm_9.2.0-5"}, "capabilities": []}}` + "\r\n"

// answers of a QEMU, by command. A %d stands for how many were asked so far: counters that move.
type answers map[string]string

func lively(port string) answers {
	return answers{
		"qmp_capabilities": `{}`,
		"query-status":     `{"status": "running", "running": true}`,
		"query-blockstats": `[{"device": "drive-scsi0", "qdev": "scsi0", "stats": {"wr_operations": %d, "wr_bytes": 4096, "idle_time_ns": 400000000}}]`,
		"query-block":      `[{"device": "drive-scsi0", "qdev": "scsi0", "io-status": "ok", "inserted": {"bps": 1000, "drv": "raw"}}]`,
		"query-chardev":    `[{"label": "qga0", "filename": "disconnected:unix:/run/102.qga,server=on", "frontend-open": ` + port + `}]`,
		"query-cpus-fast":  `[{"thread-id": 1, "cpu-index": 0}]`,
		"query-iothreads":  `[]`,
		"query-block-jobs": `[{"device": "drive-scsi0", "type": "backup", "status": "running", "offset": 1, "len": 9}]`,
	}
}

// but is the same QEMU with another answer.
func (a answers) but(command, answer string) answers {
	a[command] = answer
	return a
}

// monitor greets and answers. An answer "cut" breaks off in the middle of a line, and "none" never comes.
func (a answers) monitor() func(client) {
	asked := 0
	return func(c client) {
		c.say(greeting)
		for line, err := c.in.ReadBytes('\n'); err == nil; line, err = c.in.ReadBytes('\n') {
			asked++
			var q struct {
				Execute string
				ID      json.RawMessage
			}
			_ = json.Unmarshal(line, &q)
			switch answer, ok := a[q.Execute]; {
			case !ok:
				c.say(fmt.Sprintf(`{"id": %s, "error": {"class": "CommandNotFound", "desc": "The command %s has not been found"}}`+"\r\n", q.ID, q.Execute))
			case answer == "cut":
				c.say(`{"id": 2, "retu`)
			case answer != "none":
				c.say(fmt.Sprintf(`{"id": %s, "return": %s}`+"\r\n", q.ID, strings.ReplaceAll(answer, "%d", fmt.Sprint(asked))))
			}
		}
	}
}

// agent answers as a guest's agent does.
func (a answers) agent() func(client) {
	return func(c client) {
		for line, err := c.in.ReadBytes('\n'); err == nil; line, err = c.in.ReadBytes('\n') {
			var q struct {
				Execute   string
				Arguments struct{ ID json.RawMessage }
			}
			_ = json.Unmarshal(bytes.TrimLeft(line, "\xff"), &q)
			switch answer, ok := a[q.Execute]; {
			case q.Execute == "guest-sync-delimited":
				c.say(fmt.Sprintf("\xff{\"return\": %s}\n", q.Arguments.ID))
			case ok:
				c.say(fmt.Sprintf("{\"return\": %s}\n", answer))
			default:
				c.say(`{"error": {"class": "CommandNotFound", "desc": "no"}}` + "\n")
			}
		}
	}
}

func resting() answers {
	return answers{
		"guest-fsfreeze-status": `"thawed"`,
		"guest-get-diskstats":   `[{"name": "sda", "major": 8, "minor": 0, "stats": {"read-ios": 1, "write-ios": 2, "ios-pgr": 0, "total-ticks": 5}}]`,
	}
}

// well makes the whole host answer, with QEMU's answers to more commands, in pairs.
func (s *stage) well(more ...string) *stage {
	qemu := lively("true")
	for pair := range slices.Chunk(more, 2) {
		qemu.but(pair[0], pair[1])
	}
	s.socket("qmp", qemu.monitor())
	s.socket("qga", resting().agent())
	return s
}
