package install_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"bgbot/internal/sshdtest"
	"bgbot/pve/install"
)

// refused breaks something, wants Apply to fail with that sentence and to change nothing, and mends it again.
func (r *rig) refused(want string, breaks func()) {
	r.t.Helper()
	o, saved := r.options, r.t.TempDir()+"/saved"
	r.host.shell("cp -a " + r.host.root + " " + saved)
	defer func() {
		r.options = o
		r.host.shell("rm -rf " + r.host.root + " && cp -a " + saved + " " + r.host.root)
	}()
	breaks()
	before := r.host.tree()
	_, _, err := r.work(r.options).Apply(r.context())
	r.sentence(err, strings.ReplaceAll(want, "GATE", r.options.Program.File))
	if after := r.host.tree(); after != before {
		r.t.Errorf("something was changed:\n%s\nbefore:\n%s", after, before)
	}
	if left := r.host.leftovers(); len(left) > 0 {
		r.t.Errorf("left behind: %v", left)
	}
}

// sentence wants exactly these words. HOST and VM stand for the machines' names and addresses, ROOT for the far folder.
func (r *rig) sentence(err error, want string) {
	r.t.Helper()
	if err == nil {
		r.t.Fatalf("no error; want %q", want)
	}
	said, ok := errors.AsType[interface {
		error
		UserMessage() string
	}](err)
	if !ok {
		r.t.Fatalf("%v has no words for a person", err)
	}
	got := strings.ReplaceAll(said.UserMessage(), r.host.root, "ROOT")
	got = strings.ReplaceAll(got, fmt.Sprintf("the Proxmox host (%s)", r.host.address()), "HOST")
	if r.vm != nil {
		got = strings.ReplaceAll(got, fmt.Sprintf("devvm (%s)", r.vm.address()), "VM")
	}
	if got != want {
		r.t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestBrokenHosts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.apply(r.options)
	r.host.cluster()
	gate, keys := r.host.at("usr/local/sbin/pve-gate"), "etc/pve/priv/authorized_keys"
	r.host.write(keys, foreign)
	r.vm = nil // nothing here gets that far
	for _, c := range []struct {
		name, want string
		breaks     func()
	}{
		{
			"a machine that is no Proxmox host", "HOST has no qm, so it is no Proxmox host. Is --host right?",
			func() { r.host.must(os.Remove(r.host.at("usr/sbin/qm"))) },
		},
		{
			"another processor", "HOST is aarch64, but GATE is for x86_64. Name the right pve-gate with --binary.",
			func() {
				r.host.must(os.Remove(gate))
				r.host.program("uname", `[ "$1" = -m ] && echo aarch64 || echo Linux`)
			},
		},
		{
			"a full disk", "the disk is full at ROOT/usr/local/sbin/pve-gate on HOST; what stood there is as it was. Make room, then run this again.",
			func() {
				r.host.must(os.Remove(gate))
				r.host.program("chmod", `echo "chmod: cannot access: No space left on device" >&2; exit 1`)
			},
		},
		{
			"half of it arrives", "ROOT/usr/local/sbin/pve-gate on HOST did not arrive whole; nothing was replaced. Run this again.",
			func() {
				r.host.must(os.Remove(gate))
				r.host.program("cat", "head -c 4096")
			},
		},
		{
			"a disk that the kernel has closed", "the file system of ROOT/etc/logrotate.d/pve-gate on HOST is read-only, which the kernel does after an error of the disk (see dmesg there); nothing was changed.",
			func() {
				r.host.must(os.Remove(r.host.at("etc/logrotate.d/pve-gate")))
				r.host.program("mktemp", `echo "mktemp: failed to create file via template: Read-only file system" >&2; exit 1`)
			},
		},
		{
			"a cluster without quorum",
			"ROOT/etc/pve/priv/authorized_keys on HOST cannot be written: /etc/pve is read-only while the cluster has no quorum (`pvecm status`). What stood there is as it was. Run this again when there is quorum.",
			func() {
				r.host.program("mktemp", `case $1 in */etc/pve/*) echo "mktemp: failed to create file: Permission denied" >&2; exit 1;; esac; exec /usr/bin/mktemp "$@"`)
			},
		},
		{
			"/etc/pve is not mounted",
			"ROOT/root/.ssh/authorized_keys on HOST points to ROOT/etc/pve/priv/authorized_keys, which is not there. On a Proxmox host that is /etc/pve without its file system: see `systemctl status pve-cluster`.",
			func() { r.host.must(os.RemoveAll(r.host.at("etc/pve/priv"))) },
		},
		{
			"a protected file", "ROOT/etc/pve/priv/authorized_keys on HOST is protected (mv: cannot move: Operation not permitted), perhaps by chattr +i; nothing was changed.",
			func() { r.host.program("mv", `echo "mv: cannot move: Operation not permitted" >&2; exit 1`) },
		},
		{
			"a block without its end",
			"ROOT/root/.ssh/authorized_keys on HOST: the comments around bgbot's block vm102 do not fit together (1 begin, 0 end); remove the block by hand, then run this again",
			func() { r.host.write(keys, "# bgbot vm102 begin: cut\n"+foreign) },
		},
		{
			"the key is let in by another line",
			"line 7 of ROOT/root/.ssh/authorized_keys on HOST lets the bot's key in as well, outside of bgbot's block, and sshd takes the first line that fits. Remove that line, then run this again.",
			func() {
				r.host.write(keys, foreign+"\n"+string(ssh.MarshalAuthorizedKey(r.options.GateKey.Signer.PublicKey())))
			},
		},
		{
			"a file of somebody else", "ROOT/etc/logrotate.d/pve-gate on HOST was made by somebody else; compare it with the printed plan and move it away, then run this again.",
			func() { r.host.write("etc/logrotate.d/pve-gate", "/var/log/pve-gate/* { daily }\n") },
		},
		{
			"a folder in the way", "ROOT/etc/logrotate.d/pve-gate on HOST is no file; move it away, then run this again.",
			func() {
				r.host.must(os.Remove(r.host.at("etc/logrotate.d/pve-gate")))
				r.host.must(os.Mkdir(r.host.at("etc/logrotate.d/pve-gate"), 0o755))
			},
		},
	} {
		t.Log(c.name)
		r.refused(c.want, c.breaks)
	}
}

func TestBrokenVMs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.apply(r.options)
	for _, c := range []struct {
		name, want string
		breaks     func()
	}{
		{
			"no sudo on the VM", "VM has no visudo; install sudo there, then run this again.",
			func() {
				r.host.must(os.RemoveAll(r.host.at("etc/sudoers.d")))
				r.host.must(os.Remove(r.host.at("usr/bin/visudo")))
			},
		},
		{
			"words that are commands to the terminal", "the disk is full at ROOT/etc/sudoers.d/bgbot-breakglass on VM; what stood there is as it was. Make room, then run this again.",
			func() {
				r.host.must(os.RemoveAll(r.host.at("etc/sudoers.d")))
				r.host.program("mktemp", `printf "\033]0;x\007No space left on device\n" >&2; exit 1`)
			},
		},
		{
			"and other words", "ROOT/etc/sudoers.d/bgbot-breakglass on VM: ?]0;x?oh no? (exit 1)",
			func() {
				r.host.must(os.RemoveAll(r.host.at("etc/sudoers.d")))
				r.host.program("mktemp", `printf "\033]0;x\007oh no\233\n" >&2; exit 1`)
			},
		},
		{
			"a user of somebody else", "the user breakglass on VM was made by somebody else and does not fit: its shell is /usr/sbin/nologin. Mend it there, or name another with --user.",
			func() {
				r.host.write("etc/passwd", "breakglass:x:1001:1001:,,,:/home/x:/usr/sbin/nologin\n")
			},
		},
		{
			"another name of root", "the user breakglass on VM was made by somebody else and does not fit: it is another name of root. Mend it there, or name another with --user.",
			func() { r.host.write("etc/passwd", "breakglass:x:0:0::/root:/bin/bash\n") },
		},
		{
			"no home", `the home of breakglass on VM is "/"; give the user a folder of its own.`,
			func() { r.host.write("etc/passwd", "breakglass:x:1001:1001:,,,:/:/bin/bash\n") },
		},
		{
			"a symlink in the home", `ROOT/home/breakglass/.ssh/authorized_keys on VM is a symlink to "/etc/passwd"; make it a file, then run this again.`,
			func() {
				path := r.host.at("home/breakglass/.ssh/authorized_keys")
				r.host.must(os.Remove(path))
				r.host.must(os.Symlink("/etc/passwd", path))
			},
		},
	} {
		t.Log(c.name)
		r.refused(c.want, c.breaks)
	}
	// A user that was there before is used, and stays.
	r.remove(r.options)
	r.host.write("etc/passwd", "breakglass:x:1001:1001:somebody:"+r.host.at("home/breakglass")+":/bin/bash\n")
	r.says(r.apply(r.options), "✓ unchanged  user breakglass", "it was there before; left as it is")
	r.says(r.remove(r.options), "✓ removed    ~breakglass/.ssh/authorized_keys", "- kept       user breakglass", "it was there before")

	r.host.write("etc/passwd", "")
	r.apply(r.options)
	r.host.write("user-busy", "")
	err := r.work(r.options).Remove(r.context())
	r.sentence(err, "the user breakglass on VM stays: userdel: user breakglass is currently used by process 4711")
}

