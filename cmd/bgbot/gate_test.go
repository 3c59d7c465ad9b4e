package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"bgbot/config"
	"bgbot/internal/sshdtest"
)

// site is a Proxmox host and a VM for the command to set up: two real sshds on one folder, with stand-ins for the
// programs that a test machine lacks or must not use on itself.
type site struct {
	t        *testing.T
	root, my string // their folder, and mine
	host, vm *sshdtest.Server
	out, err bytes.Buffer
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, root: t.TempDir(), my: t.TempDir()}
	s.host = s.serve("root/.ssh/authorized_keys")
	s.vm = s.serve("home/breakglass/.ssh/authorized_keys")
	for name, script := range map[string]string{
		"sbin/qm":     `case $1 in status) echo "status: stopped";; config) echo "name: devvm";; *) exit 255;; esac`,
		"bin/visudo":  "exit 0",
		"bin/sudo":    `shift; exec "$@"`,
		"bin/su":      "exit 0",
		"bin/useradd": "mkdir -p $ROOT/home/breakglass; touch $ROOT/user",
		"bin/userdel": "rm -r $ROOT/home/breakglass $ROOT/user",
		"bin/getent":  `[ -e $ROOT/user ] || exit 2; case $1 in passwd) echo "breakglass:x:990:990:made by bgbot gate install:$ROOT/home/breakglass:/bin/bash";; *) echo "breakglass:*:::";; esac`,
	} {
		s.write("usr/"+name, "#!/bin/sh\nROOT="+s.root+"\n"+script+"\n", 0o755)
	}
	s.write("root/.ssh/authorized_keys", "# somebody's\n", 0o600)
	s.build()
	return s
}

// build makes the gate that is to be installed.
func (s *site) build(options ...string) {
	s.t.Helper()
	words := slices.Concat([]string{"build", "-o", filepath.Join(s.my, "pve-gate")}, options, []string{"bgbot/cmd/pve-gate"})
	build := exec.CommandContext(s.t.Context(), "go", words...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("go build: %v: %s", err, out)
	}
}

// serve lets in the administrator and the keys in that file.
func (s *site) serve(keys string) *sshdtest.Server {
	admin := filepath.Join(s.t.TempDir(), "admin")
	server := sshdtest.New(s.t, sshdtest.Options{Config: []string{"SetEnv HOME=" + s.root, "Match all", "AuthorizedKeysFile " + admin + " " + filepath.Join(s.root, keys)}})
	key := server.ClientSigner.PublicKey()
	if s.host != nil { // one person with one key for both machines
		key = s.host.ClientSigner.PublicKey()
	}
	must(s.t, os.WriteFile(admin, ssh.MarshalAuthorizedKey(key), 0o600))
	return server
}

func (s *site) write(path, text string, mode os.FileMode) {
	s.t.Helper()
	path = filepath.Join(s.root, path)
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(s.t, os.WriteFile(path, []byte(text), mode))
}

// gate runs bgbot gate install with these words more, without a terminal, and wants that exit code.
func (s *site) gate(code int, words ...string) (out, errOut string) {
	s.t.Helper()
	none, err := os.Open(os.DevNull)
	must(s.t, err)
	defer none.Close()
	s.out.Reset()
	s.err.Reset()
	if got := run(s.t.Context(), append([]string{"gate", "install"}, words...), []string{"HOME=" + s.my}, none, &s.out, &s.err); got != code {
		s.t.Errorf("bgbot gate install %s: exit %d, want %d\n%s%s", strings.Join(words, " "), got, code, s.out.String(), s.err.String())
	}
	return s.out.String(), s.err.String()
}

// whole is a command line without what to do.
func (s *site) whole(more ...string) []string {
	return append(more, "--host", s.host.User+"@"+s.host.Address, "--vm", s.vm.User+"@"+s.vm.Address, "--vmid", "102", "--identity", s.host.Client.File,
		"--keys", filepath.Join(s.my, "keys"), "--binary", filepath.Join(s.my, "pve-gate"), "--root", s.root,
		"--accept-host-key", s.host.Address+"="+ssh.FingerprintSHA256(s.host.HostKey), "--accept-host-key", s.vm.Address+"="+ssh.FingerprintSHA256(s.vm.HostKey))
}

