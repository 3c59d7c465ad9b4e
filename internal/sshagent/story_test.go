package sshagent

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestACommandReachesTheHostAndNoKeyIsOnDisk(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := open(t, newHost(t, key.PublicKey()).alias("devvm", key))
	out, errs, exit := s.run(`ssh devvm 'echo "$USER is in"; echo oops >&2; exit 3'`)
	if want := s.agent.aliases[0].User + " is in\n"; out != want || errs != "oops\n" || exit != 3 {
		t.Errorf("got %q, %q, exit %d; want %q, %q, exit 3", out, errs, exit, want, "oops\n")
	}
	if n := s.agent.signatures(); n != 1 {
		t.Errorf("%d signatures for one login", n)
	}
	s.log.want(`msg="ssh agent signed a login" alias=devvm`)
	for path, text := range files(t, s.agent.dir) {
		if strings.Contains(text, "PRIVATE") {
			t.Errorf("%s holds a private key", path)
		}
	}
}

func TestStandardInputReachesTheHost(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := open(t, newHost(t, key.PublicKey()).alias("devvm", key))
	if out, errs, exit := s.run("echo 'echo $((40+2))' | ssh devvm sh -s"); out != "42\n" || exit != 0 {
		t.Errorf("got %q, %q, exit %d", out, errs, exit)
	}
	if out, errs, exit := s.run("echo lost | ssh -n devvm cat"); out != "" || exit != 0 {
		t.Errorf("with -n: got %q, %q, exit %d", out, errs, exit)
	}
}

func TestAnInactiveAgentSignsNothing(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := open(t, newHost(t, key.PublicKey()).alias("devvm", key))
	s.agent.Deactivate()
	s.wantRefused("ssh devvm true", `alias=devvm reason="no turn is running"`)
	s.agent.Activate()
	if _, errs, exit := s.run("ssh devvm true"); exit != 0 {
		t.Errorf("active again: exit %d, %s", exit, errs)
	}
}

func TestTheLimitOfSignaturesHolds(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	al := newHost(t, key.PublicKey()).alias("devvm", key)
	al.Limit = 2
	s := open(t, al)
	for range al.Limit {
		if _, errs, exit := s.run("ssh devvm true"); exit != 0 {
			t.Fatalf("exit %d, %s", exit, errs)
		}
	}
	s.wantRefused("ssh devvm true", `alias=devvm reason="the limit of 2 signatures is reached"`)
}

func TestAChangedHostKeyIsRefused(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	h := newHost(t, key.PublicKey())
	s := open(t, h.alias("devvm", key))
	h.newHostKey()
	_, errs, exit := s.run("ssh devvm true")
	for _, want := range []string{"REMOTE HOST IDENTIFICATION HAS CHANGED!", "Host key verification failed."} {
		if !strings.Contains(errs, want) || exit != 255 {
			t.Errorf("exit %d and no %q in %s", exit, want, errs)
		}
	}
	// Whoever goes round the wrapper and its known_hosts meets the agent.
	s.wantRefused("/usr/bin/ssh -F config -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -F "+s.agent.dir+"/config devvm true",
		`reason="the host is none of ours"`)
}

func TestAHostCertificateSurvivesARebuild(t *testing.T) {
	t.Parallel()
	key, ca := newKey(t), newKey(t)
	h := newHost(t, key.PublicKey())
	al := h.alias("devvm", key)
	al.HostKey, al.HostCA = nil, ca.PublicKey()
	s := open(t, al)
	for range 2 {
		h.newHostKey()
		h.certify(ca, "devvm", "10.0.10.10")
		if _, errs, exit := s.run("ssh devvm true"); exit != 0 {
			t.Fatalf("exit %d, %s", exit, errs)
		}
	}
	h.newHostKey()
	h.certify(ca, "other")
	s.wantRefused("ssh devvm true", "")
	s.wantRefused("/usr/bin/ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -F "+s.agent.dir+"/config devvm true",
		`reason="the host is none of ours"`)
}

func TestACommandThatHangsIsCut(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	al := newHost(t, key.PublicKey()).alias("devvm", key)
	al.Timeout = time.Second
	s := open(t, al)
	_, errs, exit := s.run("ssh devvm sleep 20")
	want := "ssh: Cut after 1 s. What it started on devvm may still run there: look, and put timeout before the next command.\n"
	if errs != want || exit != 124 {
		t.Errorf("got exit %d, %q; want exit 124, %q", exit, errs, want)
	}
}

