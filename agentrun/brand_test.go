package agentrun

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unmarked starts a command without environment, elsewhere, and in a session of its own.
const unmarked = "(cd / && exec env -i setsid %s </dev/null >/dev/null 2>&1 &); sleep 614"

func TestWhatHasShedEverythingIsFoundWhenItsCLIIsKilled(t *testing.T) { // not in parallel: another test's stop would end it
	r := newRig(t, nil)
	s := newSession()
	word := fmt.Sprintf("7220.%04d", os.Getpid()%10000)
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
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("SKIPPED, a process that never stays is not tested: ", err)
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
	for over := time.After(200 * time.Millisecond); ; { // it beats every few milliseconds
		select {
		case <-over:
			return
		case <-time.After(5 * time.Millisecond):
			if now := beats(); now != last {
				t.Fatalf("it is alive %s after the stop, which says %+v", now.Sub(last), got)
			}
		}
	}
}

// stuckStart has a session's CLI hang in its start until it is let go, as on a disk that is gone: whoever forks has the lock
// that is held here.
func stuckStart(t *testing.T, r *rig) (letGo func() record) {
	t.Helper()
	syscall.ForkLock.RLock()
	free := sync.OnceFunc(syscall.ForkLock.RUnlock)
	t.Cleanup(free)
	turn := r.Start(t.Context(), prompt(newSession(), script(step{"text": "late"})), allow)
	eventually(t, "the start hangs", func() bool {
		if syscall.ForkLock.TryRLock() {
			syscall.ForkLock.RUnlock()
			return false
		}
		return true // somebody waits to write
	})
	return func() record { free(); return all(t, turn) }
}

func TestACrashIsNoticedWhileAnotherStartHangs(t *testing.T) {
	r := newRig(t, nil)
	s := newSession()
	turn := r.Start(t.Context(), prompt(s, script(step{"bash": "sleep 614"}, step{"text": "done"})), allow)
	until(t, turn, is[Tool])
	letGo := stuckStart(t, r)
	r.mu.Lock()
	root := r.sessions[s].root
	r.mu.Unlock()
	began := time.Now()
	if err := root.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	sentence(t, all(t, turn).err, "The claude CLI ended in the middle of the turn (signal: killed). The conversation is kept; send a message to go on."+verbsWork)
	got := turn.Stop(t.Context())
	if took := time.Since(began); took > patience || len(got.Left) > 0 {
		t.Errorf("after %s the stop says %+v", took, got)
	}
	if text := answer(t, letGo()); text != "late" {
		t.Errorf("the one that hung says %q", text)
	}
}

// What has shed everything looks like a CLI that is being born.
func TestNothingIsProvenWhileAStartHangs(t *testing.T) {
	r := newRig(t, nil)
	s := newSession()
	word := fmt.Sprintf("7210.%04d", os.Getpid()%10000)
	turn := r.Start(t.Context(), prompt(s, script(step{"bash": fmt.Sprintf(unmarked, "sleep "+word)}, step{"text": "done"})), allow)
	until(t, turn, is[Tool])
	var pids []int
	eventually(t, "it runs and has shed its mark", func() bool {
		pids = pidsOf(t, word)
		return len(pids) == 1 && !marked(pids[0], "")
	})
	letGo := stuckStart(t, r)
	r.mu.Lock()
	root := r.sessions[s].root
	r.mu.Unlock()
	if err := root.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	all(t, turn)
	began := time.Now()
	got := turn.Stop(t.Context())
	t.Logf("%+v", got)
	if running(t, word) == 0 || !slices.Equal(got.Left, pids) {
		t.Errorf("the stop says %+v while %v runs", got, pids)
	}
	if took := time.Since(began); took > proofLimit+patience {
		t.Errorf("the stop took %s", took)
	}
	answer(t, letGo())
	if err := r.Close(t.Context()); err != nil || running(t, word) > 0 {
		t.Errorf("after Close %d are left: %v", running(t, word), err)
	}
}
