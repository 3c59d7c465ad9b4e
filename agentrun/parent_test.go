package agentrun

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// beParent is a bot that runs one turn and never ends by itself: the test kills it.
func beParent(dir string) int {
	r, err := New(Config{
		Command: os.Getenv("AGENTRUN_TEST_CLI"), Dir: dir, BaseURL: os.Getenv("AGENTRUN_TEST_API"), Model: "sonnet",
		Agent:  Agent{Name: "breakglass", Description: "d", Prompt: "p"},
		APIKey: func() (string, error) { return testKey, nil },
		Live:   1, TurnTimeout: time.Minute, IdleTimeout: time.Minute, Steps: 60, BudgetUSD: 5,
	})
	if err == nil {
		turn := r.Start(context.Background(), Prompt{
			Session: os.Getenv("AGENTRUN_TEST_SESSION"), ID: "first", Text: os.Getenv("AGENTRUN_TEST_PROMPT"),
		}, allow)
		for _, end := range turn.Events() {
			err = end
		}
	}
	fmt.Fprintln(os.Stderr, "the parent ended by itself:", err)
	return 1
}

func TestABotThatIsKilledTakesTheCLIWithItAndTheNextOneSweeps(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	s := newSession()
	word := func(i int) string { return fmt.Sprintf("%d.%04d", 7200+i, os.Getpid()%10000) }
	command := fmt.Sprintf("setsid sleep %s & (env -i setsid sleep %s &); sleep %s", word(0), word(1), word(2))
	bot := exec.Command(self)
	bot.Env = []string{
		"AGENTRUN_TEST_PARENT=" + cfg.Dir, "AGENTRUN_TEST_CLI=" + cfg.Command, "AGENTRUN_TEST_API=" + cfg.BaseURL,
		"AGENTRUN_TEST_SESSION=" + s, "AGENTRUN_TEST_PROMPT=" + script(step{"bash": command}, step{"text": "x"}),
	}
	bot.Stderr = t.Output()
	if err := bot.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		eventually(t, "the bot's command runs", func() bool { return running(t, word(i)) == 1 })
	}
	if err := bot.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = bot.Wait()
	eventually(t, "the CLI ended with the bot", func() bool { return running(t, s) == 0 })
	eventually(t, "its command ended with it", func() bool { return running(t, word(2)) == 0 })

	r := open(t, cfg)
	left := running(t, word(0)) + running(t, word(1))
	ended, err := r.Sweep(t.Context())
	if err != nil || ended < left {
		t.Errorf("the sweep ended %d of %d, %v", ended, left, err)
	}
	if n := running(t, word(0)) + running(t, word(1)); n != 0 {
		t.Errorf("%d processes of the former bot run", n)
	}
	p := prompt(s, "[alice]: what was cut?")
	p.Resume = true
	rec := all(t, r.Start(t.Context(), p, allow))
	answer(t, rec)
	if !first[Started](t, rec).Resumed {
		t.Error("the conversation of the killed bot was lost")
	}
	contains(t, lastAsked(t, "what was cut?").All, "setsid sleep")
}

// beSupervisor runs a test as a child of a subreaper: what systemd --user, tini -s and many CI runners are.
func beSupervisor(test string) int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	self, err := os.Executable()
	if err == nil {
		cmd := exec.Command(self, "-test.run", "^"+test+"$")
		cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
			return strings.HasPrefix(kv, "AGENTRUN_TEST_SUPERVISED=")
		})
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// The orphans of a killed bot go to the nearest subreaper, not always to init: a sweep that looked only at init's
// children found nothing of `env -i setsid`.
func TestASweepUnderASupervisor(t *testing.T) {
	t.Parallel()
	cli(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "AGENTRUN_TEST_SUPERVISED=TestABotThatIsKilledTakesTheCLIWithItAndTheNextOneSweeps")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestASweepSparesStrangers(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	dir := filepath.Join(cfg.Dir, "sessions", "x")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "624")
	other.Env = []string{markKey + "=somebody-else"}
	// A person who looks around in our folder has a shell above what he starts.
	person := exec.Command("sh", "-c", "(cd "+dir+" && sleep 625); true")
	for _, cmd := range []*exec.Cmd{other, person} {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own session
			_ = cmd.Wait()
		})
	}
	eventually(t, "both run", func() bool { return running(t, "624") == 1 && running(t, "625") == 1 })
	if ended, err := open(t, cfg).Sweep(t.Context()); err != nil || ended != 0 {
		t.Errorf("the sweep ended %d, %v", ended, err)
	}
	if running(t, "624") != 1 || running(t, "625") != 1 {
		t.Error("the sweep ended a process that is not ours")
	}
}
