package agentrun

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// attacks is what a model that has been talked over could try, each a test of the shell that should fail.
func attacks(bot int, key, terminal string, at place, other place, transcripts string) map[string]string {
	proc := fmt.Sprint("/proc/", bot)
	return map[string]string{
		"a key of bgbot's user":        "cat " + key,
		"the folder of the key":        "ls " + filepath.Dir(key),
		"the key through bgbot's root": "cat " + proc + "/root" + key,
		"bgbot's folder":               "ls " + proc + "/cwd/",
		"bgbot's environment":          "cat " + proc + "/environ",
		"bgbot's memory":               "true < " + proc + "/mem",
		"bgbot's descriptors":          "readlink " + proc + "/fd/0",
		"the CLI's memory":             "true < /proc/$CLAUDE_PID/mem",
		"the CLI's environment":        "cat /proc/$CLAUDE_PID/environ",
		"an end of bgbot":              fmt.Sprint("kill -0 ", bot),
		"another session's work":       "cat " + other.work() + "/note",
		"the transcripts":              "ls " + transcripts,
		"a snippet of each shell":      "echo x > " + transcripts + "/shell-snapshots/x.sh",
		"a start file of the shell":    "echo x > " + at.home() + "/.bashrc",
		"a shell of its own":           "ln -sf /bin/bash " + at.shell(),
		"other rules":                  "echo {} > " + at.rules(),
		"another ssh":                  "echo x > " + at.root + "/ssh/bin/ssh",
		"the passwords":                "cat /etc/shadow",
		"the disk of the machine":      "ls /dev/",
		"the temporary files":          "ls /tmp",
		"what is typed elsewhere":      "true < " + terminal,
		"somebody's screen":            "true > " + terminal,
		"the setting of a terminal":    "stty -F " + terminal,
		"a terminal of its own":        "true < /dev/ptmx",
		"a device of its own":          "mknod " + at.tmp() + "/disk b 8 0",
	}
}

// terminal is one on which somebody else works, as an operator in `bgbot console` or in a shell does.
func terminal(t *testing.T) string {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprint("/dev/pts/", n)
	work, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = work.Close() })
	return path
}

func asScript(attacks map[string]string) string {
	var b strings.Builder
	for what, attack := range attacks {
		fmt.Fprintf(&b, "if { %s; } >/dev/null 2>&1; then echo \"REACHED %s.\"; fi\n", attack, what)
	}
	return b.String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// caged skips a test where the kernel has no cage to test.
func caged(t *testing.T) {
	t.Helper()
	if err := cageable(landlockABI()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("SKIPPED, the cage is not tested: ", err)
	}
}

func TestACommandReachesNothingThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	caged(t)
	r := newRig(t, nil)
	key := filepath.Join(t.TempDir(), "gate", "key")
	write(t, key, "PRIVATE")
	mine, s := newSession(), newSession()
	at, other := r.cfg.place(s), r.cfg.place(mine)
	for _, path := range []string{filepath.Join(other.work(), "note"), filepath.Join(at.root, "ssh", "bin", "ssh"), filepath.Join(r.cfg.transcripts(), "shell-snapshots", "y")} {
		write(t, path, "#!/bin/sh\n")
	}
	try := asScript(attacks(os.Getpid(), key, terminal(t), at, other, r.cfg.transcripts()))
	rec := all(t, r.Start(t.Context(), prompt(s, script(step{"bash": try + "echo finished"}, step{"text": "x"})), allow))
	answer(t, rec)
	if got := first[ToolResult](t, rec).Output; got != "finished" {
		t.Errorf("the agent's command:\n%s", got)
	}
	if os.Getuid() != 0 {
		return // what another process of our user reaches is not the same
	}
	// Without the cage each of them would have worked; otherwise the test would prove nothing.
	cmd := exec.Command("bash", "-c", try)
	cmd.Env = []string{"PATH=/usr/bin:/bin", fmt.Sprint("CLAUDE_PID=", os.Getpid())}
	out, err := cmd.CombinedOutput()
	if n := strings.Count(string(out), "REACHED"); err != nil || n != strings.Count(try, "REACHED") {
		t.Errorf("without the cage only %d attacks worked: %v\n%s", n, err, out)
	}
}

