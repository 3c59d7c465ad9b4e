package qmp_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bgbot/pve/qmp"
)

// realQEMU starts a QEMU with a screen and without a guest, and returns its socket and process id.
func realQEMU(t *testing.T) (socket string, pid int) {
	t.Helper()
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	socket = filepath.Join(t.TempDir(), "qmp")
	words := "-S -nodefaults -vga std -display none -m 16 -accel tcg,tb-size=16 -qmp unix:" + socket + ",server=on,wait=off"
	cmd := exec.Command(path, strings.Fields(words)...)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx := patient(t); ; {
		if m, err := qmp.Dial(ctx, socket); err == nil {
			m.Close()
			return socket, cmd.Process.Pid
		} else if !errors.Is(err, qmp.ErrAbsent) {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatal("QEMU did not start")
		}
	}
}

// The fake is only as good as this: what it is trusted to do, a real QEMU does.
func TestARealQEMU(t *testing.T) {
	t.Parallel()
	socket, pid := realQEMU(t)
	m := open(t, socket)
	t.Logf("QEMU %s", m.Version())
	var got status
	if err := m.Do(patient(t), "query-status", nil, &got); err != nil || got.Status != "prelaunch" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := m.Do(patient(t), "query-weather", nil, nil); err == nil || err.Error() != "query-weather: The command query-weather has not been found (CommandNotFound)" {
		t.Errorf("got %v", err)
	}
	var schema []struct{ Name string }
	if err := m.Do(patient(t), "query-qmp-schema", nil, &schema); err != nil || len(schema) < 500 {
		t.Errorf("a long answer: %d entries, %v", len(schema), err)
	}
	thePicture(t, m)
	if n := kept(t, pid); n > 0 {
		t.Errorf("a paused QEMU keeps %d bytes of pictures", n)
	}
	if err := m.Do(patient(t), "cont", nil, nil); err != nil {
		t.Fatal(err)
	}
	thePicture(t, m)
	m.Close()
	m = open(t, socket)
	var sets []any
	if err := m.Do(patient(t), "query-fdsets", nil, &sets); err != nil || len(sets) != 0 {
		t.Errorf("descriptors stayed behind: %v, %v", sets, err)
	}
	theLineFills(t, m, socket)
	if err := m.Do(patient(t), "quit", nil, nil); err != nil {
		t.Errorf("quit: %v", err)
	}
	if err := m.Do(patient(t), "query-status", nil, nil); !errors.Is(err, qmp.ErrGone) {
		t.Errorf("after quit: %v", err)
	}
}

func thePicture(t *testing.T, m *qmp.Monitor) {
	t.Helper()
	picture, err := m.Screen(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	var width, height int
	const header = "P6\n%d %d\n255\n"
	if _, err := fmt.Sscanf(string(picture[:32]), header, &width, &height); err != nil || len(picture) != len(fmt.Sprintf(header, width, height))+3*width*height {
		t.Errorf("a picture of %d bytes that begins with %q", len(picture), picture[:32])
	}
}

// kept is the memory that a process holds by descriptors of our pictures.
func kept(t *testing.T, pid int) (n int64) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, name := range files {
		target, _ := os.Readlink(name)
		if info, err := os.Stat(name); err == nil && strings.Contains(target, "memfd:screen") {
			n += info.Size()
		}
	}
	return n
}

// theLineFills shows that one client is served, others wait without a greeting, and the next is not even let in.
func theLineFills(t *testing.T, served *qmp.Monitor, socket string) {
	t.Helper()
	for i := range 4 {
		if err := unserved(t, socket); !errors.Is(err, qmp.ErrSilent) {
			t.Errorf("client %d beside the served one: %v", i, err)
		}
	}
	if _, err := net.Dial("unix", socket); err == nil || !strings.Contains(err.Error(), "resource temporarily unavailable") {
		t.Errorf("the line of waiting clients is not full: %v", err)
	}
	if err := served.Do(patient(t), "query-status", nil, nil); err != nil {
		t.Errorf("the served one: %v", err)
	}
}
