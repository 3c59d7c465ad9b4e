package install_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"bgbot/pve/install"
)

var update = flag.Bool("update", false, "write the golden files anew")

// seeded is a key that is the same in every run.
func seeded(t *testing.T, file string, seed byte) install.Key {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return install.Key{File: file, Signer: signer}
}

func whole(t *testing.T) install.Options {
	t.Helper()
	from, err := install.ParseFrom("10.0.20.5,10.0.30.0/24,fd00::/64")
	if err != nil {
		t.Fatal(err)
	}
	return install.Options{
		VMID: 102, VM: "devvm", Host: netip.MustParseAddrPort("192.168.1.127:22"), Guest: netip.MustParseAddrPort("10.0.10.10:22"),
		User: "breakglass", From: from,
		GateKey: seeded(t, "/etc/bgbot/gate_key", 1), VMKey: seeded(t, "/etc/bgbot/vm_key", 2), ReadOnly: seeded(t, "/etc/bgbot/ro_key", 3),
		Program: install.Program{File: "bin/pve-gate"}, SSHD: true, OpenSSH: "9.9",
	}
}

func TestThePlanReadsWell(t *testing.T) {
	t.Parallel()
	bare := whole(t)
	bare.From = install.Anywhere()
	bare.GateKey.Signer, bare.ReadOnly, bare.SSHD, bare.User = nil, install.Key{}, false, "root"
	for name, o := range map[string]install.Options{"plan.txt": whole(t), "plan-bare.txt": bare} {
		plan, err := install.NewPlan(o)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, []byte(plan.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || plan.String() != string(want) {
			t.Errorf("%s: %v; the plan is now (-update writes it)\n%s", name, err, plan)
		}
	}
}

func TestHostileOptions(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*install.Options){
		"--vmid: ":                        func(o *install.Options) { o.VMID = 99 },
		"--vmid: the number":              func(o *install.Options) { o.VMID = -102 },
		`vm.name: "a;id"`:                 func(o *install.Options) { o.VM = "a;id" },
		`vm.name: "pve"`:                  func(o *install.Options) { o.VM = "pve" },
		"--host: ":                        func(o *install.Options) { o.Host = netip.AddrPort{} },
		"--vm: where":                     func(o *install.Options) { o.Guest = netip.AddrPort{} },
		"is the Proxmox host itself":      func(o *install.Options) { o.Guest = o.Host },
		`--user: "x y"`:                   func(o *install.Options) { o.User = "x y" },
		`--user: "a.b"`:                   func(o *install.Options) { o.User = "a.b" }, // sudo would skip its file
		`--user: "../../root"`:            func(o *install.Options) { o.User = "../../root" },
		`--user: "-rf"`:                   func(o *install.Options) { o.User = "-rf" },
		`--user: "x\nroot ALL`:            func(o *install.Options) { o.User = "x\nroot ALL=(ALL) ALL" },
		"--from: ":                        func(o *install.Options) { o.From = install.From{} },
		"hold the same key":               func(o *install.Options) { o.VMKey.Signer = o.GateKey.Signer },
		"/etc/bgbot/gate_key is named tw": func(o *install.Options) { o.ReadOnly.File = o.GateKey.File },
		`root: "/a'b"`:                    func(o *install.Options) { o.Root = "/a'b" },
		`root: "relative"`:                func(o *install.Options) { o.Root = "relative" },
	} {
		o := whole(t)
		change(&o)
		_, err := install.NewPlan(o)
		if _, ok := errors.AsType[*install.Problem](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	_, err := install.NewPlan(install.Options{})
	if n := strings.Count(err.Error(), "\n  "); n < 6 {
		t.Errorf("not all that is missing was listed: %v", err)
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10.0.20.5": "10.0.20.5", "10.0.20.0/24,fd00::1": "10.0.20.0/24,fd00::1", "any": "any", "::ffff:10.0.0.1": "10.0.0.1", "10.0.0.1/32": "10.0.0.1",
	} {
		f, err := install.ParseFrom(text)
		if err != nil || f.String() != want {
			t.Errorf("%q: %q, %v", text, f, err)
		}
	}
	for text, want := range map[string]string{
		"":                      `"" is neither an IP nor a network`,
		"10.0.0.5,":             `"" is neither`,
		"bot.example.org":       "is neither an IP",
		"10.0.0.*":              "is neither an IP",
		"!10.0.0.1":             "is neither an IP",
		"10.0.0.5 ":             "is neither an IP",
		"10.0.0.5/24":           "write 10.0.0.0/24, or 10.0.0.5",
		"0.0.0.0/0":             "say any if that is meant",
		"::/0":                  "say any if that is meant",
		"0.0.0.0":               "no address that somebody connects from",
		"fe80::1%eth0":          "no address that somebody connects from",
		"224.0.0.1":             "no address that somebody connects from",
		"::ffff:10.0.0.0/120":   "write the network as IPv4",
		`10.0.0.1",command="id`: "is neither an IP",
		"10.0.0.1\nssh-rsa A":   "is neither an IP",
		"any,10.0.0.1":          `"any" is neither`,
	} {
		if f, err := install.ParseFrom(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want %q", text, f, err, want)
		}
	}
}

func FuzzParseFrom(f *testing.F) {
	f.Add("10.0.0.0/8,fd00::1")
	f.Fuzz(func(t *testing.T, text string) {
		from, err := install.ParseFrom(text)
		if err != nil {
			return
		}
		again, err := install.ParseFrom(from.String())
		if err != nil || again.String() != from.String() || strings.ContainsAny(from.String(), "\" \n\\%!*") {
			t.Errorf("%q became %q, %v", text, from, err)
		}
	})
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	o := whole(t)
	var err error
	if o.From, err = install.ParseFrom("10.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	plan, err := install.NewPlan(o)
	if err != nil || len(plan.Warnings) != 1 || plan.Warnings[0] != "--from holds the VM's own address (10.0.10.10): whoever takes over the VM and a key can use the gate from there." {
		t.Errorf("%v, %q", err, plan.Warnings)
	}
}

func TestKeysAreMadeOnceAndStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := install.Options{GateKey: install.Key{File: dir + "/new/gate_key"}, VMKey: install.Key{File: dir + "/new/vm_key"}}
	var out bytes.Buffer
	if err := o.MakeKeys(&out); err != nil {
		t.Fatal(err)
	}
	private, err := os.ReadFile(o.GateKey.File)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil || ssh.FingerprintSHA256(signer.PublicKey()) != ssh.FingerprintSHA256(o.GateKey.Signer.PublicKey()) {
		t.Errorf("the file holds another key: %v", err)
	}
	if info, err := os.Stat(o.GateKey.File); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if public, err := os.ReadFile(o.GateKey.File + ".pub"); err != nil || string(public) != strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))+" bgbot\n" {
		t.Errorf("%s, %v", public, err)
	}
	again := install.Options{GateKey: install.Key{File: o.GateKey.File}, VMKey: o.VMKey}
	if err := again.MakeKeys(&out); !errors.Is(err, fs.ErrExist) || err.Error() != o.GateKey.File+" exists already and is not overwritten." {
		t.Errorf("a key was made over another one: %v", err)
	}
	if now, err := os.ReadFile(o.GateKey.File); err != nil || !bytes.Equal(now, private) {
		t.Error("the key changed")
	}
	if err := os.Remove(o.GateKey.File); err != nil {
		t.Fatal(err)
	}
	if err := again.MakeKeys(&out); err == nil || err.Error() != o.GateKey.File+".pub exists without "+o.GateKey.File+". Move it away, or bring its private key." {
		t.Error(err)
	}
	if left, err := filepath.Glob(dir + "/new/.bgbot-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestTheFragmentIsNotWrittenOverAnything(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "bgbot.yaml")
	if err := install.WriteNew(file, []byte("one\n")); err != nil {
		t.Fatal(err)
	}
	if err := install.WriteNew(file, []byte("two\n")); err == nil || err.Error() != file+" exists already and is not overwritten." {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "one\n" {
		t.Errorf("%q, %v", text, err)
	}
}
