package install

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// String is the plan for a person: a shell script in two halves that says what each part is for. Below its comments
// everything can be pasted as it is.
func (p Plan) String() string {
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	for _, w := range append(p.Warnings, p.unmade()...) {
		line("# ⚠ %s", w)
	}
	line("\n# ━━ 1. On this machine: the keys of the bot, whose private halves stay here, and the gate to the host")
	made := map[string]bool{}
	for _, k := range []struct {
		Key
		name, what string
	}{{p.GateKey, gateKeyName, "gate"}, {p.VMKey, gateKeyName, "VM"}, {p.ReadOnly, readOnlyKeyName, "gate, to look only"}} {
		switch {
		case k.File == "":
		case k.Signer == nil:
			if dir := filepath.Dir(k.File); !made[dir] { // one that is there keeps its mode
				made[dir] = true
				line("mkdir -p -m 700 %s", Quote(dir))
			}
			line("ssh-keygen -q -t ed25519 -N '' -C %s -f %s   # for the %s", k.name, Quote(k.File), k.what)
		default:
			line("# %s is there, for the %s: %s", k.File, k.what, ssh.FingerprintSHA256(k.Signer.PublicKey()))
		}
	}
	line("scp -P %d %s root@%s:%s.new", p.Host.Port(), Quote(cmp.Or(p.Program.File, "pve-gate")), bracketed(p.Host.Addr()), p.host[0].what())
	line("\n# ━━ 2. On the Proxmox host, as root@%s", p.Host.Addr())
	for _, it := range p.host {
		line("\n# %s\n%s", p.about(it), it.paste())
	}
	if !p.SSHD {
		line("\n%s", comment(p.advice()))
	}
	line("\n# ━━ 3. On %s (%s), as root", p.VM, p.Guest)
	for _, it := range p.vm {
		line("\n# %s\n%s", p.about(it), it.paste())
	}
	line("\n# ━━ 4. bgbot.yaml, where the bot runs\n")
	line("%s\n", comment(p.Fragment(nil, nil)))
	line("%s", comment(p.rebuilt()))
	return s.String()
}

// unmade says which keys are not there yet.
func (p Plan) unmade() []string {
	var missing []string
	for _, k := range p.Pairs() {
		if k.Signer == nil {
			missing = append(missing, k.File)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []string{"Not there yet: " + strings.Join(missing, ", ") + ". Make them as in 1, then print this again; until then the lines with KEY-OF-… are not ready to paste."}
}

// about says what an item is for.
func (p Plan) about(it item) string {
	switch it := it.(type) {
	case program:
		return "The gate: the only program that the bot's key can run."
	case folder:
		return "Its journal and the evidence that it keeps."
	case sshd:
		return "How sshd treats the bot's connections."
	case account:
		return "The agent's user. It has no password; the key is the only way in."
	case keys:
		if it.user != "" {
			return "The agent's key. Commands only: no terminal, no forwarding."
		}
		return "The bot's key: this one program for this one VM, from the bot's address."
	case file:
		if it.test == "sudoers" {
			return "The agent repairs as root. This is all power over the VM, and none over the host."
		}
		return "Log rotation, for what the gate has moved aside."
	}
	return it.what()
}

// Fragment is the part of bgbot.yaml that the plan knows. A host key that is not known is left for a person to fill in.
func (p Plan) Fragment(hostKey, vmKey ssh.PublicKey) string {
	section := func(name, address, user string, k Key, pin ssh.PublicKey) string {
		line := "# host_key: not known yet; " + keyscan(address)
		if pin != nil {
			line = fmt.Sprintf("host_key: %q", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pin))))
		}
		return fmt.Sprintf("%s:\n  address: %q\n  user: %s\n  key_file: %q\n  %s\n", name, address, user, k.File, line)
	}
	return fmt.Sprintf("vm: {name: %s, vmid: %d}\n", p.VM, p.VMID) +
		section("gate", p.Host.String(), "root", p.GateKey, hostKey) +
		section("ssh", p.Guest.String(), p.User, p.VMKey, vmKey)
}

// rebuilt says what happens to the pin when the VM is built anew.
func (p Plan) rebuilt() string {
	return fmt.Sprintf(`A rebuilt VM has a new host key, and the bot refuses it until somebody accepts it in the chat, for which the VM needs a
guest agent, or ssh.host_key says so. To be spared that, sign its host key at each rebuild with a key of your own, and
give that as ssh.host_ca in place of ssh.host_key:

  ssh-keygen -t ed25519 -C 'host CA' -f host_ca                      # once; keep it where the VM is built
  ssh-keygen -s host_ca -I %s -h -n %s,%s ssh_host_ed25519_key.pub
  # on the VM: /etc/ssh/ssh_host_ed25519_key-cert.pub, and in sshd_config
  HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub
  # in bgbot.yaml: ssh.host_ca is the text of host_ca.pub
`, p.VM, p.VM, p.Guest.Addr())
}

// bracketed is an address as scp wants it.
func bracketed(ip netip.Addr) string {
	if ip.Is6() {
		return "[" + ip.String() + "]"
	}
	return ip.String()
}

func keyscan(address string) string {
	host, port, _ := net.SplitHostPort(address)
	if port == "22" {
		return "ssh-keyscan -t ed25519 " + host
	}
	return "ssh-keyscan -t ed25519 -p " + port + " " + host
}

// comment makes a text one that a shell skips.
func comment(text string) string {
	var s strings.Builder
	for line := range strings.Lines(text) {
		s.WriteString(strings.TrimRight("# "+line, " \n") + "\n")
	}
	return strings.TrimSuffix(s.String(), "\n")
}
