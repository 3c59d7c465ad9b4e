package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"bgbot/internal/lab"
)

// sits runs bgbot in a terminal of the kernel, which ends with the test.
func sits(t *testing.T, args ...string) (p *process, terminal *os.File) {
	t.Helper()
	p = &process{person: newPerson("operator"), cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Env = append(os.Environ(), asBgbot+"=1", "GORACE=atexit_sleep_ms=0", "TERM=xterm-256color")
	terminal, err := pty.StartWithSize(p.cmd, &pty.Winsize{Cols: 100, Rows: 30})
	if err != nil {
		t.Fatal(err)
	}
	p.keys = terminal
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(p.person, terminal) })
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = terminal.Close()
		reading.Wait()
		if t.Failed() {
			t.Logf("bgbot %s showed:\n%s", strings.Join(args, " "), p.all())
		}
	})
	return p, terminal
}

// stops is ^S, also where a screen is drawn.
func stops(t *testing.T, terminal *os.File) {
	t.Helper()
	n, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	must(t, unix.IoctlSetInt(int(tty.Fd()), unix.TCXONC, unix.TCOOFF))
	must(t, tty.Close())
}

// TestLeavingATerminalThatTakesNothing: the terminal was stopped with ^S, or the ssh in front of it stalls, and bgbot has
// something to say. It ends all the same.
func TestLeavingATerminalThatTakesNothing(t *testing.T) {
	t.Parallel()
	cli := cliForTest(t)
	console := func(t *testing.T) (args []string, asked func(*testing.T)) {
		l, err := lab.Start(t.Context(), lab.Options{Scenario: "disk-full", Fast: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { must(t, l.Close()) })
		return []string{"console", "-c", configured(t, t.TempDir(), l, cli, "http://127.0.0.1:1")}, func(t *testing.T) {
			waitFor(t, "the host to be asked", func() bool { return len(l.Commands()) > 0 })
		}
	}
	drill := func(*testing.T) ([]string, func(*testing.T)) {
		return []string{"drill", "disk-full", "--claude", cli}, func(*testing.T) {} // its host is its own
	}
	for name, c := range map[string]struct {
		what  func(*testing.T) (args []string, asked func(*testing.T))
		more  string
		sees  string
		types string
	}{
		"console lines":   {console, "--plain", "Say what is wrong with devvm", "vm status\n"},
		"console screen":  {console, "--plain=false", "── /help", "vm status\r"},
		"drill lines":     {drill, "--plain", "Practice incident", "vm status\n"},
		"drill screen":    {drill, "--plain=false", "── /help", "vm status\r"},
		"drill by itself": {drill, "--auto", "Working", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args, asked := c.what(t)
			p, terminal := sits(t, append(args, c.more)...)
			p.expect(t, c.sees)
			stops(t, terminal)
			_, err := io.WriteString(terminal, c.types)
			must(t, err)
			asked(t)
			began := time.Now()
			must(t, p.cmd.Process.Signal(syscall.SIGTERM))
			ended := make(chan error, 1)
			go func() { ended <- p.cmd.Wait() }()
			select {
			case err := <-ended:
				t.Logf("it ended after %s with %v", time.Since(began).Round(10*time.Millisecond), err)
			case <-time.After(30 * time.Second):
				t.Fatal("it did not end")
			}
		})
	}
}
