package install

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// mark begins every file that is wholly ours.
const mark = "# made by `bgbot gate install`, which overwrites changes"

// Plan is everything that stands on both machines when the set-up is done. It is made of nothing but its options.
type Plan struct {
	Options
	// Warnings are sentences about what is allowed but hardly meant.
	Warnings []string

	host, vm []item
}

// item is one thing that stands on a machine.
type item interface {
	what() string
	// paste is what a person types to get it, as root.
	paste() string
	check(context.Context, *Machine) (state, string, error)
	// make puts it in place, whatever check found. Its text is what a person should know, if anything.
	make(context.Context, *Machine) (string, error)
	// remove takes it away. It says absent, removed, or kept and why.
	remove(context.Context, *Machine) (state, string, error)
}

// NewPlan checks the options, all at once. Its error is a [*Problem].
func NewPlan(o Options) (Plan, error) {
	if err := o.check(); err != nil {
		return Plan{}, err
	}
	p := Plan{Options: o}
	p.host = []item{
		program{path: o.path("/usr/local/sbin/pve-gate"), owner: o.owner("root"), program: o.Program},
		folder{path: o.path("/var/log/pve-gate"), mode: "700", owner: o.owner("root")},
		file{path: o.path("/etc/logrotate.d/pve-gate"), mode: "644", owner: o.owner("root"), content: o.logrotate(), test: "none"},
	}
	if o.SSHD {
		p.host = append(p.host, o.sshd())
	}
	p.host = append(p.host, o.gateKeys()) // last: a key that works before the rest does would be half a thing
	if o.User != "root" {
		p.vm = []item{account{user: o.User}, o.sudoers()}
	}
	p.vm = append(p.vm, o.loginKeys())
	p.warn()
	return p, nil
}

func (p *Plan) warn() {
	add := func(format string, args ...any) { p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...)) }
	if p.From.any {
		add("--from any: whoever gets hold of a key can use it from everywhere.")
	} else if p.From.Contains(p.Guest.Addr()) {
		add("--from holds the VM's own address (%s): whoever takes over the VM and a key can use the gate from there.", p.Guest.Addr())
	}
}

// owner is user:group on the far side. Below another root there is only one user.
func (o Options) owner(user string) string {
	if o.Root != "" {
		return "-"
	}
	return user + ":" + user
}

// gate is the command line of a key on the Proxmox host.
func (o Options) gate(key string, more ...string) []string {
	words := append([]string{o.path("/usr/local/sbin/pve-gate"), "--vmid", fmt.Sprint(o.VMID), "--key", key}, more...)
	words = append(words, "--format", "jsonl", "--ssh", o.Guest.String())
	if o.Root != "" {
		words = append(words, "--qm", o.path("/usr/sbin/qm"), "--run-dir", o.path("/run"), "--state-dir", o.path("/var/log/pve-gate"))
	}
	return words
}

// keyNames are how the journal and the files call the keys.
const (
	gateKeyName     = "bgbot"
	readOnlyKeyName = "bgbot-ro"
	readOnlyVerbs   = "status,forensics"
)

func (o Options) gateKeys() keys {
	// No word of the command line has a blank or a quote; check has seen to that.
	line := func(k Key, name string, more ...string) string {
		return fmt.Sprintf(`restrict,command="%s"%s %s`, strings.Join(o.gate(name, more...), " "), o.From.option(), k.line(name))
	}
	b := block{name: fmt.Sprintf("vm%d", o.VMID), lines: []string{line(o.GateKey, gateKeyName)}}
	held := []Key{o.GateKey}
	if o.ReadOnly.File != "" {
		b.lines = append(b.lines, line(o.ReadOnly, readOnlyKeyName, "--allow", readOnlyVerbs))
		held = append(held, o.ReadOnly)
	}
	// Proxmox makes it a symlink into /etc/pve, which all nodes of a cluster share.
	return keys{home: o.path("/root"), block: b, keys: publics(held), links: true, owner: "-"}
}

func (o Options) loginKeys() keys {
	b := block{name: o.User, lines: []string{"restrict" + o.From.option() + " " + o.VMKey.line(gateKeyName)}}
	return keys{user: o.User, block: b, keys: publics([]Key{o.VMKey}), owner: strings.Replace(o.owner(o.User), ":"+o.User, ":", 1)}
}

func publics(list []Key) []ssh.PublicKey {
	var out []ssh.PublicKey
	for _, k := range list {
		if k.Signer != nil {
			out = append(out, k.Signer.PublicKey())
		}
	}
	return out
}

func (o Options) logrotate() string {
	return mark + `
# The gate bounds its own files: it moves a full journal aside to VMID.jsonl.1 and deletes old forensics. This keeps some
# of what it moved aside, which it would replace the next time. The journal that is in use is left alone.
` + o.path("/var/log/pve-gate/*.jsonl.1") + ` {
	weekly
	rotate 12
	compress
	nodateext
	missingok
	notifempty
	nocreate
}
`
}

func (o Options) sudoers() file {
	return file{
		path: o.path("/etc/sudoers.d/bgbot-" + o.User), mode: "440", owner: o.owner("root"), test: "sudoers", needs: "visudo",
		content: mark + "\n" + o.User + " ALL=(ALL:ALL) NOPASSWD: ALL\n",
	}
}
