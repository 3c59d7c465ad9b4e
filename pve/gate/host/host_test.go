package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestACommandThatHangsIsLeftAndItsGroupEnded(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "pid")
	s := Command(t.Context(), time.Second, "/bin/sh", "-c", "sleep 300 & echo $! >"+note+"; echo so far; wait")
	if !s.Hung || s.OK() || s.Out != "so far\n" || s.Words() != "no answer within 1s\nso far" {
		t.Errorf("got %+v, words %q", s, s.Words())
	}
	text, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil || !Readable(fd, 20*time.Second) {
		t.Errorf("its child %d lives on (%v)", pid, err)
	}
}

func TestAGrandchildThatHoldsThePipesHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	done := make(chan Said, 1)
	go func() { done <- Command(t.Context(), time.Minute, "/bin/sh", "-c", "setsid sleep 30 & echo fine") }()
	select {
	case s := <-done:
		if !s.OK() || s.Out != "fine\n" {
			t.Errorf("got %+v", s)
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits for the grandchild")
	}
}

func TestACommandGetsNothingOfOurEnvironment(t *testing.T) {
	t.Setenv("LC_EVIL", "1")
	s := Command(t.Context(), 20*time.Second, "/usr/bin/env")
	if got := strings.Fields(s.Out); !slices.Equal(got, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}) {
		t.Errorf("got %q", got)
	}
	if s := Command(t.Context(), time.Second, "/no/such/program"); s.OK() || s.Hung || !strings.Contains(s.Words(), "no such file") {
		t.Errorf("got %+v", s)
	}
}

func TestWhatDoesNotComeBackIsLeftBehind(t *testing.T) {
	t.Parallel()
	never := make(chan struct{})
	defer close(never)
	_, err := Within(10*time.Millisecond, func() (int, error) { <-never; return 1, nil })
	if err == nil || err.Error() != "no answer within 10ms" {
		t.Errorf("got %v", err)
	}
}

func TestAProcessIsKnownByItsNumberAndItsStart(t *testing.T) {
	t.Parallel()
	me := Self()
	if !me.Lives() || me.Age() <= 0 || me.Age() > time.Hour {
		t.Errorf("%+v lives %t, is %s old", me, me.Lives(), me.Age())
	}
	if again := (Process{Pid: me.Pid, Start: me.Start + 1}); again.Lives() {
		t.Error("another process with our number is taken for us")
	}
	if who := Stranger(me.Pid); who != "" {
		t.Errorf("we are %q to ourselves", who)
	}
}

// The name of a process may hold any byte, brackets and blanks too (proc_pid_stat(5)).
func TestTheStateOfAProcessWithAForgedName(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x) D 1 (y")
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock() // no child may hold the file open for writing (go.dev/issue/22315)
	err = os.WriteFile(path, sleep, 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, path, "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	st, err := ReadStat(cmd.Process.Pid)
	if err != nil || st.Name != "x) D 1 (y" || st.State == "D" || st.Start == 0 {
		t.Errorf("got %+v, %v", st, err)
	}
	if all := Threads(cmd.Process.Pid); len(all) != 1 || all[0].ID != cmd.Process.Pid || all[0].Name != st.Name {
		t.Errorf("its threads are %v", all)
	}
	if words := Arguments(cmd.Process.Pid); !slices.Equal(words, []string{path, "300"}) {
		t.Errorf("its arguments are %q", words)
	}
}
