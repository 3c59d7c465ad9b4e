package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/internal/anthropictest"
	"bgbot/internal/lab"
)

// process is bgbot as people start it: with a configuration file, in a terminal.
type process struct {
	*person
	cmd *exec.Cmd
}

// configured writes a configuration file for a lab into dir.
func configured(t testing.TB, dir string, l *lab.Lab, cli, model string) (path string) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	gateKey, vmKey := l.KeyFiles()
	pin := func(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }
	path = filepath.Join(dir, "bgbot.yaml")
	must(t, os.WriteFile(filepath.Join(dir, "key"), []byte("a-key-nobody-may-see"), 0o600))
	must(t, os.WriteFile(path, fmt.Appendf(nil, `
vm: {name: %s, vmid: %d}
gate: {address: "%s", user: %s, key_file: %s, host_key: "%s"}
ssh: {address: "%s", user: %s, key_file: %s, host_key: "%s"}
auth: {console: [%s]}
agent: {command: %s, power: confirm, api_key_file: %s, env: {ANTHROPIC_BASE_URL: "%s"}}
store: {url: "sqlite://%s"}
`, l.VMName(), l.VMID(),
		l.Gate().Address, l.Gate().User, gateKey, pin(l.Gate().HostKey),
		l.VM().Address, l.VM().User, vmKey, pin(l.VM().HostKey),
		me.Username, cli, filepath.Join(dir, "key"), model, filepath.Join(dir, "state", "bgbot.db")), 0o600))
	return path
}

// starts runs bgbot with these arguments as a process of its own.
func starts(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{person: newPerson("operator")}
	p.cmd = exec.CommandContext(t.Context(), os.Args[0], args...)
	p.cmd.Env = append(os.Environ(), asBgbot+"=1", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr = p.person, p.person
	keys, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.keys = keys
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("bgbot %s showed:\n%s", strings.Join(args, " "), p.all())
		}
	})
	return p
}

func (p *process) expect(t *testing.T, pattern string) []string {
	t.Helper()
	groups, err := p.sees(pattern, patience)
	if err != nil {
		t.Fatal(err)
	}
	return groups
}

func (p *process) types(t *testing.T, line string) {
	t.Helper()
	if err := p.says(line); err != nil {
		t.Fatal(err)
	}
}

// TestKilledInMidTurn: bgbot is killed with -9 while the agent's command runs and a confirmation is open. After a restart
// the thread says what was cut, nothing of the turn is left, the next message goes on with the same session, and the
// confirmation still works, once.
func TestKilledInMidTurn(t *testing.T) {
	t.Parallel()
	cli := cliForTest(t)
	l, err := lab.Start(t.Context(), lab.Options{Scenario: "io-stall", Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, l.Close()) })
	mark := fmt.Sprintf("%d", 600+os.Getpid()%100000)
	s := &script{}
	model, err := anthropictest.Start(s.answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = model.Close() })
	must(t, s.add("please look", anthropictest.Answer{Bash: []string{"sleep " + mark + ".5"}}))
	must(t, s.add("go on", anthropictest.Answer{Text: "I go on."}))
	cfg := configured(t, t.TempDir(), l, cli, model.URL())

	p := starts(t, "console", "--plain", "-c", cfg)
	p.types(t, "devvm is frozen, please look")
	p.expect(t, `⏳ Working .*sleep `+mark)
	waitFor(t, "the command to run", func() bool { return running("sleep "+mark) > 0 })
	p.types(t, "vm cycle")
	code := p.expect(t, `confirm ([2-9A-Z]{4})`)[1]
	must(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()

	again := starts(t, "console", "--plain", "-c", cfg)
	again.expect(t, `I was restarted at .* while .sleep `+mark+`.* ran; what came of it is unknown. I looked: no process of that turn is left`)
	if n := running("sleep " + mark); n != 0 {
		t.Errorf("%d commands of the cut turn still run", n)
	}
	before := s.calls()
	again.types(t, "go on")
	again.expect(t, `I go on\.`)
	requests := model.Requests()
	if last := requests[len(requests)-1]; s.calls() == before || !strings.Contains(last.All, "please look") {
		t.Errorf("the session was not resumed: the model was not told what had been said before")
	}
	again.types(t, "confirm "+code)
	again.expect(t, `✅ devvm is back after .*SSH answered`)
	again.types(t, "confirm "+code)
	again.expect(t, `There is no open confirmation like that here|answered already`)
	if err := l.Recovered(t.Context()); err != nil {
		t.Error(err)
	}
	must(t, again.keys.(io.Closer).Close())
	if err := again.cmd.Wait(); err != nil {
		t.Errorf("bgbot ended with %v", err)
	}
}

// running counts the processes whose command line begins with text.
func running(text string) int {
	return len(pidsOf(func(line string) bool { return strings.HasPrefix(line, text) }))
}

func pidsOf(fits func(commandLine string) bool) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || !fits(strings.ReplaceAll(string(b), "\x00", " ")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !soon(ok) {
		t.Fatalf("waited %s for %s", patience, what)
	}
}

// TestTheConsoleWorksWithoutItsDisk: the store's folder cannot be made, the chat's and the model's settings are broken.
// The console says so, and the verbs work.
func TestTheConsoleWorksWithoutItsDisk(t *testing.T) {
	t.Parallel()
	cli := cliForTest(t)
	l, err := lab.Start(t.Context(), lab.Options{Scenario: "disk-full", Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, l.Close()) })
	cfg := configured(t, t.TempDir(), l, cli, "http://127.0.0.1:1")
	broken, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	broken = append(broken, "slack: {channel: C0123456789}\n"...)
	broken = []byte(strings.Replace(string(broken), "sqlite:///", "sqlite:///proc/nowhere/", 1))
	must(t, os.WriteFile(cfg, broken, 0o600))

	p := starts(t, "console", "--plain", "-c", cfg)
	p.expect(t, `⚠️ slack\.app_token: missing`)
	p.expect(t, `⚠️ store\.url: .* This console keeps its own notes in a temporary folder`)
	p.types(t, "vm status")
	p.expect(t, `[🔵🟠] devvm: .*running`)
	must(t, p.keys.(io.Closer).Close())
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("bgbot ended with %v", err)
	}
}
