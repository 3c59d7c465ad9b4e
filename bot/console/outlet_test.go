package console

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"bgbot/bot"
)

// soon fails the test unless do returns.
func soon(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(patient):
		t.Fatalf("%s does not come to an end", what)
	}
}

// aTerminal is one that nobody reads; its other end is read by the test.
func aTerminal(t *testing.T) (other, tty *os.File) {
	t.Helper()
	other, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = other.Close(), tty.Close() })
	return other, tty
}

func onTerminal(t *testing.T) (c *Console, other *os.File) {
	t.Helper()
	other, tty := aTerminal(t)
	in, typed := io.Pipe()
	t.Cleanup(func() { _ = typed.Close() })
	c, err := Open(Options{In: in, Out: tty, Person: kim, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	return c, other
}

// A terminal after ^S, or behind an ssh that stalls: the core must not wait for it, and it misses nothing.
func TestATerminalThatTakesNothingHoldsUpNobody(t *testing.T) {
	t.Parallel()
	c, other := onTerminal(t)
	const posts = 400
	soon(t, "saying it", func() {
		for n := range posts {
			id, err := c.Post(t.Context(), bot.Place{Thread: "a"}, bot.Text{Body: fmt.Sprintf("post %03d %s", n, strings.Repeat("x", 1000))})
			if err == nil {
				err = c.Edit(t.Context(), bot.Place{Thread: "a"}, id, bot.Text{Body: fmt.Sprintf("edit %03d", n)})
			}
			if err != nil {
				t.Errorf("post %d: %v", n, err)
				return
			}
		}
	})
	if !c.stuck() {
		t.Fatal("the terminal has taken all")
	}
	var got bytes.Buffer
	soon(t, "reading it", func() {
		buf := make([]byte, 64<<10)
		for !bytes.Contains(got.Bytes(), fmt.Appendf(nil, "edit %03d", posts-1)) {
			n, err := other.Read(buf)
			if err != nil {
				t.Error(err)
				return
			}
			got.Write(buf[:n])
		}
	})
	at := -1
	for n := range posts {
		for _, what := range []string{"post", "edit"} {
			next := strings.Index(got.String(), fmt.Sprintf("%s %03d", what, n))
			if next <= at {
				t.Fatalf("%s %d stands at %d, behind what stands at %d", what, n, next, at)
			}
			at = next
		}
	}
	soon(t, "waiting until it is no more stuck", func() {
		for c.stuck() {
			<-c.wake
		}
	})
	soon(t, "closing", func() { _ = c.Close() })
}

func TestATerminalThatTakesNothingIsGivenUpAtTheEnd(t *testing.T) {
	t.Parallel()
	c, _ := onTerminal(t)
	soon(t, "saying it", func() {
		_, _ = c.Post(t.Context(), bot.Place{}, bot.Text{Body: strings.Repeat("x\n", 200_000)})
	})
	soon(t, "closing", func() { _ = c.Close() })
	soon(t, "one more word", func() {
		if _, err := c.Post(t.Context(), bot.Place{}, bot.Text{Body: "too late"}); err == nil {
			t.Error("a terminal that was given up takes a post")
		}
	})
}

func TestOfTooMuchTheNewestIsKept(t *testing.T) {
	t.Parallel()
	lines := bytes.Repeat([]byte("old\n"), mostWaiting/4)
	rest := newest(append(lines, "✅ devvm is back\n"...))
	if len(rest) > mostWaiting || !bytes.HasSuffix(rest, []byte("old\n✅ devvm is back\n")) {
		t.Errorf("%d bytes are kept, which end with %q", len(rest), rest[len(rest)-40:])
	}
	if !bytes.HasPrefix(rest, []byte("\nnote   ▸ What stood here is lost: the terminal took nothing.\nold\n")) {
		t.Errorf("they begin with %q", rest[:100])
	}
	if few := []byte("few\n"); !bytes.Equal(newest(few), few) {
		t.Error("few bytes are not kept")
	}
}

func TestOnlyATerminalGetsAnOutlet(t *testing.T) {
	t.Parallel()
	var out io.Writer = &paper{}
	w, finish := Outlet(out)
	if w != out {
		t.Errorf("%T became %T", out, w)
	}
	finish()
}

// The signal is not the terminal's own ^C, which would also take back ^S.
func TestLeavingATerminalThatTakesNothing(t *testing.T) {
	t.Parallel()
	signal := func(sig os.Signal) func(*seat) {
		return func(s *seat) {
			if err := s.cmd.Process.Signal(sig); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		environ string
		leave   func(*seat)
	}{
		"lines, SIGTERM":     {"TERM=dumb", signal(syscall.SIGTERM)},
		"lines, SIGINT":      {"TERM=dumb", signal(syscall.SIGINT)},
		"lines, /quit":       {"TERM=dumb", func(s *seat) { s.types("/quit\n") }},
		"a screen, SIGTERM":  {"TERM=xterm", signal(syscall.SIGTERM)},
		"a screen, ^C twice": {"TERM=xterm", func(s *seat) { s.types("\x03\x03") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sit(t, 100, 30, c.environ)
			s.waits("It helps while")
			s.flows(false)
			s.types("hello\r")
			c.leave(s)
			select {
			case <-s.done:
			case <-time.After(patient):
				t.Fatal("it did not end")
			}
		})
	}
}

// Whoever lets it go on sees what is, and everything that they typed meanwhile has counted.
func TestAScreenThatGoesOnShowsTheNewest(t *testing.T) {
	t.Parallel()
	s := sit(t, 100, 30, "TERM=xterm")
	s.waits("/help")
	s.flows(false)
	s.types("devvm is frozen\r")
	s.flows(true)
	s.waits("2 Cancel")
	s.types("\x04")
	s.leaves()
}

// flows is ^Q, or ^S: the terminal takes nothing more. Other than the keys it works on a screen too, and at once.
func (s *seat) flows(on bool) {
	s.t.Helper()
	n, err := unix.IoctlGetInt(int(s.tty.Fd()), unix.TIOCGPTN)
	if err != nil {
		s.t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = tty.Close() }()
	if err := unix.IoctlSetInt(int(tty.Fd()), unix.TCXONC, map[bool]int{false: unix.TCOOFF, true: unix.TCOON}[on]); err != nil {
		s.t.Fatal(err)
	}
}
