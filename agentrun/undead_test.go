package agentrun

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// beDeaf is a CLI that says it is ready, obeys nothing, and lets itself be traced.
func beDeaf() int {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	const anybody = ^uintptr(0) // PR_SET_PTRACER_ANY; without Yama there is no such option and no need
	_ = unix.Prctl(unix.PR_SET_PTRACER, anybody, 0, 0, 0)
	in := bufio.NewReader(os.Stdin)
	_, _ = in.ReadString('\n')
	fmt.Println(strings.TrimSuffix(strings.TrimPrefix(settledSettings, "read settings; echo '"), "'"))
	select {}
}

// beGrip holds a process that dies at the gate of its death until its own stdin is closed: no signal ends what stands
// there (ptrace(2), PTRACE_O_TRACEEXIT), as none ends what waits for a disk that is gone.
func beGrip(pid string) int {
	runtime.LockOSThread() // a tracer is a thread
	n, err := strconv.Atoi(pid)
	if err == nil {
		_, _, e := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(n), 0, unix.PTRACE_O_TRACEEXIT, 0, 0)
		if err = error(e); e == 0 {
			err = nil
		}
	}
	fmt.Println(err)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return 0
}

// grip makes a process undead, until it is let go.
func grip(t *testing.T, pid int) (letGo func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = []string{"AGENTRUN_TEST_GRIP=" + strconv.Itoa(pid)}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	letGo = func() { _ = in.Close(); _ = cmd.Wait() }
	t.Cleanup(letGo)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "<nil>\n" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("cannot trace a process: %s%v", line, err)
		}
		t.Skipf("SKIPPED, a CLI that cannot be killed is not tested: cannot trace a process: %s%v", line, err)
	}
	return letGo
}

func TestACLIThatDoesNotDieIsReportedAndNotWaitedFor(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Command, cfg.Env, cfg.Live = self, map[string]string{"AGENTRUN_TEST_DEAF": "1"}, 1
	released := make(chan struct{})
	cfg.Prepare = func(string, string) (map[string]string, func(), error) {
		return nil, func() { close(released) }, nil
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	turn := r.Start(t.Context(), prompt(newSession(), "[alice]: hello"), allow)
	pid := 0
	eventually(t, "the prompt is written", func() bool {
		turn.mu.Lock()
		defer turn.mu.Unlock()
		if turn.proc != nil {
			pid = turn.proc.kin.root.pid
		}
		return pid != 0
	})
	letGo := grip(t, pid)

	got := turn.Stop(t.Context())
	t.Logf("%+v", got)
	if !slices.Equal(got.Left, []int{pid}) || got.Took > killLimit+patience {
		t.Errorf("got %+v, want pid %d left", got, pid)
	}
	if rec := all(t, turn); !errors.Is(rec.err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", rec.err)
	}
	eventually(t, "the slot is free", func() bool { live, _ := r.Live(); return live == 0 })

	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sentence(t, r.Close(ctx), fmt.Sprintf("Processes of the agent were killed and do not die: pids [%d]. "+
		"They hang in the kernel, likely on a disk; look at the machine where bgbot runs.", pid))
	if took := time.Since(began); took > 10*time.Second { // and not until its context ends
		t.Errorf("Close took %s", took)
	}
	select {
	case <-released:
		t.Error("what the process needs was released while it was there")
	default:
	}

	letGo()
	select {
	case <-released:
	case <-time.After(10 * time.Second):
		t.Error("what the process needed was not released after its end")
	}
	if _, there := lookup(pid); there {
		t.Error("its entry in the process table is left")
	}
}

func TestACloseGivesUpOnATurnThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	goOn, began := make(chan struct{}), make(chan struct{})
	cfg.Prepare = func(string, string) (map[string]string, func(), error) {
		close(began)
		<-goOn
		return nil, nil, errors.New("no")
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	turn := r.Start(t.Context(), prompt(newSession(), "[alice]: hello"), allow)
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	from := time.Now()
	err = r.Close(ctx)
	sentence(t, err, "The agent's turns did not end within 10s; processes that are left: [].")
	if took := time.Since(from); took > closeLimit+time.Second || !errors.Is(err, context.Canceled) {
		t.Errorf("Close took %s: %v", took, err)
	}
	close(goOn)
	all(t, turn)
	<-turn.done
}

func TestASweepRemovesTheFoldersOfOldSessions(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	old, young, other := newSession(), newSession(), "notes"
	transcript := filepath.Join(cfg.Dir, "claude", "projects", old+".jsonl")
	long := time.Now().Add(-oldSession - time.Hour)
	for _, path := range []string{
		filepath.Join(cfg.Dir, "sessions", old, "work", "file"), filepath.Join(cfg.Dir, "sessions", young, "work", "file"),
		filepath.Join(cfg.Dir, "sessions", other, "file"), transcript,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(cfg.Dir, "sessions", old), filepath.Join(cfg.Dir, "sessions", other), transcript} {
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, cfg).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		filepath.Join(cfg.Dir, "sessions", old): false, filepath.Join(cfg.Dir, "sessions", young): true,
		filepath.Join(cfg.Dir, "sessions", other): true, transcript: true,
	} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: is there is %v, want %v", path, err == nil, want)
		}
	}
}
