package agentrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is what a stop may take here. The goal is 1 s, and BenchmarkStop measures 50 ms; but this machine may be busy with
// many other tests.
const patience = 3 * time.Second

// fakeSSH is an ssh that hangs, as one to a wedged VM does.
func fakeSSH(t *testing.T) (dir string) {
	t.Helper()
	path := impostor(t, "trap '' TERM INT HUP\nwhile :; do sleep 613; done")
	dir = filepath.Dir(path)
	if err := os.Rename(path, filepath.Join(dir, "ssh")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pidsOf finds the processes with a word as one of their arguments.
func pidsOf(t *testing.T, word string) (pids []int) {
	t.Helper()
	all, err := census()
	if err != nil {
		t.Fatal(err)
	}
	for pid, p := range all {
		line, err := os.ReadFile(procFile(pid, "cmdline"))
		if err == nil && p.alive() && strings.Contains("\x00"+string(line), "\x00"+word+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func running(t *testing.T, word string) int {
	t.Helper()
	return len(pidsOf(t, word))
}

func TestAStopLeavesNothingOfTheTurn(t *testing.T) {
	t.Parallel()
	bin := fakeSSH(t)
	r := newRig(t, func(c *Config) {
		c.Env, c.Readable = map[string]string{"PATH": bin + ":/usr/bin:/bin"}, []string{bin}
	})
	s := newSession()
	for i, c := range []struct {
		name, command string
		remote        bool
	}{
		{"plain", "sleep %s", false},
		{"in the background", "(sleep %s &) ; sleep 614", false},
		{"in a session of its own", "setsid sleep %s & sleep 614", false},
		{"immune to hangup", "nohup sleep %s >/dev/null 2>&1 & sleep 614", false},
		{"immune to TERM", "trap '' TERM INT HUP; sleep %s & while :; do sleep 614; done", false},
		{"without environment", "env -i setsid sleep %s & sleep 614", false},
		{"without anything", "(cd / && env -i setsid sh -c 'setsid sleep %s & exit 0' </dev/null >/dev/null 2>&1 &); sleep 614", false},
		{"an ssh that hangs", "ssh devvm sudo fsck & sleep %s", true},
	} {
		word := fmt.Sprintf("%d.%04d", 7000+i, os.Getpid()%10000)
		turn := r.Start(t.Context(), prompt(s, script(step{"bash": fmt.Sprintf(c.command, word)}, step{"text": "done"})), allow)
		until(t, turn, is[Tool])
		eventually(t, c.name+" runs", func() bool { return running(t, word) == 1 })
		if c.remote {
			eventually(t, "ssh runs", func() bool { return running(t, "fsck") == 1 })
		}
		got := turn.Stop(t.Context())
		t.Logf("%s: %+v", c.name, got)
		if n := running(t, word); n != 0 || len(got.Left) != 0 {
			t.Errorf("%s: %d processes are left, the stop says %v", c.name, n, got.Left)
		}
		if got.Ended < 1 || got.Remote != c.remote {
			t.Errorf("%s: got %+v, want at least one ended and remote %v", c.name, got, c.remote)
		}
		if got.Took > patience {
			t.Errorf("%s: the stop took %s, want at most %s", c.name, got.Took, patience)
		}
		rec := all(t, turn)
		if !errors.Is(rec.err, ErrStopped) || len(each[Result](rec)) > 0 {
			t.Errorf("%s: got error %v and results %v, want ErrStopped and none", c.name, rec.err, each[Result](rec))
		}
		if res := each[ToolResult](rec); len(res) != 1 || !res[0].Failed || res[0].Denied {
			t.Errorf("%s: got %+v, want one failed result that was not denied", c.name, res)
		}
		if again := turn.Stop(t.Context()); again.Ended != got.Ended {
			t.Errorf("%s: a second stop says %+v", c.name, again)
		}
	}
	rec := all(t, r.Start(t.Context(), prompt(s, script(step{"text": "I am here."})), allow))
	if got := answer(t, rec); got != "I am here." {
		t.Errorf("after the stops: got %q", got)
	}
	if !first[Started](t, rec).Resumed {
		t.Error("the conversation was lost")
	}
}

func TestAStopShutsTheGateAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	asked, ended := make(chan Question, 1), make(chan error, 1)
	gate := func(ctx context.Context, q Question) Answer {
		asked <- q
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return Answer{Allow: true} // too late
	}
	s := newSession()
	marker := filepath.Join(r.cfg.place(s).work(), "ran") // where it can write
	turn := r.Start(t.Context(), prompt(s, script(step{"bash": "touch " + marker}, step{"text": "x"})), gate)
	q := <-asked
	if q.Command != "touch "+marker || q.Tool != "Bash" || q.Purpose != "run a test command" || q.ID == "" {
		t.Errorf("got question %+v", q)
	}
	got := turn.Stop(t.Context())
	if err := <-ended; !errors.Is(err, ErrStopped) {
		t.Errorf("the gate's context ended with %v, want ErrStopped", err)
	}
	if len(got.Left) != 0 || got.Took > patience {
		t.Errorf("got %+v", got)
	}
	all(t, turn)
	if _, err := os.Stat(marker); err == nil {
		t.Error("the command ran although the turn was stopped while its question was open")
	}
}

func TestAStopWhileTheModelTalksOrIsSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	for name, c := range map[string]struct {
		say  step
		wait func(Event) bool
	}{
		"talks":  {step{"text": strings.Repeat("word ", 400), "pace_ms": 50}, is[Text]},
		"silent": {step{"fault": "hang"}, is[Started]},
	} {
		turn := r.Start(t.Context(), prompt(s, script(c.say)), allow)
		until(t, turn, c.wait)
		if got := turn.Stop(t.Context()); got.Took > patience || len(got.Left) > 0 || got.Ended != 0 {
			t.Errorf("%s: got %+v", name, got)
		}
		if rec := all(t, turn); !errors.Is(rec.err, ErrStopped) {
			t.Errorf("%s: got %v, want ErrStopped", name, rec.err)
		}
	}
}

func TestAStopWhileTheCLIStarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	turn := r.Start(t.Context(), prompt(newSession(), script(step{"text": "x"})), allow)
	eventually(t, "a slot is taken", func() bool { live, _ := r.Live(); return live == 1 })
	began := time.Now()
	got := turn.Stop(t.Context())
	if took := time.Since(began); took > patience || len(got.Left) > 0 {
		t.Errorf("got %+v after %s", got, took)
	}
	if rec := all(t, turn); !errors.Is(rec.err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", rec.err)
	}
	eventually(t, "the slot is free", func() bool { live, _ := r.Live(); return live == 0 })
}

func TestAMessageSaidBeforeAStopDoesNotRunAfterIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	turn := r.Start(t.Context(), prompt(s, script(step{"bash": "sleep 615"}, step{"text": "x"})), allow)
	until(t, turn, is[Tool])
	if err := turn.Say(t.Context(), "queued", script(step{"text": "I ran after the stop."})); err != nil {
		t.Fatal(err)
	}
	if got := turn.Stop(t.Context()); got.Unread != 1 {
		t.Errorf("%d messages were not read, want 1", got.Unread)
	}
	if err := turn.Say(t.Context(), "later", "hello"); !errors.Is(err, ErrOver) {
		t.Errorf("got %v, want ErrOver", err)
	}
	all(t, turn)
	rec := all(t, r.Start(t.Context(), prompt(s, script(step{"text": "next"})), allow))
	if got := answer(t, rec); got != "next" {
		t.Errorf("got %q, want only the new answer", got)
	}
}

func TestStraysOfATurnThatEndedByItselfAreEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	word := fmt.Sprintf("7100.%04d", os.Getpid()%10000)
	turn := r.Start(t.Context(), prompt(newSession(), script(step{"bash": "(setsid sleep " + word + " &)"}, step{"text": "done"})), allow)
	rec := all(t, turn)
	answer(t, rec)
	if got, want := first[Notice](t, rec).Text, "A process that the agent had left running was ended."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := running(t, word); n != 0 {
		t.Errorf("%d strays run", n)
	}
}

func TestATurnThatTakesTooLongIsStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.TurnTimeout = 2 * time.Second })
	rec := all(t, r.Start(t.Context(), prompt(newSession(), script(step{"bash": "sleep 616"}, step{"text": "x"})), allow))
	want := "The turn took longer than 2s (agent.turn_timeout) and was stopped."
	if e, ok := errors.AsType[*Ended](rec.err); !ok || e.UserMessage() != want {
		t.Errorf("got %v, want %q", rec.err, want)
	}
}