// What starts in the background and outlives its shell is in the cage too, and so is what gets a clean environment.
func TestTheCageHoldsForAllThatACommandStarts(t *testing.T) {
	t.Parallel()
	caged(t)
	r := newRig(t, nil)
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, "PRIVATE")
	const tries = "%[1]s; setsid %[1]s; env -i %[1]s; (exec $SHELL -c '%[1]s'); $CLAUDE_CODE_SHELL -l -c '%[1]s'; unshare -Ur %[1]s"
	rec := all(t, r.Start(t.Context(), prompt(newSession(), script(
		step{"bash": "exec 2>&1; " + fmt.Sprintf(tries, "cat "+key) + "; echo finished"}, step{"text": "x"})), allow))
	answer(t, rec)
	got := first[ToolResult](t, rec).Output
	contains(t, got, "finished")
	if strings.Contains(got, "PRIVATE") || strings.Count(got, "Permission denied") < 5 {
		t.Errorf("got\n%s", got)
	}
}

func TestACommandCanWorkInItsCage(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	tool := filepath.Join(base, "tools", "look")
	write(t, tool, "#!/bin/sh\necho looked\n")
	if err := os.Chmod(tool, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(base, "runbooks", "disk.md"), "RUNBOOK")
	r := newRig(t, func(c *Config) {
		c.Workspace, c.Readable = filepath.Join(base, "runbooks"), []string{filepath.Dir(tool)}
	})
	rec := all(t, r.Start(t.Context(), prompt(newSession(), script(step{"bash": strings.Join([]string{
		"set -e", "echo one > file; mv file $TMPDIR/moved; cat $TMPDIR/moved", "cat <(echo two) <<EOF", "three", "EOF", "mkfifo pipe",
		"printf '#!/bin/sh\\necho four' > run; chmod +x run; ./run", tool, "cat " + base + "/runbooks/disk.md",
		"getent hosts localhost >/dev/null", "id -un >/dev/null", "ps -e | grep -q . ", "date +%Z >/dev/null", "sleep 600 & kill %1", "test -z \"$(ls -A ~)\"", "echo end",
	}, "\n")}, step{"text": "x"})), allow))
	answer(t, rec)
	if got, want := first[ToolResult](t, rec).Output, "one\ntwo\nfour\nlooked\nRUNBOOKend"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// On a kernel without the cage a command could have put it there.
func TestTheShellReadsNothingThatWasPutIntoItsHome(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	at := r.cfg.place(s)
	mark := filepath.Join(at.tmp(), "mark")
	for _, name := range []string{".bashrc", ".bash_profile", ".profile", ".zshenv"} {
		write(t, filepath.Join(at.home(), name), "echo "+name+" >> "+mark+"\n")
	}
	answer(t, all(t, r.Start(t.Context(), prompt(s, script(step{"bash": "true"}, step{"text": "x"})), allow)))
	if got, err := os.ReadFile(mark); err == nil {
		t.Errorf("it ran %s", got)
	}
}

func TestASessionOwnsWhatItStartedAndNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	one, two := newSession(), newSession()
	word := fmt.Sprintf("%d.%04d", 7300, os.Getpid()%10000)
	answer(t, all(t, r.Start(t.Context(), prompt(two, script(step{"text": "x"})), allow)))
	turn := r.Start(t.Context(), prompt(one, script(step{"bash": "env -i setsid sleep " + word + " & sleep 614"}, step{"text": "x"})), allow)
	until(t, turn, is[Tool])
	eventually(t, "it runs", func() bool { return running(t, word) == 1 })
	pid := pidsOf(t, word)[0]
	if !r.Owns(one, pid) {
		t.Error("its own process is not known")
	}
	if r.Owns(two, pid) || r.Owns(one, os.Getpid()) || r.Owns(one, 1) || r.Owns(one, 0) || r.Owns(newSession(), pid) {
		t.Error("a process counts as another session's")
	}
	turn.Stop(t.Context())
	if r.Owns(one, pid) {
		t.Error("an ended process counts")
	}
}

func TestWhatIsNotCagedIsSaid(t *testing.T) {
	t.Parallel()
	sentence(t, cageable(0), "This kernel has no Landlock (5.13 or later, with landlock among lsm=): the agent's commands can read what "+
		"bgbot's user can, the keys included. Run bgbot on a kernel that has it.")
	sentence(t, cageable(2), "This kernel's Landlock is of before 6.2: the agent's commands can read nothing that is not theirs, but they can "+
		"empty files that bgbot's user may write. Run bgbot on a newer kernel.")
	sentence(t, cageable(5), "This kernel's Landlock is of before 6.12: the agent's commands can read nothing that is not theirs, but they can "+
		"end bgbot and other processes of its user. Run bgbot on a newer kernel.")
	if err := cageable(6); err != nil {
		t.Error(err)
	}
	caged(t)
	r := newRig(t, func(c *Config) { c.Private = []string{"/etc/bgbot/key", "/usr/local/etc/bgbot/key"} })
	sentence(t, r.Caged(), "/usr/local/etc/bgbot/key lies in /usr, where the agent's commands may read: move it, for example to /etc/bgbot.")
}