// cluster makes authorized_keys what it is on a Proxmox host.
func (m *machine) cluster() {
	m.t.Helper()
	m.write("etc/pve/priv/authorized_keys", m.read("root/.ssh/authorized_keys"))
	m.must(os.Remove(m.at("root/.ssh/authorized_keys")))
	m.must(os.Symlink(m.at("etc/pve/priv/authorized_keys"), m.at("root/.ssh/authorized_keys")))
}

func TestTheSymlinkOfAProxmoxHostStays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host.cluster()
	// Its file system has one mode and one owner, and refuses to be told even those.
	r.host.program("chmod", `case $2 in */etc/pve/*) echo "chmod: Operation not permitted" >&2; exit 1;; esac; exec /usr/bin/chmod "$@"`)
	r.host.program("chown", `case $2 in */etc/pve/*) echo "chown: Operation not permitted" >&2; exit 1;; esac; exec /usr/bin/chown "$@"`)
	r.says(r.apply(r.options), "✓ made       ROOT/root/.ssh/authorized_keys", "2 keys, in ROOT/etc/pve/priv/authorized_keys")
	if to, err := os.Readlink(r.host.at("root/.ssh/authorized_keys")); err != nil || to != r.host.at("etc/pve/priv/authorized_keys") {
		t.Errorf("the symlink: %q, %v", to, err)
	}
	if _, exit := knock(t, r.host, r.options.GateKey, nil, "status"); exit != 0 {
		t.Errorf("the key: exit %d", exit)
	}
	r.says(r.remove(r.options), "✓ removed    ROOT/root/.ssh/authorized_keys")
	if got := r.host.read("etc/pve/priv/authorized_keys"); got != foreign {
		t.Errorf("the other lines:\n%q", got)
	}
}

func TestSomebodyElseWritesAtTheSameTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	keys := r.host.at("root/.ssh/authorized_keys")
	r.host.program("mktemp", `case $1 in */.ssh/*) echo "# another node" >>`+keys+`;; esac; exec /usr/bin/mktemp "$@"`)
	_, _, err := r.work(r.options).Apply(r.context())
	r.sentence(err, "ROOT/root/.ssh/authorized_keys on HOST was changed by somebody else just now; nothing was replaced. Run this again.")
	if got := r.host.read("root/.ssh/authorized_keys"); got != foreign+"# another node\n" {
		t.Errorf("the file:\n%q", got)
	}
}

func TestCheckGoesOnAfterWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.apply(r.options)
	r.host.write("root/.ssh/authorized_keys", "# bgbot vm102 begin: cut\n")
	r.host.must(os.Chmod(r.host.at("var/log/pve-gate"), 0o755))
	r.host.write("etc/sudoers.d/bgbot-breakglass", "")
	good, said := r.check(r.options)
	if good {
		t.Error("all is well?")
	}
	r.says(said, "✓ ok         ROOT/usr/local/sbin/pve-gate", "✗ differs    ROOT/var/log/pve-gate", "mode 755 instead of 700",
		"✗ differs    ROOT/root/.ssh/authorized_keys", "do not fit together",
		"✗ failed     status through the gate", "refuses our key",
		"✗ differs    ROOT/etc/sudoers.d/bgbot-breakglass", "somebody else made it",
		"✗ failed     sudo of breakglass", "sudo: a password is required",
		"✓ ok         login with the new key")
}

// noisy makes the administrator's login print a greeting before everything, as a careless .bashrc does.
func (m *machine) noisy() {
	m.t.Helper()
	line := sshdtest.ForcedCommand("sh", "-c", `echo "Welcome to $(hostname)"; echo "last login: never"; eval "$SSH_ORIGINAL_COMMAND"`)
	m.must(os.WriteFile(m.admin, append([]byte(line+" "), ssh.MarshalAuthorizedKey(m.sshd.ClientSigner.PublicKey())...), 0o600))
}

func TestTheUserBecomesRootWithSudo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.login = func(l install.Login) install.Login { l.Sudo = l.Name == "devvm"; return l }
	r.says(r.apply(r.options), "✓ made       user breakglass")
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	good := pveGate(t)
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		text:           text + " is not a pve-gate. `make build` makes bin/pve-gate.",
		self:           self + " is not a pve-gate. `make build` makes bin/pve-gate.",
		dir + "/there": "The pve-gate " + dir + "/there cannot be read: no such file or directory.",
	} {
		if _, err := install.ReadProgram(file); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := install.FindProgram(dir, ""); err == nil || err.Error() != "There is no pve-gate in "+dir+", beside bgbot. Put it there, or name it with --binary." {
		t.Error(err)
	}
	beside := filepath.Dir(good.File)
	if p, err := install.FindProgram(beside, good.Machine); err != nil || p.File != good.File {
		t.Errorf("%v, %v", p.File, err)
	}
	if _, err := install.FindProgram(beside, "riscv64"); err == nil || err.Error() != "The Proxmox host is riscv64, but in "+beside+" pve-gate is for "+good.Machine+". Name the right one with --binary." {
		t.Error(err)
	}
}
