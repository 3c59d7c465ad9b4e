package install_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/internal/sshdtest"
	"bgbot/pve/install"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil { // they wait most of the time
		panic(err)
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is a pve-gate as people get it, made once.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func pveGate(t *testing.T) install.Program {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "bgbot-install-"); built.err != nil { //nolint:usetesting // it outlives the first test
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(built.dir, "pve-gate"), "bgbot/cmd/pve-gate")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	p, err := install.ReadProgram(filepath.Join(built.dir, "pve-gate"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// machine is a machine of the far side: a real sshd, and a folder that its paths lie in. The programs that a test machine
// lacks, or must not use on itself, stand in usr/bin of that folder.
type machine struct {
	t     *testing.T
	sshd  *sshdtest.Server
	root  string
	admin string // the administrator's line
}

// foreign is what somebody else has in root's authorized_keys; the last line has no end.
const foreign = "# the nodes of the cluster\n\nssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 root@pve2\r\n  \tno key at all\n# bgbot was here\n#end"

// newMachine serves a folder. The administrator's key and those in the file of keys may log in.
func newMachine(t *testing.T, root, keys string, config ...string) *machine {
	t.Helper()
	m := &machine{t: t, root: root}
	m.admin = filepath.Join(t.TempDir(), "admin")
	// The home is another one, because a .bashrc of whoever runs the tests can take longer than all the rest.
	m.sshd = sshdtest.New(t, sshdtest.Options{Config: append(config, "SetEnv HOME="+root, "Match all", "AuthorizedKeysFile "+m.admin+" "+m.at(keys))})
	m.must(os.WriteFile(m.admin, ssh.MarshalAuthorizedKey(m.sshd.ClientSigner.PublicKey()), 0o600))
	return m
}

// newRoot is a folder for both machines.
func newRoot(t *testing.T) string {
	t.Helper()
	m := &machine{t: t, root: filepath.Join(t.TempDir(), "far")}
	for _, dir := range []string{"root/.ssh", "run", "etc/ssh/sshd_config.d", "home", "var/log"} {
		m.must(os.MkdirAll(m.at(dir), 0o755))
	}
	m.write("root/.ssh/authorized_keys", foreign)
	m.program("visudo", `[ "$1" = -cf ] && grep -q "NOPASSWD: ALL" "$2"`)
	m.program("systemctl", `echo "$*" >>`+m.at("systemctl.log")+`; [ ! -e `+m.at("no-reload")+` ] || { echo "Job for ssh.service failed." >&2; exit 1; }`)
	m.program("sudo", `[ "$1" = -n ] && shift; [ ! -e `+m.at("no-sudo")+` ] || { echo "sudo: a password is required" >&2; exit 1; }; exec "$@"`)
	m.program("su", `[ -s `+m.at("etc/sudoers.d/bgbot-breakglass")+` ] || { echo "sudo: a password is required" >&2; exit 1; }`)
	m.program("qm", `case $1 in status) echo "status: stopped";; config) echo "name: devvm";; *) exit 255;; esac`)
	m.must(os.MkdirAll(m.at("usr/sbin"), 0o755))
	m.must(os.Rename(m.at("usr/bin/qm"), m.at("usr/sbin/qm")))
	m.accounts()
	return m.root
}

// accounts stands in for the machine's users: a file of passwd lines and one of shadow lines.
func (m *machine) accounts() {
	passwd, shadow := m.at("etc/passwd"), m.at("etc/shadow")
	m.write("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
	m.write("etc/shadow", "root:*:1::::::\n")
	m.program("getent", `grep "^$2:" `+m.at("etc")+`/$1 || exit 2`)
	m.program("useradd", `
while [ $# -gt 1 ]; do
	case $1 in
	--home-dir) home=$2; shift;; --shell) shell=$2; shift;; --comment) about=$2; shift;; --password) word=$2; shift;;
	esac
	shift
done
echo "$1:x:990:990:$about:`+m.root+`$home:$shell" >>`+passwd+`
echo "$1:$word:1::::::" >>`+shadow+`
mkdir -p `+m.root+`$home`)
	m.program("usermod", `sed -i "s|^breakglass:[^:]*|breakglass:$4|" `+shadow+`; sed -i "/^breakglass/s|[^:]*\$|$2|" `+passwd)
	m.program("userdel", `
[ ! -e `+m.root+`/user-busy ] || { echo "userdel: user $2 is currently used by process 4711"; exit 8; }
sed -i "/^$2:/d" `+passwd+" "+shadow+`; rm -rf `+m.root+`/home/$2`)
}

func (m *machine) at(path string) string { return filepath.Join(m.root, path) }

func (m *machine) write(path, text string) {
	m.t.Helper()
	m.must(os.MkdirAll(filepath.Dir(m.at(path)), 0o755))
	_ = os.Remove(m.at(path)) // it may be read-only
	m.must(os.WriteFile(m.at(path), []byte(text), 0o600))
}

func (m *machine) read(path string) string {
	text, err := os.ReadFile(m.at(path))
	if err != nil {
		return "[" + err.Error() + "]"
	}
	return string(text)
}

// program puts a stand-in into usr/bin.
func (m *machine) program(name, script string) {
	m.t.Helper()
	m.write("usr/bin/"+name, "#!/bin/sh\n"+script+"\n")
	m.must(os.Chmod(m.at("usr/bin/"+name), 0o755))
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// tree lists all files with their modes and their times.
func (m *machine) tree() string {
	m.t.Helper()
	var s strings.Builder
	m.must(filepath.Walk(m.root, func(path string, info os.FileInfo, err error) error {
		if err == nil && !strings.HasSuffix(path, "systemctl.log") && !strings.HasPrefix(path, m.at("var/log")) && !strings.HasPrefix(path, m.at("run")) && !info.IsDir() {
			fmt.Fprintln(&s, path, info.Mode(), info.ModTime())
		}
		return err
	}))
	return s.String()
}

// leftovers are the temporary files that nobody removed.
func (m *machine) leftovers() (found []string) {
	m.must(filepath.Walk(m.root, func(path string, _ os.FileInfo, err error) error {
		if strings.HasPrefix(filepath.Base(path), ".bgbot") {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func (m *machine) address() netip.AddrPort { return netip.MustParseAddrPort(m.sshd.Address) }

func (m *machine) login(name string) install.Login {
	return install.Login{Name: name, Address: m.address(), User: m.sshd.User, Signers: []ssh.Signer{m.sshd.ClientSigner}, Root: m.root}
}

// rig is both machines and this one.
type rig struct {
	t        *testing.T
	host, vm *machine
	options  install.Options
	out      bytes.Buffer
	login    func(install.Login) install.Login // a change of the login, if any
}

func newRig(t *testing.T) *rig {
	t.Helper()
	root := newRoot(t)
	r := &rig{t: t, host: newMachine(t, root, "root/.ssh/authorized_keys", "Subsystem sftp internal-sftp"), vm: newMachine(t, root, "home/breakglass/.ssh/authorized_keys")}
	r.options = r.keys(r.optionsFor(102))
	return r
}

func (r *rig) optionsFor(vmid int) install.Options {
	keys := r.t.TempDir()
	return install.Options{
		VMID: vmid, VM: "devvm", Host: r.host.address(), Guest: r.vm.address(), User: "breakglass", From: r.from("127.0.0.1"),
		GateKey: install.Key{File: keys + "/gate_key"}, VMKey: install.Key{File: keys + "/vm_key"},
		ReadOnly: install.Key{File: keys + "/ro_key"}, Program: pveGate(r.t), SSHD: false, Root: r.host.root,
	}
}

// keys are the options with their keys made.
func (r *rig) keys(o install.Options) install.Options {
	r.t.Helper()
	if err := o.MakeKeys(&r.out); err != nil {
		r.t.Fatal(err)
	}
	return o
}

func (r *rig) from(text string) install.From {
	r.t.Helper()
	f, err := install.ParseFrom(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// patience is what a whole run may take on a busy machine.
const patience = 2 * time.Minute

// work logs in to both machines and returns the work that o asks for. What is said before is thrown away.
func (r *rig) work(o install.Options) install.Work {
	r.t.Helper()
	plan, err := install.NewPlan(o)
	if err != nil {
		r.t.Fatal(err)
	}
	w := install.Work{Plan: plan, Host: r.open(r.host, "the Proxmox host"), Out: &r.out}
	if r.vm != nil {
		w.VM = r.open(r.vm, "devvm")
	}
	r.out.Reset()
	return w
}

func (r *rig) open(m *machine, name string) *install.Machine {
	r.t.Helper()
	l := m.login(name)
	if r.login != nil {
		l = r.login(l)
	}
	got, err := install.Reach(r.context(), l, install.Trust{Pin: m.sshd.HostKey}, nil, &r.out)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = got.Close() })
	return got
}

func (r *rig) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	return ctx
}

// apply wants success, and returns what was said.
func (r *rig) apply(o install.Options) string {
	r.t.Helper()
	good, _, err := r.work(o).Apply(r.context())
	if err != nil || !good {
		r.t.Fatalf("apply: good %v, %v\n%s", good, err, r.out.String())
	}
	return r.out.String()
}

// check returns whether all is well, and what was said.
func (r *rig) check(o install.Options) (bool, string) {
	r.t.Helper()
	good, err := r.work(o).Check(r.context())
	if err != nil {
		r.t.Fatalf("check: %v\n%s", err, r.out.String())
	}
	return good, r.out.String()
}

func (r *rig) remove(o install.Options) string {
	r.t.Helper()
	if err := r.work(o).Remove(r.context()); err != nil {
		r.t.Fatalf("remove: %v\n%s", err, r.out.String())
	}
	return r.out.String()
}

// says wants lines in that order. ROOT stands for the far folder.
func (r *rig) says(got string, want ...string) {
	r.t.Helper()
	rest := r.short(got)
	for _, line := range want {
		i := strings.Index(rest, line)
		if i < 0 {
			r.t.Fatalf("there is no %q (in this order) in\n%s", line, r.short(got))
		}
		rest = rest[i+len(line):]
	}
}

func (r *rig) short(s string) string { return strings.ReplaceAll(s, r.host.root, "ROOT") }

// knock uses one of the bot's keys with ssh(1), as far as it gets.
func knock(t *testing.T, m *machine, k install.Key, options []string, args ...string) (out string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := m.sshd.SSHOptions(ctx, sshdtest.Key{Signer: k.Signer, File: k.File}, options, args...)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// sshdConfig gives the far folder a configuration of sshd, for files of ours to be included by.
func (m *machine) sshdConfig() {
	m.t.Helper()
	key := filepath.Join(m.root, "etc/ssh/host_key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		m.t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	m.write("etc/ssh/sshd_config", "Include "+m.at("etc/ssh/sshd_config.d")+"/*.conf\nHostKey "+key+"\n")
}

// shell runs a script as a person would who is logged in to the far side.
func (m *machine) shell(script string) {
	m.t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = []string{"PATH=" + m.at("usr/bin") + ":" + os.Getenv("PATH") + ":/usr/sbin"}
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%v\n%s\n%s", err, script, out)
	}
}
