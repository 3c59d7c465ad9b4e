package pve_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bgbot/internal/sshdtest"
	"bgbot/pve"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait most of the time
		panic(err)
	}
	os.Exit(m.Run())
}

// scene is a host with a gate of a few lines of shell, a wire to it, and a client.
type scene struct {
	*pve.Client

	t    testing.TB
	dir  string
	sshd *sshdtest.Server
	wire *wire
	held *os.File // a pipe from which gates that hang read
}

// newScene has the gate run the script; $D is a folder of the scene's own, and the calls are noted in it. hold waits
// until the test ends or says letGo, and costs nothing meanwhile: two dozen gates that look again and again, with a process
// for each look, are all that a small machine can do.
func newScene(t testing.TB, script string, config ...string) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir()}
	text := "D='" + s.dir + "'\necho \"$SSH_ORIGINAL_COMMAND\" >>$D/calls\nhold() { read x <$D/held; } 2>/dev/null\n" + script
	if err := os.WriteFile(filepath.Join(s.dir, "gate"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(s.dir, "held"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile(filepath.Join(s.dir, "held"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() })
	s.held = held
	s.sshd = sshdtest.New(t, sshdtest.Options{
		KeyOptions: sshdtest.ForcedCommand("/bin/sh", filepath.Join(s.dir, "gate")), Config: config,
	})
	s.wire = newWire(t, s.sshd.Address)
	h := hostOf(s.sshd)
	h.Address = s.wire.address
	s.Client = pve.NewClient(h, 102, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() {
		s.letGo()
		_ = s.Close()
	})
	return s
}

// letGo ends all that hold, and lets none hold any more: each takes one of the ends of lines that it leaves in the pipe.
// Closing it instead would leave one behind that is about to open it.
func (s *scene) letGo() {
	s.t.Helper()
	if _, err := s.held.Write(bytes.Repeat([]byte{'\n'}, 1000)); err != nil {
		s.t.Error(err)
	}
}

func (s *scene) file(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Error(err)
	}
}

// calls are the verbs that reached the gate.
func (s *scene) calls() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "calls"))
	return strings.Join(strings.Fields(string(text)), " ")
}

func await(t testing.TB, what string, seen func() bool) {
	t.Helper()
	if !within(time.Minute, seen) {
		t.Fatal("never came:", what)
	}
}

func within(d time.Duration, seen func() bool) bool {
	deadline, tick := time.After(d), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !seen() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

const (
	wellDone = `echo '{"at":"2026-01-02T03:04:05Z","op":"c81f","step":"op","state":"start","new":{"field":1}}'
echo '{"at":"2026-01-02T03:04:05Z","op":"c81f","step":"stopped","state":"ok","text":"gone"}'
echo '{"result":{"verb":"cycle","vmid":102,"op":"c81f","exit":0,"text":"VM 102 was cycled.","status":"running","new":2}}'
`
	// hangs once, in mid-verb, until the test says go on; status always answers.
	hangs = `case $SSH_ORIGINAL_COMMAND in
status) [ -e $D/status-hangs ] && { rm $D/status-hangs; hold; }
	echo '{"result":{"exit":0,"text":"VM 102 is running.","status":"running","last_op":"cycle, op c81f is running"}}';;
*) echo '{"op":"c81f","step":"stop","state":"start"}'
	hold
	echo '{"result":{"exit":0,"text":"done after all"}}';;
esac
`
)

func TestAVerbIsFollowedToItsEnd(t *testing.T) {
	t.Parallel()
	s := newScene(t, wellDone)
	var heard []string
	report, err := s.Run(t.Context(), pve.Cycle, func(st pve.Step) { heard = append(heard, st.Step+" "+string(st.State)) })
	if err != nil || report.Result.Text != "VM 102 was cycled." || report.Result.Exit != pve.Done || report.Took <= 0 {
		t.Errorf("got %+v, %v", report, err)
	}
	if got := strings.Join(heard, ", "); got != "op start, stopped ok" || len(report.Steps) != 2 {
		t.Errorf("heard %s", got)
	}
}

func TestTheWarmLinkIsUsedAgain(t *testing.T) {
	t.Parallel()
	s := newScene(t, wellDone)
	for range 3 {
		if _, err := s.Run(t.Context(), pve.Cycle, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.wire.dialled(); n != 1 {
		t.Errorf("dialled %d times", n)
	}
}

func TestManyAtOnceShareOneLink(t *testing.T) {
	t.Parallel()
	s := newScene(t, wellDone)
	var wg sync.WaitGroup
	for range 25 { // sshd allows 10 sessions on a connection
		wg.Go(func() {
			if _, err := s.Run(t.Context(), pve.Status, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.wire.dialled(); n != 1 {
		t.Errorf("dialled %d times", n)
	}
}

func TestAWarmLinkThatIsDeadIsReplacedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(*wire){"cut": (*wire).cut, "black hole": (*wire).freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, wellDone)
			for range 2 {
				began := time.Now()
				report, err := s.Run(t.Context(), pve.Cycle, nil)
				if err != nil || report.Result.Exit != pve.Done {
					t.Fatalf("got %+v, %v", report.Result, err)
				}
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("it took %s", took)
				}
				kill(s.wire)
			}
			if got := s.calls(); got != "cycle cycle" || s.wire.dialled() != 2 {
				t.Errorf("the gate saw %q over %d connections", got, s.wire.dialled())
			}
		})
	}
}

func TestKeepHoldsTheLinkUp(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(*wire){"cut": (*wire).cut, "black hole": (*wire).freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, wellDone)
			s.Keepalive(50*time.Millisecond, 2*time.Second)
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { s.Keep(ctx) })
			await(t, "the link", func() bool { return s.wire.dialled() == 1 })
			if _, err := s.Run(t.Context(), pve.Status, nil); err != nil { // the login is done
				t.Fatal(err)
			}
			kill(s.wire)
			await(t, "a new link", func() bool { return s.wire.dialled() == 2 })
			stop()
			wg.Wait()
			if report, err := s.Run(t.Context(), pve.Status, nil); err != nil || report.Result.Exit != pve.Done {
				t.Errorf("got %+v, %v", report.Result, err)
			}
		})
	}
}