// beWithout is a bot where something is missing that it needs to hold a command.
func beWithout(what string) int {
	runtime.LockOSThread() // a filter is a thread's
	var err error
	switch what {
	case "filters":
		err = refuseFilters()
	case "queues":
		err = brand()
	}
	if err == nil {
		fmt.Println((&Runner{}).Caged())
		err = letOthersBe() // the command runs all the same
	}
	fmt.Println(err)
	return 0
}

// refuseFilters makes the kernel answer as one without filters does.
func refuseFilters() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return install([]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.SYS_PRCTL},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataArg0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.PR_SET_SECCOMP},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	})
}

func TestWhatIsMissingToHoldACommandIsSaidAndTheCommandRuns(t *testing.T) { // not in parallel: a child without queues is a stray to the others
	caged(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]string{
		"nothing": "<nil>",
		"filters": "This kernel has no seccomp filters (CONFIG_SECCOMP_FILTER): the agent's commands can set limits and priorities of " +
			"bgbot's processes, and end them with a limit. Run bgbot on a kernel that has them.",
		"queues": "bgbot may have no POSIX message queues, and so cannot tell by that limit whose a process is: one that hides from a " +
			"stop by ending its CLI runs on. Start bgbot with a higher hard limit (LimitMSGQUEUE= of systemd, ulimit -Hq).",
	} {
		bot := exec.CommandContext(t.Context(), self)
		bot.Env = []string{"AGENTRUN_TEST_WITHOUT=" + what}
		if out, err := bot.CombinedOutput(); err != nil || string(out) != want+"\n<nil>\n" {
			t.Errorf("without %s: %v, %s", what, err, out)
		}
	}
	sentence(t, filterable("riscv64"), "bgbot has no seccomp filter for riscv64: the agent's commands can set limits and priorities of "+
		"bgbot's processes, and end them with a limit. Run bgbot on amd64 or arm64.")
}

func TestTheShellIsNoLoginShell(t *testing.T) {
	t.Parallel()
	for give, want := range map[string]string{
		"-c -l x": "-c x", "-l -c x": "-c x", "-c x -l": "-c x -l", "--login": "", "-c": "-c",
	} {
		if got := strings.Join(noLogin(strings.Fields(give)), " "); got != want {
			t.Errorf("%q: got %q, want %q", give, got, want)
		}
	}
}

// What the agent's commands eat of the machine must not cost bgbot its life, nor last from one start to the next.
func TestACommandGoesBeforeBgbotAndLeavesNoTemporaryFile(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	left := filepath.Join(r.cfg.place(s).tmp(), "of-last-time", "big")
	write(t, left, "GIGABYTES")
	rec := all(t, r.Start(t.Context(), prompt(s, script(step{"bash": "cat /proc/self/oom_score_adj; ls $TMPDIR/of-last-time 2>&1 | wc -l; ls $TMPDIR/of-last-time/big 2>/dev/null; test -w $TMPDIR && echo writable"}, step{"text": "x"})), allow))
	answer(t, rec)
	if got, want := first[ToolResult](t, rec).Output, "500\n1\nwritable"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Landlock keeps a command from ending bgbot, and has no word on a limit of CPU time that makes the kernel do it.
func TestACommandLeavesTheLimitsOfOthersAlone(t *testing.T) {
	t.Parallel()
	caged(t)
	r := newRig(t, nil)
	victim := exec.CommandContext(t.Context(), "sleep", "600")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = victim.Wait() }()
	defer func() { _ = victim.Process.Kill() }()
	pid := victim.Process.Pid
	commands := fmt.Sprintf("prlimit --pid %[1]d --cpu=1:1; renice -n 3 -p %[1]d; taskset -p -c 0 %[1]d; chrt --batch -p 0 %[1]d; ionice -c 3 -p %[1]d; ", pid) +
		"ulimit -c 0; nice -n 5 prlimit --core=0:0 echo it may do that to itself"
	rec := all(t, r.Start(t.Context(), prompt(newSession(), script(step{"bash": commands}, step{"text": "x"})), allow))
	answer(t, rec)
	out := first[ToolResult](t, rec).Output
	contains(t, out, "it may do that to itself")
	var cpu unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_CPU, nil, &cpu); err != nil || cpu.Max != unix.RLIM_INFINITY {
		t.Errorf("another process of the user has the limit %+v, %v; the command said\n%s", cpu, err, out)
	}
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, pid); err != nil || nice != 20 { // 20 - nice, as the kernel has it
		t.Errorf("another process of the user has the priority %d, %v", nice, err)
	}
}
