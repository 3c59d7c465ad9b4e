package gate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate"
)

func init() { runtime.LockOSThread() } // so that beQEMU runs on the main thread of its process

// TestMain makes the test binary a QEMU when it is called by such a name: a real process with a real pid file, which
// ends on TERM as QEMU does, or ignores it as a QEMU whose main loop hangs.
func TestMain(m *testing.M) {
	if strings.HasPrefix(filepath.Base(os.Args[0]), "qemu-system-") {
		beQEMU(os.Args)
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait most of the time
		panic(err)
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

func beQEMU(argv []string) {
	if slices.Contains(argv, "-wedged") {
		signal.Ignore(syscall.SIGTERM)
	}
	go beMonitor(argv)
	path := argv[slices.Index(argv, "-pidfile")+1]
	if err := os.WriteFile(path, []byte(fmt.Sprintln(os.Getpid())), 0o600); err != nil {
		panic(err)
	}
	if i := slices.Index(argv, "-writer"); i > 0 {
		go write(argv[i+1])
	}
	if slices.Contains(argv, "-unkillable") {
		leader := make(chan os.Signal, 1)
		signal.Notify(leader, syscall.SIGUSR1)
		<-leader
		// Ends the main thread alone, as a kill does while others are in D: the process is a zombie to qm and has live threads.
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
	}
	<-time.After(5 * time.Minute) // the tests end it long before
}

// write is a disk in use: it hangs where the file system does.
func write(path string) {
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if err := os.WriteFile(path, []byte("block"), 0o600); err != nil {
			panic(err)
		}
	}
}

// qmScript stands in for qm, with its words, its exit codes and its blind spots. Files in the host's folder make it
// fail, hang or say something else.
const qmScript = `#!/bin/sh
D='@DIR@'
pid=$D/run/qemu-server/$2.pid
echo "$*" >>$D/calls
tr '\0' '\n' </proc/$$/environ >$D/env-$1
[ -e $D/hang-$1 ] && exec sleep 300
[ -e $D/fail-$1 ] && { cat $D/fail-$1 >&2; exit 255; }
[ -e $D/once-$1 ] && { cat $D/once-$1 >&2; rm $D/once-$1; exit 255; }
[ -e $D/say-$1 ] && { cat $D/say-$1; exit 0; }
while [ -e $D/hold-$1 ]; do sleep 0.02; done
[ -e $D/slow-$1 ] && sleep $(cat $D/slow-$1)
running() { [ -e $pid ] && tr '\0' '\n' 2>/dev/null </proc/$(cat $pid)/cmdline | grep -qxF $pid; }
case $1 in
status)
	if running; then printf 'pid: %s\nqmpstatus: running\nrunning-qemu: 9.2.0\nstatus: running\n' $(cat $pid); else echo 'status: stopped'; fi;;
config) cat $D/config;;
pending) sed 's/^/cur /' $D/config;;
stop)
	running || exit 0
	p=$(cat $pid)
	[ -e $D/stop-lies ] || kill -TERM $p
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		running || break
		[ -e $D/stop-lies ] && break
		sleep 0.05
	done
	rm -f $pid;;
start)
	running && { echo "VM $2 already running" >&2; exit 255; }
	rm -f $pid
	setsid $D/qemu-system-x86_64 -id $2 -pidfile $pid $(cat $D/extra) </dev/null >/dev/null 2>&1 &
	while ! [ -s $pid ]; do sleep 0.02; done;;
reset) running || { echo "VM $2 not running" >&2; exit 255; };;
*) echo "unknown command $1" >&2; exit 255;;
esac
`

// host is a Proxmox host in a folder.
type host struct {
	t   *testing.T
	dir string
}

const vmid = 102

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"run/qemu-server", "state"} {
		if err := os.MkdirAll(filepath.Join(h.dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(self, filepath.Join(h.dir, "qemu-system-x86_64")); err != nil {
		t.Fatal(err)
	}
	h.file("config", "name: devvm\nmemory: 4096\ncipassword: hunter2\nargs: -secret 1\n")
	h.file("extra", "")
	h.file("calls", "")
	h.script("qm", strings.ReplaceAll(qmScript, "@DIR@", h.dir))
	t.Cleanup(h.end)
	return h
}

// withVM has the VM run already.
func (h *host) withVM(extra ...string) *host {
	h.t.Helper()
	h.file("extra", strings.Join(extra, " "))
	if out, err := exec.CommandContext(h.t.Context(), h.path("qm"), "start", strconv.Itoa(vmid)).CombinedOutput(); err != nil {
		h.t.Fatalf("qm start: %v: %s", err, out)
	}
	h.file("extra", "")
	h.file("calls", "")
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) file(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// script writes a program while nothing forks: a file that a child of another test, forked in the middle, still holds
// open for writing cannot be executed (ETXTBSY, go.dev/issue/22315).
func (h *host) script(name, text string) {
	h.t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(h.path(name), []byte(text), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) remove(name string) {
	h.t.Helper()
	if err := os.Remove(h.path(name)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) read(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(h.path(name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

func (h *host) json(name string, into any) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.read(name)), into); err != nil {
		h.t.Fatal(err)
	}
}

// calls are the verbs that qm was called with.
func (h *host) calls() []string {
	h.t.Helper()
	var verbs []string
	for line := range strings.Lines(h.read("calls")) {
		verbs = append(verbs, strings.Fields(line)[0])
	}
	return verbs
}

// changed are those calls of qm that alter a VM.
func (h *host) changed() []string {
	return slices.DeleteFunc(h.calls(), func(v string) bool { return v == "status" || v == "config" || v == "pending" })
}

// pid is the QEMU of the pid file, 0 if none.
func (h *host) pid() int {
	text, err := os.ReadFile(h.path("run/qemu-server/102.pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// qemus are all QEMUs of this host.
func (h *host) qemus() []int { return h.processes(h.path("qemu-system-x86_64")) }

// processes are those whose command line begins so.
func (h *host) processes(commandLine string) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.HasPrefix(line, []byte(commandLine)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// end ends what still runs in the host's folder: QEMU, and a qm that a killed gate left behind.
func (h *host) end() {
	for _, pid := range append(h.processes("/bin/sh\x00"+h.path("qm")), h.qemus()...) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (h *host) flags(more ...string) []string {
	return append([]string{
		"pve-gate", "--vmid", strconv.Itoa(vmid), "--key", "test", "--format", "jsonl",
		"--qm", h.path("qm"), "--run-dir", h.path("run"), "--state-dir", h.path("state"),
	}, more...)
}

// ran is what one run of the gate came to.
type ran struct {
	t      *testing.T
	exit   pve.Exit
	out    string
	errOut string
	steps  []pve.Step
	result pve.Result
}

// run runs the gate in this process.
func (h *host) run(verb string, more ...string) ran {
	h.t.Helper()
	var out, errOut bytes.Buffer
	code := gate.Main(h.flags(more...), []string{"SSH_ORIGINAL_COMMAND=" + verb, "SSH_CONNECTION=127.0.0.1 1 127.0.0.1 2"}, &out, &errOut)
	return parse(h.t, pve.Exit(code), out.String(), errOut.String())
}

func parse(t *testing.T, exit pve.Exit, out, errOut string) ran {
	t.Helper()
	r := ran{t: t, exit: exit, out: out, errOut: errOut}
	for line := range strings.Lines(out) {
		var one struct {
			pve.Step
			Result *pve.Result
		}
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			continue // the text format
		}
		if one.Result != nil {
			r.result = *one.Result
		} else {
			r.steps = append(r.steps, one.Step)
		}
	}
	return r
}

var files = regexp.MustCompile(`"data":"[^"]*"`)

// want checks the exit code and the first line of the result, and that it fits a lock screen.
func (r ran) want(exit pve.Exit, first string) ran {
	r.t.Helper()
	line, _, _ := strings.Cut(r.result.Text, "\n")
	if r.exit != exit || r.result.Exit != exit || line != first {
		r.t.Errorf("got exit %d (result %d) %q, want %d %q; all of it:\n%s%s", r.exit, r.result.Exit, line, exit, first, files.ReplaceAllString(r.out, "…"), r.errOut)
	}
	if len([]rune(line)) > 120 {
		r.t.Errorf("the first line has %d characters: %q", len([]rune(line)), line)
	}
	return r
}

// trail is the steps that ended, as "name state", after the op id that each run begins with.
func (r ran) trail() string {
	var words []string
	for _, s := range r.steps {
		if s.State != pve.StepStart && s.Name == "" && s.Step != "op" && s.Step != "journal" { // the disk of a busy machine is slow
			words = append(words, s.Step+" "+string(s.State))
		}
	}
	return strings.Join(words, ", ")
}

// text is what was said at the end of a step.
func (r ran) text(step string) (text string) {
	for _, s := range r.steps {
		if s.Step == step && s.State != pve.StepStart {
			text = s.Text
		}
	}
	return text
}

func (r ran) wantTrail(want string) {
	r.t.Helper()
	if got := r.trail(); got != want {
		r.t.Errorf("got the steps\n  %s\nwant\n  %s", got, want)
	}
}

// await waits until seen is true.
func await(t *testing.T, what string, seen func() bool) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !seen() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never came:", what)
		}
	}
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// binary builds the real pve-gate, once.
func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		// Not t.TempDir, which would end with the first of the tests that share it.
		if built.dir, built.err = os.MkdirTemp("", "pve-gate-test"); built.err != nil { //nolint:usetesting // see above
			return
		}
		cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", built.dir, "bgbot/cmd/pve-gate")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal("the gate does not build:", built.err)
	}
	return filepath.Join(built.dir, "pve-gate")
}
