package gate

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/host"
)

// Whatever is slow on the host, a qm start is given all of its time: one that is ended half-way leaves nobody knows what.
// What the guest does after it is waited for as long as there is time, and looked at once in any case.
func TestNoStartIsEndedHalfWay(t *testing.T) {
	t.Parallel()
	const (
		reaped  = time.Second // a program that was killed is waited for so long
		command = reaped      // beside its own limit
		admit   = diskLimit   // the host's log
		look    = host.ProcLimit
		check   = configLimit + command
		ladder  = qmStopLimit + command + settleLimit + lookLimit + quitLimit + termLimit + killLimit
		proof   = look + doubtLimit + look + scopeLimit + look + scopeLimit
		boot    = pidFileLimit + cleanupLimit + look + qmStartLimit + command
		fresh   = newLimit + lookLimit
		layers  = 4 * lookLimit // the last look at each
	)
	before := admit + captureLimit + look + check
	for verb, sum := range map[pve.Verb]time.Duration{
		pve.Stop:  before + ladder + proof,
		pve.Reset: before + qmResetLimit + command + longestWait + layers + captureLimit,
		pve.Start: before + settleLimit + proof + boot + fresh + 20*time.Second + layers + captureLimit,
		pve.Cycle: before + ladder + proof + boot + fresh + layers + captureLimit,
	} {
		if sum += tail; sum > verb.Budget() {
			t.Errorf("%s may take %s, and its budget is %s", verb, sum, verb.Budget())
		}
	}
	if impostors, notice := look, diskLimit; wordsLimit+impostors+notice+tail/2 > tail {
		t.Error("the last words do not fit into their time")
	}
	if sum := admit + look + statusLimit + command + tail; sum > pve.Status.Budget() {
		t.Errorf("status may take %s", sum)
	}
	if sum := admit + captureLimit + tail; sum > pve.Forensics.Budget() {
		t.Errorf("forensics may take %s", sum)
	}
}

// A gate that has no time left knows nothing, and must not take that for a qm that hangs: it would stop a VM in the middle
// of its backup.
func TestAChangeWithoutTimeIsNotBegun(t *testing.T) {
	t.Parallel()
	g := bare(t, pve.Stop)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	end, ok := g.check(over, &qemu{}).(*ending) //nolint:errorlint // as it is
	if !ok || end.exit != pve.Broken || firstLine(end.text) != "The gate had no time left to begin: the host is too slow; nothing was changed." {
		t.Errorf("got %+v", end)
	}
	if g.qmHangs {
		t.Error("qm is said to hang, and was not asked")
	}
}

// bare is a gate of VM 102 on an empty host.
func bare(t *testing.T, verb pve.Verb) *gate {
	t.Helper()
	dir := t.TempDir()
	return &gate{
		settings: settings{vmid: 102, qmPath: filepath.Join(dir, "qm"), runDir: dir, stateDir: dir},
		verb:     verb, at: time.Now(), tell: newTeller("jsonl", "c81f", os.Stderr, os.Stderr), log: &journal{path: filepath.Join(dir, "journal")},
	}
}

// A QEMU of which nothing can be read may be ours, and nothing is started beside it. Of another program that is no matter.
func TestAProcessThatCannotBeReadIsInDoubt(t *testing.T) {
	t.Parallel()
	g := bare(t, pve.Start)
	for name, want := range map[string]bool{"kvm": true, "qemu-system-x86": true, "sleep": false} {
		path := filepath.Join(t.TempDir(), name)
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
		cmd := exec.CommandContext(t.Context(), path, "300")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		q, doubt := g.among(nil, []host.CommandLine{{Pid: cmd.Process.Pid, Name: name}})
		if q != nil || (len(doubt) == 1) != want || (want && !strings.HasSuffix(doubt[0], " ("+name+"), whose command line cannot be read")) {
			t.Errorf("%s: %v, %q", name, q, doubt)
		}
		if q, doubt := g.among([]host.CommandLine{{Pid: cmd.Process.Pid, Words: []string{path, "300"}}}, nil); q != nil || doubt != nil {
			t.Errorf("%s, once it is read: %v, %q", name, q, doubt)
		}
	}
}

func TestTheVMOfACgroup(t *testing.T) {
	t.Parallel()
	for cgroup, want := range map[string]string{
		"/qemu.slice/102.scope": "102", "/qemu.slice/1020.scope": "1020", "/a/qemu.slice/102.scope": "102", "/qemu.slice": "", "": "",
		"/user.slice/user-0.slice/session-102.scope": "", "/qemu.slice/102.scope (deleted)": "", "/qemu.slice/102.scope/x": "",
	} {
		if got := vmOf(cgroup); got != want {
			t.Errorf("%q is of VM %q, want %q", cgroup, got, want)
		}
	}
}

// What the agent calls a host key is the guest's word, and goes to the bot's screen.
func TestAHostKeyIsOneOrNothing(t *testing.T) {
	t.Parallel()
	const good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdeXNhgo1Yn6GfrXb1qPjVl5fMXGBxZ0XKSHfLXQW0m"
	for text, want := range map[string]string{
		good: good, good + " root@devvm\n": good,
		"ssh-evil AAAAC3NzaC1lZDI1NTE5AAAAIGdeXNhgo1Yn6GfrXb1qPjVl5fMXGBxZ0XKSHfLXQW0m":     "",
		"ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGdeXNhgo1Yn6GfrXb1qPjVl5fMXGBxZ0XKSHfLXQW0m":      "", // the blob is of another type
		"ssh-\x1b[31m AAAAC3NzaC1lZDI1NTE5AAAAIGdeXNhgo1Yn6GfrXb1qPjVl5fMXGBxZ0XKSHfLXQW0m": "",
		"ssh-ed25519 AAAA": "", "ssh-ed25519": "", "": "", "ssh-ed25519 !!!!": "", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5": "",
	} {
		if got, ok := hostKey(text); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %t", text, got, ok)
		}
	}
	if !slices.Contains(keyTypes, "ecdsa-sha2-nistp256") {
		t.Error("a key of the usual type is refused")
	}
}

// The guest may make our own rules break; a change goes on all the same.
func TestEvidenceThatBreaksOurRulesVetoesNothing(t *testing.T) {
	t.Parallel()
	w := wordsOf(nil)
	if !strings.HasPrefix(w.verdict.Text, "No verdict: the evidence could not be read (the rules broke: ") || len(w.verdict.Text) > 120 || len(w.report) == 0 || w.verdict.Advice != "" {
		t.Errorf("got %+v, %q", w.verdict, w.report)
	}
}
