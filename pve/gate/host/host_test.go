package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	if !s.Hung || s.OK() || s.Out != "so far\n" || !regexp.MustCompile(`^no answer within \d+ s\nso far$`).MatchString(s.Words()) {
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
	if words, err := Arguments(cmd.Process.Pid); !slices.Equal(words, []string{path, "300"}) {
		t.Errorf("its arguments are %q, %v", words, err)
	}
}

// The caller's time is not the program's: nothing may be concluded from a program that was never given its own.
func TestACommandThatIsCalledOffDidNotHang(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if s := Command(over, time.Minute, "/bin/true"); s.Hung || s.OK() || !s.CalledOff || s.Words() != "no time is left to ask" {
		t.Errorf("before its start: %+v", s)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	s := Command(short, time.Minute, "/bin/sleep", "300")
	if s.Hung || s.OK() || !s.CalledOff || !strings.HasPrefix(s.Words(), "no answer within ") || strings.Contains(s.Words(), "60") {
		t.Errorf("on its way: %+v", s)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A program that hangs in the kernel is left behind, and no second is started beside it.
func TestALookIsNotRepeatedWhileAnEarlierOneHangs(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "mark")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := make(chan Said, 1)
	go func() { first <- Once(ctx, time.Minute, mark, "/bin/sh", "-c", "echo >"+mark+"-ready; exec sleep 300") }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(mark + "-ready"); err == nil {
			break
		}
		<-tick.C
	}
	if s := Once(t.Context(), time.Minute, mark, "/bin/true"); s.Words() != "not asked: an earlier one still hangs" {
		t.Errorf("a second: %+v", s)
	}
	if s := Once(t.Context(), time.Minute, mark+"-2", "/bin/true"); !s.OK() {
		t.Errorf("another program: %+v", s)
	}
	cancel()
	if s := <-first; !s.CalledOff {
		t.Errorf("the first: %+v", s)
	}
	if s := Once(t.Context(), time.Minute, mark, "/bin/true"); !s.OK() {
		t.Errorf("after its end: %+v", s)
	}
}

// A process can make the reading of its command line hang. It costs nobody else's, and is named.
func TestACommandLineThatHangsCostsNoOther(t *testing.T) {
	t.Parallel()
	never := make(chan struct{})
	defer close(never)
	me, parent := os.Getpid(), os.Getppid()
	began := time.Now()
	read, unread := commandLines(t.Context(), func(pid int) bool { return pid == me || pid == parent }, func(pid int) ([]string, error) {
		if pid == parent {
			<-never
		}
		return []string{"x"}, nil
	})
	if len(read) != 1 || read[0].Pid != me || len(unread) != 1 || unread[0].Pid != parent || unread[0].Name == "" {
		t.Errorf("read %+v, unread %+v", read, unread)
	}
	if took := time.Since(began); took > ProcLimit+10*time.Second {
		t.Errorf("it took %s", took)
	}
}
