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