func TestAChangeIsNeverSentTwice(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(*scene){
		"cut":        func(s *scene) { s.wire.cut() },
		"black hole": func(s *scene) { s.wire.freeze() },
		"sshd ends":  func(s *scene) { s.sshd.Drop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, hangs)
			s.Keepalive(50*time.Millisecond, 2*time.Second)
			report, err := s.Run(t.Context(), pve.Cycle, func(pve.Step) { kill(s) })
			unknown, ok := errors.AsType[*pve.Unknown](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			const want = "Outcome of cycle unknown: the link dropped after step `stop` of op c81f.\n" +
				"status now says: VM 102 is running.\n" +
				"It was not sent again, and what has begun goes on at the host. Ask status before you change anything."
			if unknown.UserMessage() != want {
				t.Errorf("got  %q\nwant %q", unknown.UserMessage(), want)
			}
			if unknown.Op != "c81f" || unknown.Step != "stop" || unknown.Now.LastOp != "cycle, op c81f is running" {
				t.Errorf("got %+v", unknown)
			}
			if r := report.Result; r.Exit != pve.Broken || r.Op != "c81f" || r.Status != "running" || r.Text != want || len(report.Steps) != 1 {
				t.Errorf("got %+v", report)
			}
			if got := s.calls(); got != "cycle status" {
				t.Errorf("the gate saw %q", got)
			}
		})
	}
}

func TestAReadIsAskedOnceMore(t *testing.T) {
	t.Parallel()
	s := newScene(t, hangs)
	s.file("status-hangs", "")
	var wg sync.WaitGroup
	wg.Go(func() {
		await(t, "the first call", func() bool { return s.calls() == "status" })
		s.wire.cut()
	})
	report, err := s.Run(t.Context(), pve.Status, nil)
	wg.Wait()
	if err != nil || report.Result.Text != "VM 102 is running." || s.calls() != "status status" {
		t.Errorf("got %+v, %v; the gate saw %q", report.Result, err, s.calls())
	}
}

func TestWhoeverStopsWaitingIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t, hangs)
	ctx, cancel := context.WithCancel(t.Context())
	report, err := s.Run(ctx, pve.Cycle, func(pve.Step) { cancel() })
	unknown, ok := errors.AsType[*pve.Unknown](err)
	if !ok || !errors.Is(err, context.Canceled) || report.Result.Exit != pve.Broken {
		t.Fatalf("got %+v, %v", report.Result, err)
	}
	if got, _, _ := strings.Cut(unknown.UserMessage(), "\n"); got != "Outcome of cycle unknown: nobody waited any longer after step `stop` of op c81f." {
		t.Errorf("got %q", got)
	}
	// The others on the link do not notice.
	if report, err = s.Run(t.Context(), pve.Status, nil); err != nil || s.wire.dialled() != 1 {
		t.Errorf("got %+v, %v over %d connections", report.Result, err, s.wire.dialled())
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	t.Parallel()
	s := newScene(t, hangs)
	var wg sync.WaitGroup
	_, err := s.Run(t.Context(), pve.Cycle, func(pve.Step) { wg.Go(func() { _ = s.Close() }) })
	wg.Wait()
	if unknown, ok := errors.AsType[*pve.Unknown](err); !ok || !strings.Contains(unknown.UserMessage(), "this side shut down after step `stop`") {
		t.Errorf("got %v", err)
	}
	_, err = s.Run(t.Context(), pve.Status, nil)
	e, ok := errors.AsType[*pve.Unreachable](err)
	if want := fmt.Sprintf("the Proxmox host (%s) was not asked: this side is shutting down.", s.wire.address); !ok || e.UserMessage() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	s.Keep(t.Context()) // returns
}

func TestWhatIsNoVerbIsNotSent(t *testing.T) {
	t.Parallel()
	s := newScene(t, wellDone)
	report, err := s.Run(t.Context(), "cycle;id", nil)
	if _, ok := errors.AsType[*pve.NotAVerb](err); !ok || report.Result.Exit != pve.Broken || s.wire.dialled() != 0 {
		t.Errorf("got %+v, %v", report.Result, err)
	}
}

func TestAHostThatIsGoneSaysSo(t *testing.T) {
	t.Parallel()
	s := newScene(t, wellDone)
	s.sshd.Stop()
	report, err := s.Run(t.Context(), pve.Cycle, nil)
	if e, ok := errors.AsType[*pve.Unreachable](err); !ok || e.Why != pve.Closed || report.Result.Exit != pve.Broken {
		t.Errorf("got %+v, %v", report.Result, err)
	}
}

func TestAnSSHDWithoutRoomSaysSo(t *testing.T) {
	t.Parallel()
	s := newScene(t, wellDone, "MaxSessions 0")
	_, err := s.Run(t.Context(), pve.Cycle, nil)
	e, ok := errors.AsType[*pve.Unreachable](err)
	if want := fmt.Sprintf("the Proxmox host (%s) allows no further session on our connection. Raise MaxSessions in its sshd_config to 10 or more.", s.wire.address); !ok || e.UserMessage() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}
