package agentrun

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unmarked starts a command without environment, elsewhere, and in a session of its own.
const unmarked = "(cd / && env -i setsid %s </dev/null >/dev/null 2>&1 &); sleep 614"

func TestWhatHasShedEverythingIsFoundWhenItsCLIIsKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	word := fmt.Sprintf("7200.%04d", os.Getpid()%10000)
	turn := r.Start(t.Context(), prompt(s, script(step{"bash": fmt.Sprintf(unmarked, "sleep "+word)}, step{"text": "done"})), allow)
	until(t, turn, is[Tool])
	eventually(t, "it runs", func() bool { return running(t, word) == 1 })
	r.mu.Lock()
	root := r.sessions[s].root
	r.mu.Unlock()
	if err := root.signal(unix.SIGKILL); err != nil { // as the kernel does when memory runs out
		t.Fatal(err)
	}
	all(t, turn)
	if got := turn.Stop(t.Context()); running(t, word) > 0 || len(got.Left) > 0 || got.Ended < 1 {
		t.Errorf("%d processes are left, the stop says %+v", running(t, word), got)
	}
	for _, pid := range pidsOf(t, word) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

func TestWhatForksAndLeavesWithoutEndIsStopped(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("NOT TESTED: perl is missing")
	}
	r := newRig(t, nil)
	s := newSession()
	beat := filepath.Join(r.cfg.place(s).tmp(), "beat")
	racer := `perl -e 'use POSIX; $e = time + 20; while (time < $e) { open F, ">", "` + beat + `"; close F; exit if fork; setsid }'`
	turn := r.Start(t.Context(), prompt(s, script(step{"bash": fmt.Sprintf(unmarked, racer)}, step{"text": "done"})), allow)
	until(t, turn, is[Tool])
	beats := func() time.Time {
		info, err := os.Stat(beat)
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	eventually(t, "it runs", func() bool { return time.Since(beats()) < time.Second })
	got := turn.Stop(t.Context())
	t.Logf("%+v", got)
	last := beats()
	time.Sleep(200 * time.Millisecond)
	if now := beats(); now != last {
		t.Errorf("it is alive %s after the stop, which says %+v", now.Sub(last), got)
	}
}

// A birth waits for a disk that hangs, and a stop elsewhere must not wait with it.
func TestAStopDoesNotWaitForABirthThatHangs(t *testing.T) {
	child := exec.CommandContext(t.Context(), "prlimit", "--msgqueue=0:0", "sleep", "600")
	if err := child.Start(); err != nil {
		t.Skip("NOT TESTED: ", err)
	}
	defer func() { _ = child.Wait() }()
	defer func() { _ = child.Process.Kill() }()
	eventually(t, "it has the brand", func() bool { return hasBrand(child.Process.Pid) })
	p, _ := lookup(child.Process.Pid)
	litter.Lock()
	began := time.Now()
	if p.orphan() {
		t.Error("it is taken for an orphan, but may be a CLI")
	}
	if took := time.Since(began); took > patience {
		t.Errorf("that took %s", took)
	}
	litter.Unlock()
	if !p.orphan() {
		t.Error("it is taken for a CLI")
	}
}
