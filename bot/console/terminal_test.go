package console

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// seat is the demo console behind a real terminal of the kernel.
type seat struct {
	t      *testing.T
	tty    *os.File
	cmd    *exec.Cmd
	dir    string
	done   chan error
	silent chan struct{} // closed when the console has written its last

	mu   sync.Mutex
	raw  bytes.Buffer
	more chan struct{}
}

func sit(t *testing.T, width, height uint16, environ ...string) *seat {
	t.Helper()
	s := &seat{t: t, dir: t.TempDir(), done: make(chan error, 1), more: make(chan struct{}, 1), silent: make(chan struct{})}
	s.cmd = exec.Command(os.Args[0])
	// A binary built with -race sleeps a second at its end otherwise.
	s.cmd.Env = append([]string{"CONSOLE_DEMO=" + s.dir, "GORACE=atexit_sleep_ms=0", "LANG=C.UTF-8"}, environ...)
	tty, err := pty.StartWithSize(s.cmd, &pty.Winsize{Cols: width, Rows: height})
	if err != nil {
		t.Fatal(err)
	}
	s.tty = tty
	var wg sync.WaitGroup
	wg.Go(func() { s.listen(); close(s.silent) })
	wg.Go(func() { s.done <- s.cmd.Wait(); close(s.done) })
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = tty.Close()
		wg.Wait()
	})
	return s
}

// listen keeps what the console wrote, and answers nothing: a terminal that knows no queries must do as well.
func (s *seat) listen() {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.tty.Read(buf)
		s.mu.Lock()
		s.raw.Write(buf[:n])
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (s *seat) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raw.String()
}

func (s *seat) waits(want string) {
	s.t.Helper()
	late := time.After(patient)
	for !strings.Contains(s.output(), want) {
		select {
		case <-s.more:
		case <-late:
			s.t.Fatalf("the terminal did not get %q:\n%q", want, s.output())
		}
	}
}

func (s *seat) types(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.tty, keys); err != nil {
		s.t.Fatal(err)
	}
}

func (s *seat) leaves() {
	s.t.Helper()
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Errorf("it ended with %v", err)
		}
		<-s.silent
	case <-time.After(patient):
		s.t.Fatalf("it did not end:\n%q", s.output())
	}
}

func TestARealTerminalGetsNothingFromTheAgent(t *testing.T) {
	t.Parallel()
	s := sit(t, 100, 30, "TERM=xterm-256color")
	s.waits("/help")
	s.types("evil\r")
	s.waits("harm")
	s.types("lose this\r")
	s.waits("not recorded: the disk is full, type it again")
	s.types("/quit\r")
	s.leaves()
	out := s.output()
	for _, not := range []string{"\x1b]52", "ZXZpbA", "\u009b", "\x1b[5m"} {
		if strings.Contains(out, not) {
			t.Errorf("the terminal got %q", not)
		}
	}
	titles := regexp.MustCompile(`\x1b\][02];[^\x07\x1b]*`).FindAllString(out, -1)
	for _, title := range titles {
		if got := title[len("\x1b]2;"):]; got != "" && got != "bgbot · devvm (VM 102)" {
			t.Errorf("the title became %q", got)
		}
	}
	if !strings.Contains(out, "\x1b[?1049h") || !strings.Contains(out, "\x1b[?1049l") {
		t.Error("the alternate screen was not entered and left")
	}
	if _, after, _ := strings.Cut(out, "\x1b[?1049l"); !strings.Contains(after, "you    ▸ evil\r\nbgbot  ▸ harm&#27;]0;owned&#7;less") {
		t.Errorf("after leaving, the terminal shows %q", after)
	}
}

var coloured = regexp.MustCompile("\x1b\\[([0-9:;]*;)?([349][0-7]|[34]8)(;[0-9:;]*)?m")

func TestColoursOnlyWhereTheyAreWanted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		environ []string
		want    bool
	}{
		{[]string{"TERM=xterm-256color"}, true},
		{[]string{"TERM=xterm-256color", "NO_COLOR=1"}, false},
	} {
		s := sit(t, 100, 30, c.environ...)
		s.waits("/help")
		s.types("hello\r")
		s.waits("You said")
		s.types("\x04")
		s.leaves()
		if got := coloured.MatchString(s.output()); got != c.want {
			t.Errorf("%q: coloured is %v, want %v: %q", c.environ, got, c.want, coloured.FindString(s.output()))
		}
	}
}