func (s *site) wants(text string, parts ...string) {
	s.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.t.Errorf("there is no %q in\n%s", part, text)
		}
	}
}

func TestGateInstallFromTheCommandLine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	yaml := filepath.Join(s.my, "bgbot.yaml")
	const anywhere = "127.0.0.0/8"

	out, _ := s.gate(exitOK, s.whole("--from", anywhere)...)
	s.wants(out, "Nothing has been done.", "mkdir -p -m 700 "+filepath.Join(s.my, "keys")+"\nssh-keygen -q -t ed25519", `from="127.0.0.0/8"`, "⚠ --from holds the VM's own address")
	if _, err := os.Stat(filepath.Join(s.my, "keys")); err == nil {
		t.Error("printing made keys")
	}
	_, errOut := s.gate(exitUsage, s.whole("--apply")...)
	s.wants(errOut, "--from is missing", "sees this machine as 127.0.0.1; if the bot runs here, say --from 127.0.0.1")
	_, errOut = s.gate(exitError, s.whole("--check", "--from", anywhere)...)
	s.wants(errOut, "keys/gate_key does not exist yet; --apply makes it.")

	out, _ = s.gate(exitOK, s.whole("--apply", "--from", anywhere, "--write", yaml)...)
	s.wants(out, "known by --accept-host-key", "✓ made       "+s.my+"/keys/gate_key", "✓ ok         status through the gate", "✓ ok         login with the new key", "Wrote "+yaml)
	_, errOut = s.gate(exitUsage, s.whole("--apply", "--from", anywhere, "--write", yaml)...)
	s.wants(errOut, yaml+" exists already and is not overwritten")

	cfg, ignored, err := config.LoadWithout(yaml, nil, "auth")
	if err != nil || cfg.VM.VMID != 102 || cfg.Gate.Address != s.host.Address || cfg.SSH.User != "breakglass" {
		t.Fatalf("the fragment is no configuration: %v, %v, %+v", err, ignored, cfg)
	}
	if key, err := publicKey(cfg.SSH.HostKey); err != nil || ssh.FingerprintSHA256(key) != ssh.FingerprintSHA256(s.vm.HostKey) {
		t.Errorf("the pin of the VM: %s, %v", cfg.SSH.HostKey, err)
	}

	// From now on the configuration says it all, and the pins are those in it.
	short := []string{"-c", yaml, "--from", anywhere, "--identity", s.host.Client.File, "--binary", filepath.Join(s.my, "pve-gate"), "--root", s.root, "--host", s.host.User + "@" + s.host.Address}
	out, _ = s.gate(exitOK, append(short, "--check")...)
	s.wants(out, "known by the configuration", "All is as it should be.", "devvm: not looked at; say --vm USER@127.0.0.1")
	s.write("etc/logrotate.d/pve-gate", "", 0o644)
	out, _ = s.gate(exitError, append(short, "--check")...)
	s.wants(out, "✗ differs    "+s.root+"/etc/logrotate.d/pve-gate", "Something differs.")

	out, _ = s.gate(exitOK, s.whole("--remove")...)
	s.wants(out, "✓ removed    "+s.root+"/usr/local/sbin/pve-gate", "✓ removed    user breakglass", "The bot's keys on this machine are left")
	if text, err := os.ReadFile(filepath.Join(s.root, "root/.ssh/authorized_keys")); err != nil || string(text) != "# somebody's\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// Without a login into the VM its host key is what the guest names, and a guest may name the host's.
