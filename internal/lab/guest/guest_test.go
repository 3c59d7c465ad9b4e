package guest

import (
	"bytes"
	"context"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func boot(t testing.TB, template string) *Machine {
	t.Helper()
	m, err := New(Config{
		Name: "devvm", Image: filepath.Join(t.TempDir(), "disk.json"), Template: template,
		Drive: NewDrive(), Reboot: func() {},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// run is one login with a time limit; what hangs gives 137.
func run(t testing.TB, m *Machine, line string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var b bytes.Buffer
	code = m.Run(ctx, line, strings.NewReader(""), &b, &b)
	return b.String(), code
}

func TestCommandLinesWorkAsInAShell(t *testing.T) {
	t.Parallel()
	m := boot(t, "full")
	for _, c := range []struct {
		line, want string
		code       int
	}{
		{"sudo df -h / | tail -1; free -h | head -2 | wc -l", "/dev/sda2", 0},
		{"timeout 20 uptime && echo fine", "fine", 0},
		{"timeout 0.05 sleep 5 || echo $?", "124\n", 0},
		{"timeout 1 bash -c 'while true; do :; done'; echo $?", "124\n", 0},
		{"hostname; whoami; sudo whoami; id -u", "devvm\nbreakglass\nroot\n", 0},
		{"for i in 1 2 3; do echo $i; done | tail -n1", "3\n", 0},
		{"echo $(hostname)-x | grep -c devvm-x", "1\n", 0},
		{"cat <<EOF | sort -r\na\nb\nEOF", "b\na\n", 0},
		{"bash -s <<'EOF'\nuname -n\nEOF", "devvm\n", 0},
		{"sudo bash -c 'whoami && echo $HOME'", "root\n/root\n", 0},
		{"cat /etc/hostname", "devvm\n", 0},
		{"htop", "bash: htop: command not found\n", 127},
		{"cat /etc/passwd", "cat: /etc/passwd: No such file or directory\n", 1},
		{"dmesg", "dmesg: read kernel buffer failed: Operation not permitted\n", 1},
		{"rm /var/log/t3-serve/trace.log", "Permission denied", 1},
		{"systemctl restart t3-serve", "Interactive authentication required", 1},
		{"echo x > /var/tmp/x", "no space left on device", 1},
		{"touch /var/tmp/x", "touch: cannot touch '/var/tmp/x': No space left on device\n", 1},
		{"echo hello > /tmp/x; cat /tmp/x; ls /tmp", "hello\nx\n", 0},
		{"systemctl is-active t3-serve", "failed\n", 3},
		{"journalctl -u t3-serve -n 2 --no-pager", "Failed to start T3 development server.", 0},
		{"command -v bash; type df; which nothing", "/usr/bin/bash\n/usr/bin/df\n", 1},
		{"find /var -type f -size +1G", traceLog + "\n", 0},
		{"echo 'unfinished", "bash: -c: bash:1:6: reached EOF without closing quote", 2},
		{"cd /var/log && pwd -P && ls -d t3-serve", "/var/log\nt3-serve\n", 0},
		{"ls /var/log/t3-serve/*.log | wc -l", "2\n", 0},
		{"[ -f /etc/fstab ] && [ ! -e /etc/shadow ] && [ -O /etc/fstab ]; echo $?", "1\n", 0},
	} {
		out, code := run(t, m, c.line)
		if !strings.Contains(out, c.want) || code != c.code {
			t.Errorf("%s: exit %d\n%s\nwant exit %d, %q", c.line, code, out, c.code, c.want)
		}
	}
}

// These are the commands that the agent's own instructions name, so they have to answer like the real ones.
func TestTheFirstLooksOfAnAgentTellTheStall(t *testing.T) {
	t.Parallel()
	m := boot(t, "healthy")
	m.cfg.Drive.Stall()
	for line, want := range map[string]string{
		"head -3 /proc/pressure/cpu /proc/pressure/memory /proc/pressure/io; cat /proc/loadavg": "==> /proc/pressure/io <==\nsome avg10=99.21",
		"ps -eo state,pid,wchan:32,cmd | grep '^D'":                                             "D 312     blk_mq_get_tag           [jbd2/sda3-8]\n",
		"sudo dmesg -T | tail -40":                                                              "INFO: task jbd2/sda3-8:312 blocked for more than 120 seconds.",
		"free -m; ps -eo pid,rss,comm --sort=-rss | head -3":                                    "PID     RSS     COMM\n",
		"df -h; df -i":                                    "/dev/sda3",
		"systemctl --failed --no-pager":                   "0 loaded units listed.",
		"ps aux | awk 'NR>1 {print $2, $8}' | head -1":    "1 S\n",
		"timeout 20 bash -c 'uptime; top -bn1 | head -3'": "96.8 wa",
	} {
		if out, _ := run(t, m, line); !strings.Contains(out, want) {
			t.Errorf("%s:\n%s\nwant %q", line, out, want)
		}
	}
	full := boot(t, "full")
	for line, want := range map[string]string{
		"sudo du -xsh /var/* 2>/dev/null | sort -h | tail":                          "G\t/var/log\n",
		"systemctl --failed --no-pager; sudo journalctl -p err -b -n 40 --no-pager": "t3-serve: cannot write to /var: No space left on device",
		"sudo timeout 20 find /var -xdev -type f -size +1G":                         traceLog,
	} {
		if out, _ := run(t, full, line); !strings.Contains(out, want) {
			t.Errorf("%s:\n%s\nwant %q", line, out, want)
		}
	}
}

func TestARepairChangesTheDiskForGood(t *testing.T) {
	t.Parallel()
	m := boot(t, "full")
	for _, line := range []string{
		"sudo rm /var/log/t3-serve/trace.log",
		"sudo systemctl restart containerd t3-serve",
		"echo kept > /var/tmp/note",
	} {
		if out, code := run(t, m, line); code != 0 {
			t.Fatalf("%s: exit %d: %s", line, code, out)
		}
	}
	again, err := New(m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, _ := run(t, again, "cat /var/tmp/note; systemctl is-active t3-serve; df -h /var | tail -1"); !strings.HasPrefix(out, "kept\nactive\n") || strings.Contains(out, "100%") {
		t.Errorf("after a power cycle: %s", out)
	}
}

func TestAStalledDiskHangsWhatTouchesIt(t *testing.T) {
	t.Parallel()
	m := boot(t, "healthy")
	m.cfg.Drive.Stall()
	for line, hangs := range map[string]bool{
		"uptime": false, "free -m": false, "cat /proc/pressure/io": false, "df -h": false, "systemctl --failed": false,
		"cat /etc/hostname": false, "ps aux": false, "sudo dmesg": false, "echo x > /run/x": true, "sudo tee /run/x </dev/null": false,
		"sudo reboot": true, "sync": true, "timeout 0.1 sync": true, "ls /tmp; touch /tmp/x": true, "journalctl -n 5": true, "systemctl status t3-serve": true,
		"cat /var/log/dpkg.log": true, "du -sh /var": true, "sudo systemctl restart t3-serve": true,
	} {
		if line == "echo x > /run/x" {
			hangs = false // not permitted, and said at once
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		var b bytes.Buffer
		m.Run(ctx, line, strings.NewReader(""), &b, &b)
		if got := ctx.Err() != nil; got != hangs {
			t.Errorf("%s: hangs %v, want %v: %s", line, got, hangs, b.String())
		}
		cancel()
	}
	out, _ := run(t, m, "sudo dmesg | grep blocked; ps aux | grep ' D ' | wc -l; cat /proc/loadavg")
	if strings.Contains(out, "task sync") || !strings.Contains(out, "INFO: task jbd2/sda3-8:312 blocked for more than 120 seconds.") {
		t.Errorf("the kernel log does not name what hangs:\n%s", out)
	}
	m.cfg.Drive.Resume()
	if out, code := run(t, m, "sync && touch /tmp/x && cut -d' ' -f1 /proc/loadavg"); code != 0 || !strings.HasPrefix(out, "0.") {
		t.Errorf("after the stall: exit %d, %s", code, out)
	}
}

// hostile tries to get out of the simulation. MARK is a file on the real machine that must not come to be, SECRET the
// content of one that must not be read.
var hostile = []string{
	"touch MARK", "> MARK", "echo x >> MARK", "/bin/sh -c 'touch MARK'", "$(touch MARK)", "`touch MARK`", "bash -c 'echo x > MARK'",
	"sudo tee MARK <<< x", "exec /usr/bin/touch MARK", "command touch MARK", "builtin exec touch MARK", "eval 'echo > MARK'",
	"cat <(touch MARK)", "echo x > >(cat > MARK)", "eval 'cat <(echo x)'", "bash -c 'cat <(echo x)'", "trap 'echo > MARK' EXIT", "trap 'cat <(echo x)' EXIT",
	"coproc touch MARK", "alias ls='cat <(echo x)'; ls", "source MARK.sh", ". REAL", "cat REAL", "cat < REAL", "read x < REAL; echo $x", "mapfile a < REAL; echo ${a[0]}",
	"head -c100 REAL", "grep . REAL", "ls REALDIR", "echo REALDIR/*", "echo ~root", "x=~root; echo $x", "[ -e REAL ] && echo SECRET", "test -f REAL && echo SECRET", "cd REALDIR && pwd && echo SECRET",
	"type REAL && echo SECRET", "command -v REAL && echo SECRET", "hash REAL && echo SECRET", "dd if=REAL of=/dev/stdout", "rm -rf REALDIR", "rm -rf /", "mkdir MARK", "truncate -s 0 REAL",
	"find REALDIR -delete", "env touch MARK", "nohup touch MARK &", "(touch MARK) & wait", "timeout 5 touch MARK", "xargs touch <<< MARK", "REAL", "PATH=REALDIR real", "TMPDIR=REALDIR; cat <(echo x)",
	"shopt -s expand_aliases", "cat /dev/null/sh-interp-1", "while read l; do echo $l; done < REAL", "unset HOME; echo ~", "printf SECRET > MARK", "pushd REALDIR && echo SECRET",
}

func TestNothingReachesTheRealMachine(t *testing.T) {
	machine := t.TempDir()
	t.Setenv("TMPDIR", machine) // where a fifo of the interpreter would appear
	if err := os.WriteFile(filepath.Join(machine, "real"), []byte("the-secret\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := boot(t, "healthy")
	before := tree(t, machine)
	for _, line := range hostile {
		asked := strings.NewReplacer("MARK", machine+"/mark", "REALDIR", machine, "REAL", machine+"/real", "SECRET", "the-secret").Replace(line)
		// "echo the-secret" behind && is reached only if the test before it saw the real file.
		out, code := run(t, m, asked)
		if strings.Contains(strings.ReplaceAll(out, asked, ""), "the-secret") || strings.Contains(out, "/real/root") {
			t.Errorf("%s: has read the real machine: %s", line, out)
		}
		if now := tree(t, machine); !slices.Equal(now, before) {
			t.Fatalf("%s (exit %d): has changed the real machine: %v, was %v", line, code, now, before)
		}
	}
	if out, _ := run(t, m, "cat /etc/hostname /proc/sys/kernel/hostname; echo $HOSTNAME"); out != "devvm\ndevvm\ndevvm\n" {
		t.Errorf("the guest's name: %q", out)
	}
}

func tree(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err == nil && !strings.Contains(p, "disk.json") {
			all = append(all, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The package cannot start a program or talk to anybody, because it imports nothing that could; files are opened for
// the disk image alone.
func TestThePackageImportsNothingThatCouldReachOut(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			if slices.Contains([]string{"os/exec", "net", "golang.org/x/sys/unix", "plugin", "unsafe"}, p) {
				t.Errorf("%s imports %s", name, p)
			}
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"os.Open", "os.ReadFile", "os.WriteFile", "os.Create", "os.Remove", "os.Mkdir", "syscall.Exec", "syscall.Open", "os.StartProcess"} {
			if name != "disk.go" && bytes.Contains(src, []byte(call+"(")) {
				t.Errorf("%s calls %s", name, call)
			}
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	for _, line := range hostile {
		f.Add(line)
	}
	for _, line := range []string{
		"df -h | grep -E '^/dev' | sort -k5 -h | tail -n +2", "systemctl --failed --no-pager", "journalctl -u t3-serve -n 20", "ps aux --sort=-%mem | head",
		"{a,b}{1..9}", "${x:-$(id)}", "((1+1))", "[[ -N /tmp ]]", "seq 5 | cut -d1 -f1", "truncate -s 1T /tmp/x", "rm -", "sort -k", "find -size", "timeout", "sudo", "journalctl --vacuum-size=", "head -n-1", "cut -f99999999999999999999", "ls -S -l -h /", "wc -lwc - -",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		m := boot(t, "full")
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		var out bytes.Buffer
		done := make(chan int, 1)
		go func() { done <- m.Run(ctx, line, strings.NewReader("a\nb\n"), &out, &out) }()
		select {
		case code := <-done:
			if code < 0 || code > 255 {
				t.Errorf("exit %d", code)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a login does not end with its connection")
		}
	})
}