func TestEndingTheProcessGroupEndsTheWrapperAndItsSSH(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := open(t, newHost(t, key.PublicKey()).alias("devvm", key))
	cmd := s.command("ssh devvm 'echo up; sleep 20'")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("up\n"))); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := io.ReadAll(out); err != nil { // until the last holder of the pipe is gone
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("ssh lived %s longer", took)
	}
	_ = cmd.Wait()
}

func TestACommandsOwnTimeoutIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := open(t, newHost(t, key.PublicKey()).alias("devvm", key))
	if _, errs, exit := s.run("ssh devvm timeout 0.1 sleep 9"); exit != 124 || errs != "" {
		t.Errorf("got exit %d, %q; want exit 124 and nothing said", exit, errs)
	}
}

func TestALongFolderStillHasASocket(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	h := newHost(t, key.PublicKey())
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 20), "ssh")
	a, err := Open(dir, []Alias{h.alias("devvm", key)}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.Activate()
	s := &shell{t: t, agent: a, log: &journal{t: t}, home: t.TempDir()}
	if _, errs, exit := s.run("ssh devvm true"); exit != 0 {
		t.Errorf("exit %d, %s", exit, errs)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for _, path := range []string{dir, a.socket, filepath.Dir(a.socket)} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

// Not parallel: it looks at all goroutines.
func TestCloseLeavesNothingBehind(t *testing.T) {
	key := newKey(t)
	s := open(t, newHost(t, key.PublicKey()).alias("devvm", key))
	idle := dial(t, s.agent)
	for range maxConns - 1 {
		dial(t, s.agent)
	}
	if _, err := idle.List(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.agent.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	if info, err = os.Stat(s.agent.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	if err := s.agent.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.agent.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is still there: %v", files(t, s.agent.dir))
	}
	if _, err := idle.List(); err == nil {
		t.Error("an open connection still works")
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, name := range []string{"sshagent.(*Agent).accept", "sshagent.(*conn).serve"} {
		if strings.Contains(string(stacks), name) {
			t.Errorf("a goroutine is left in %s:\n%s", name, stacks)
		}
	}
}

func TestWhatAFormerProcessLeftIsReplaced(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	al := newHost(t, key.PublicKey()).alias("devvm", key)
	dir := t.TempDir()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.Symlink(victim, filepath.Join(dir, "config")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "agent.sock"), []byte("stale"), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, []Alias{al}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(victim); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a link in the folder was followed")
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnAliasThatCannotBeTrustedIsRefused(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	good := Alias{Name: "devvm", Address: "10.0.10.10:22", User: "breakglass", HostKey: key.PublicKey(), Signer: key}
	for want, change := range map[string]func(*Alias){
		`ssh alias "devvm": it has neither a host key nor a host CA, so no host would be the right one`: func(a *Alias) { a.HostKey = nil },
		`ssh alias "devvm": it has no key to log in with`:                                               func(a *Alias) { a.Signer = nil },
		`ssh alias "devvm": the address "10.0.10.10" is not host:port`:                                  func(a *Alias) { a.Address = "10.0.10.10" },
		`ssh alias "devvm": the address "x\n\tProxyCommand id:22" is not host:port`:                     func(a *Alias) { a.Address = "x\n\tProxyCommand id:22" },
		`ssh alias "devvm": the user "root\nProxyCommand id" is not a user name`:                        func(a *Alias) { a.User = "root\nProxyCommand id" },
		`ssh alias "dev vm": a name is lower case letters, digits and dashes`:                           func(a *Alias) { a.Name = "dev vm" },
		`ssh alias "-o": a name is lower case letters, digits and dashes`:                               func(a *Alias) { a.Name = "-o" },
	} {
		al := good
		change(&al)
		if _, err := Open(t.TempDir(), []Alias{al}, slog.New(slog.DiscardHandler)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := Open(t.TempDir(), []Alias{good, good}, slog.New(slog.DiscardHandler)); err == nil || err.Error() != `ssh alias "devvm": it is there twice` {
		t.Errorf("got %v", err)
	}
	dir := filepath.Join(t.TempDir(), `a"b`)
	want := "ssh agent in " + dir + ": the folder's name has characters that ssh would read as something else; use letters, digits and ._-"
	if _, err := Open(dir, []Alias{good}, slog.New(slog.DiscardHandler)); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// files reads all files under dir.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			all[path] = string(text)
		}
		return nil
	})
	return all
}