func TestATerminalWithColoursShowsTheScreenOfTheVM(t *testing.T) {
	t.Parallel()
	s := sit(t, 100, 40, "TERM=xterm-256color", "COLORTERM=truecolor")
	s.waits("/help")
	s.types("devvm is frozen\r")
	s.waits("2 Cancel")
	s.types("1\r")
	s.waits("screen-c81f.png")
	s.waits("▀▀▀")
	s.types("\x04")
	s.leaves()
	if _, after, _ := strings.Cut(s.output(), "\x1b[?1049l"); strings.Contains(after, "▀") || !strings.Contains(after, "file: "+s.dir+"/screen-c81f.png") {
		t.Errorf("after leaving, the terminal shows %q", after)
	}
}

func TestADumbTerminalGetsPlainLines(t *testing.T) {
	t.Parallel()
	s := sit(t, 100, 30, "TERM=dumb")
	s.types("hello\n")
	s.waits("bgbot  ▸ You said: hello\r\n")
	s.types("/quit\n")
	s.leaves()
	if strings.Contains(s.output(), "\x1b") {
		t.Errorf("a dumb terminal got an escape: %q", s.output())
	}
}

func TestAScreenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := sit(t, 40, 20, "TERM=xterm")
	s.waits("/help")
	s.types("hello\r")
	s.waits("You said")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.waits("\x1b[?1049l")
	select {
	case <-s.done:
	case <-time.After(patient):
		t.Fatal("it did not end")
	}
}

// tmux runs one command on a server of this test alone.
func tmux(t *testing.T, socket string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "tmux", append([]string{"-S", socket, "-f", "/dev/null"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("tmux %v: %v: %s", args, err, out)
	}
	return string(out)
}

func TestAnIncidentInTmux(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("tmux is missing; apt-get install tmux")
		}
		t.Skip("SKIPPED: tmux is missing, so no screen is looked at; apt-get install tmux")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "tmux")
	tmux(t, socket, "new-session", "-d", "-x", "100", "-y", "26",
		"env", "LANG=C.UTF-8", "GORACE=atexit_sleep_ms=0", "COLORTERM=", "CONSOLE_DEMO="+dir, os.Args[0])
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", socket, "kill-server").Run() })
	keys := func(k ...string) { tmux(t, socket, append([]string{"send-keys"}, k...)...) }
	sees := func(want string) string {
		t.Helper()
		late := time.After(patient)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			screen := tmux(t, socket, "capture-pane", "-p")
			if strings.Contains(screen, want) {
				tick.Stop()
				return screen
			}
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("the screen lacks %q:\n%s", want, screen)
			}
		}
	}
	sees("── /help ──")
	keys("-l", "devvm is frozen, ssh hangs since 18:20")
	keys("Enter")
	sees("[1 Stop]")
	screen := sees("[1 Cycle devvm]  [2 Cancel]")
	for _, want := range []string{`✓ ssh devvm "dmesg | sed 's/\./x/' | tail -40"  exit 255`, "iothread of <vm-102> is"} {
		if !strings.Contains(screen, want) {
			t.Errorf("the screen lacks %q:\n%s", want, screen)
		}
	}
	if strings.Contains(screen, "Working") || strings.Contains(screen, "Stop") {
		t.Errorf("the live message was not replaced:\n%s", screen)
	}
	keys("1")
	sees("── Enter: Cycle devvm")
	keys("Enter")
	sees("✅ devvm is back after 41 s")
	sees("file: " + filepath.Join(dir, "screen-c81f.png"))
	tmux(t, socket, "resize-window", "-x", "40", "-y", "20")
	screen = sees("▎ ✅ devvm is back after 41 s (cycle by\n▎ @kim, op c81f). SSH answered.\n")
	if !strings.Contains(screen, "› Say what is wrong, or /help\n") {
		t.Errorf("the input is not where it was:\n%s", screen)
	}
}