func TestGateInstallPinsNoHostKeyForTwoMachines(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.tell(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.host.HostKey))))
	words := s.whole("--apply", "--from", "127.0.0.0/8")
	words[slices.Index(words, "--vm")+1] = s.vm.Address
	out, errOut := s.gate(exitError, words...)
	s.wants(out, "✓ ok         status through the gate")
	s.wants(errOut, "The VM and the Proxmox host show the same host key, "+ssh.FingerprintSHA256(s.host.HostKey))
	if strings.Contains(out, "For bgbot.yaml:") {
		t.Errorf("it was pinned all the same:\n%s", out)
	}

	s.tell(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.vm.HostKey))))
	out, _ = s.gate(exitOK, words...)
	s.wants(out, "For bgbot.yaml:", strings.Fields(string(ssh.MarshalAuthorizedKey(s.vm.HostKey)))[1])
}

// tell makes a gate to install whose guest names that host key.
func (s *site) tell(key string) {
	s.t.Helper()
	const answer = `{"result":{"verb":"status","vmid":102,"op":"0a1b","exit":0,"text":"VM 102 is running","status":"running","host_keys":["KEY"]}}`
	source := "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(`" + strings.ReplaceAll(answer, "KEY", key) + "\n`) }\n"
	main := filepath.Join(s.my, "main.go")
	must(s.t, os.WriteFile(main, []byte(source), 0o600))
	at, err := filepath.Abs("../pve-gate/main.go")
	must(s.t, err)
	must(s.t, os.WriteFile(main+".json", fmt.Appendf(nil, `{"Replace": {%q: %q}}`, at, main), 0o600))
	s.build("-overlay", main+".json")
}

func TestGateInstallSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := &site{t: t, my: t.TempDir()}
	must(t, os.WriteFile(filepath.Join(s.my, "garbage"), []byte("no key"), 0o600))
	must(t, os.WriteFile(filepath.Join(s.my, "root.yaml"), []byte("gate: {user: admin}\n"), 0o600))
	copied := filepath.Join(s.my, "copied.yaml")
	must(t, os.WriteFile(copied, []byte("gate: {address: '10.0.0.1:22', host_key: 'ssh-ed25519 AAAA…'}\n"), 0o600))
	for _, c := range []struct {
		code  int
		want  string
		words []string
	}{
		{exitUsage, "gate.host_key in " + copied + ": not a host key", []string{"-c", copied}},
		{exitUsage, "--vmid: the number of the VM", nil},
		{exitUsage, "--from: the address that the bot connects from", []string{"--vmid", "102"}},
		{exitUsage, "say one of --apply, --check and --remove", []string{"--apply", "--remove"}},
		{exitUsage, "--write goes with --apply", []string{"--write", "x"}},
		{exitUsage, "an IP and no name", []string{"--host", "root@pve.example.org"}},
		{exitUsage, "an IP and no name", []string{"--vm", "admin@10.0.0.1:ssh"}},
		{exitUsage, `--from: "bot" is neither an IP nor a network`, []string{"--from", "bot"}},
		{exitUsage, "gate.user is admin, but the gate works as root only", []string{"-c", filepath.Join(s.my, "root.yaml")}},
		{exitUsage, "is not a private key", []string{"--read-only-key", filepath.Join(s.my, "garbage")}},
		{exitUsage, "name the private key, without .pub", []string{"--read-only-key", "x.pub"}},
		{exitUsage, "flag provided but not defined: -aply; see bgbot gate --help", []string{"--aply"}},
		{exitUsage, `"now" is one word too many`, []string{"now"}},
		{exitUsage, "There is no key to log in with", []string{"--apply", "--vmid", "102", "--host", "127.0.0.1:1", "--vm", "127.0.0.2", "--from", "127.0.0.1"}},
	} {
		out, errOut := s.gate(c.code, c.words...)
		if !strings.Contains(errOut, c.want) || strings.Count(errOut, "bgbot gate:") != 1 {
			t.Errorf("%q: got %q, want %q\n%s", c.words, errOut, c.want, out)
		}
	}
	if out, errOut := s.gate(exitOK, "--help"); !strings.Contains(out, "--apply    does it over SSH") || errOut != "" {
		t.Errorf("help: %s%s", out, errOut)
	}
}
