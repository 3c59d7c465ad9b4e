// Package install sets up the far side: pve-gate and its keys on the Proxmox host, the agent's login on the VM. It owns
// what stands there, how it is compared, put in place and taken away, and how a host key is accepted for the first time.
// It does not run on the far side, reads no configuration, and decides nothing about verbs: that is pve/gate's.
package install

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Options say what is to be set up. They are checked by [NewPlan].
type Options struct {
	VMID  int
	VM    string         // the VM's name, as people and the agent call it
	Host  netip.AddrPort // the Proxmox host's SSH
	Guest netip.AddrPort // the VM's SSH
	User  string         // the agent's user on the VM; root is one that exists
	From  From           // where the bot connects from

	GateKey  Key
	VMKey    Key
	ReadOnly Key // a second key for the gate that may look only; none if it has no File

	Program Program // pve-gate; only Apply and Check need it

	SSHD    bool   // sshd on the host gets a file of ours as well
	OpenSSH string // the version of the host's sshd, such as "9.2", if it is known

	// Root is a folder below which all paths of the far side lie; programs are looked for there first. It is "" but in
	// tests.
	Root string
}

// Key is a key pair of the bot on this machine.
type Key struct {
	File   string     // the private key
	Signer ssh.Signer // nil as long as there is no such file
}

// line is the public key as authorized_keys has it.
func (k Key) line(comment string) string {
	if k.Signer == nil {
		return fmt.Sprintf("KEY-OF-%s.pub %s", k.File, comment)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.Signer.PublicKey()))) + " " + comment
}

// Problem is what a person must know or mend.
type Problem struct {
	Text string // sentences
	Err  error  // what is behind it, if anything
}

func (p *Problem) Error() string { return p.Text }

// UserMessage is the problem as a person reads it.
func (p *Problem) UserMessage() string { return p.Text }

func (p *Problem) Unwrap() error { return p.Err }

func problem(format string, args ...any) *Problem {
	return &Problem{Text: fmt.Sprintf(format, args...)}
}

// The names that go into command lines and files over there. They are strict, since a shell and sshd read them.
var (
	userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`) // no dot: sudo skips a file whose name has one
	vmName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	rootName = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)*$`)
)

// check lists everything that is wrong at once.
func (o Options) check() error {
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if o.VMID < 100 || o.VMID > 999999999 {
		add("--vmid: the number of the VM, 100 or more; `qm list` on the Proxmox host shows it")
	}
	if !vmName.MatchString(o.VM) || o.VM == "pve" {
		add("vm.name: %q is not a simple name of a-z, 0-9 and -", o.VM)
	}
	if !o.Host.IsValid() {
		add("--host: where the Proxmox host answers, such as root@192.168.1.127, or gate.address of the configuration")
	}
	if !o.Guest.IsValid() {
		add("--vm: where the VM's sshd answers, such as admin@10.0.10.10, or ssh.address of the configuration")
	}
	if o.Host.IsValid() && o.Host == o.Guest {
		add("--vm: %s is the Proxmox host itself", o.Guest)
	}
	if !userName.MatchString(o.User) {
		add("--user: %q is not a user's name of a-z, 0-9, _ and -", o.User)
	}
	if o.From.none() {
		add("--from: the address that the bot connects from, such as 10.0.20.5 or 10.0.20.0/24,192.168.1.50; or any")
	}
	if o.GateKey.File == "" || o.VMKey.File == "" {
		add("--keys: where the keys of the bot are, or are to be made")
	}
	if same := o.sameKey(); same != "" {
		add("--keys: %s; each way in needs a key of its own", same)
	}
	if !rootName.MatchString(o.Root) {
		add("root: %q is not a plain path", o.Root)
	}
	if len(wrong) == 0 {
		return nil
	}
	return &Problem{Text: "Something is missing or wrong:\n  " + strings.Join(wrong, "\n  "), Err: errors.New("incomplete options")}
}

// sameKey finds two keys that are one. A key in two lines would get whatever the first of them gives.
func (o Options) sameKey() string {
	keys := []Key{o.GateKey, o.VMKey, o.ReadOnly}
	for i, a := range keys {
		for _, b := range keys[i+1:] {
			if a.File != "" && a.File == b.File {
				return a.File + " is named twice"
			}
			if a.Signer != nil && b.Signer != nil && equal(a.Signer.PublicKey(), b.Signer.PublicKey()) {
				return a.File + " and " + b.File + " hold the same key"
			}
		}
	}
	return ""
}

func equal(a, b ssh.PublicKey) bool { return string(a.Marshal()) == string(b.Marshal()) }

// path is a path on the far side.
func (o Options) path(p string) string { return o.Root + p }
