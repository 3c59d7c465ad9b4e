package evidence_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"bgbot/pve/gate/evidence"
)

func TestSecretsAreTakenOut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"cloud-init", "ciuser: dev\ncipassword: hunter2\nname: devvm\n", "ciuser: dev\ncipassword: [redacted]\nname: devvm\n"},
		{"qm pending", "cur cipassword: old\nnew cipassword: new\ndel cipassword: gone\ncur cores: 4\n", "cur cipassword: [redacted]\nnew cipassword: [redacted]\ndel cipassword: [redacted]\ncur cores: 4\n"},
		{"keys, encoded", "sshkeys: ssh-ed25519%20AAAA%20a%40b%0Assh-rsa%20BBBB\nvga: std\n", "sshkeys: [redacted]\nvga: std\n"},
		{"keys, on lines of their own", "sshkeys: ssh-ed25519 AAAA a@b\nssh-rsa BBBB key: two\nssh-rsa CCCC\nvga: std\n", "sshkeys: [redacted]\nvga: std\n"},
		{"a description of many lines", "cur description: root pw\n\nis hunter2\ncur vga: std\n", "cur description: [redacted]\ncur vga: std\n"},
		{"arguments of QEMU", "args: -object secret,id=a,data=hunter2 -foo\nboot: c\n", "args: [redacted]\nboot: c\n"},
		{"no such key", "argsy: x\nnet0: virtio=AA:BB,bridge=vmbr0\n", "argsy: x\nnet0: virtio=AA:BB,bridge=vmbr0\n"},
		{"a command line in a task log", "start failed: command '/usr/bin/kvm -id 102 -object secret,id=a,data=hunter2 -m 4' failed", "start failed: command '/usr/bin/kvm -id 102 -object secret,[redacted] -m 4' failed"},
		{"the same as JSON", `kvm -object {"data":"hunter2","id":"a","qom-type":"secret"} -m 4`, `kvm -object [redacted] -m 4`},
		{"a word and its value", "pvedaemon: login password=hunter2, token: abc, user=x", "pvedaemon: login password=[redacted], token: [redacted], user=x"},
		{"a quoted one", `vnc "ticket_secret": "hunter2" ok`, `vnc "ticket_secret": "[redacted]" ok`},
		{"an address", "mount nfs://bob:hunter2@10.0.0.1/x failed", "mount nfs://bob:[redacted]@10.0.0.1/x failed"},
		{"a Ceph key in a drive", "kvm -drive file=rbd:rpool/vm-102-disk-0:mon_host=10.0.0.1:id=admin:key=AQBhx/9==:conf=/etc/ceph.conf,if=none", "kvm -drive file=rbd:rpool/vm-102-disk-0:mon_host=10.0.0.1:id=admin:key=[redacted]:conf=/etc/ceph.conf,if=none"},
		{"a Ceph keyring", "[client.admin]\n\tkey = AQBhx/9==\n\tcaps mon = x\n", "[client.admin]\n\tkey = [redacted]\n\tcaps mon = x\n"},
		{"a password between colons", "rbd:pool/image:password=hunter2:id=x", "rbd:pool/image:password=[redacted]:id=x"},
		{"a key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbg==\n-----END OPENSSH PRIVATE KEY-----\n", "-----BEGIN OPENSSH PRIVATE KEY-----[redacted]-----END OPENSSH PRIVATE KEY-----\n"},
		{"words that only sound so", "Enter passphrase for sda3\nmonkey: see\nkeyboard: de\n", "Enter passphrase for sda3\nmonkey: see\nkeyboard: de\n"},
	} {
		if got := evidence.Clean(tt.in); got != tt.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

func TestForeignTextIsMadeFitToPrint(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"colours", "\x1b[1;31mred\x1b[0m \x1b]0;title\x07x", "red x"},
		{"half an escape sequence", "a\x1b", "a"},
		{"bells and carriage returns", "a\r\nb\a\x00\x7f", "a\nb"},
		{"no UTF-8", "a\xff\xfeb", "a\uFFFDb"},
		{"letters that turn the line around", "a\u202eb\u200bc\u2028d", "abcd"},
		{"tabs and other letters stay", "\tä 漢 🔴\n", "\tä 漢 🔴\n"},
	} {
		if got := evidence.Clean(tt.in); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	long := evidence.Clean("sshkeys: " + strings.Repeat("x", 200_000) + "\n" + strings.Repeat("ä", 40_000) + "end")
	if len(long) > 25<<10 || strings.Contains(long, "x") || !strings.HasSuffix(long, "end") || !utf8.ValidString(long) {
		t.Errorf("a long answer of %d bytes keeps its end: %.20q … %q", len(long), long, long[len(long)-5:])
	}
}

func FuzzClean(f *testing.F) {
	f.Add("cipassword: hunter2\nargs: x\n\x1b[0m\xff\u202e")
	f.Fuzz(func(t *testing.T, in string) {
		got := evidence.Clean(in)
		if !utf8.ValidString(got) {
			t.Errorf("not UTF-8: %q", got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) }) {
			t.Errorf("control characters are left: %q", got)
		}
		if strings.HasPrefix(in, "cipassword: hunter2\n") && strings.Contains(got, "hunter2") {
			t.Errorf("a secret is left: %q", got)
		}
	})
}
