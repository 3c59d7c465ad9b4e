package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"bgbot/config"
	"bgbot/internal/sshagent"
	"bgbot/pve"
	"bgbot/pve/install"
)

const gateAbout = `
Sets up the two machines that bgbot reaches, once: pve-gate and its key on the Proxmox host, the agent's user on the VM.

  bgbot gate install --host root@192.168.1.127 --vm admin@10.0.10.10 --vmid 102 --from 10.0.20.5
               prints every file and command, to read or to paste; nothing is done
  … --apply    does it over SSH, and ends with the lines for bgbot.yaml
  … --check    compares and changes nothing; exit 1 if something differs
  … --remove   takes away what --apply made; the journal and the evidence on the host stay

Run it again whenever you like: each step says whether it changed anything. You need SSH as root to the host, and to the
VM as a user who may sudo without a password (or as root). The bot's private keys are made here and never leave this
machine. What bgbot.yaml says already need not be said again.`

// gateFlags are the command line.
type gateFlags struct {
	config, host, vm, from, user, keys, readOnly, identity, binary, write, root string
	vmid                                                                        int
	apply, check, remove, sshd                                                  bool
	accept, known                                                               []string
}

func runGate(ctx context.Context, e env, args []string) (int, error) {
	var f gateFlags
	fs := flags(e, "gate", gateAbout)
	several := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, s); return nil }
	}
	fs.StringVar(&f.config, "c", "", "the configuration `file`, if there is one already")
	fs.BoolVar(&f.apply, "apply", false, "do it")
	fs.BoolVar(&f.check, "check", false, "compare what is there")
	fs.BoolVar(&f.remove, "remove", false, "take it away again")
	fs.StringVar(&f.host, "host", "", "`root@IP[:PORT]` of the Proxmox host; gate.address if not given")
	fs.StringVar(&f.vm, "vm", "", "`USER@IP[:PORT]` of the VM; without USER nothing is done there; ssh.address if not given")
	fs.IntVar(&f.vmid, "vmid", 0, "the `number` of the VM; vm.vmid if not given")
	fs.StringVar(&f.from, "from", "", "the `addresses` that the bot connects from: IPs and networks with commas between, or any")
	fs.StringVar(&f.identity, "identity", "", "your own private key `file`; without it the SSH agent, else ~/.ssh/id_*")
	fs.StringVar(&f.binary, "binary", "", "the pve-gate `file` to install; the one beside bgbot if not given")
	fs.StringVar(&f.keys, "keys", "", "the `folder` of the bot's keys; /etc/bgbot for root, else ~/.config/bgbot")
	fs.StringVar(&f.user, "user", "", "the agent's `user` on the VM; ssh.user if not given, which is breakglass")
	fs.StringVar(&f.readOnly, "read-only-key", "", "let this key `file` in at the gate too, to look only; made if it is not there")
	fs.BoolVar(&f.sshd, "sshd", false, "give sshd on the host a file too: keepalives, and no lock-out of the bot")
	fs.Func("known-hosts", "a known_hosts `file` in place of ssh's own; its certificate authorities are not used; may be given again", several(&f.known))
	fs.Func("accept-host-key", "`IP[:PORT]=SHA256:…`, the fingerprint of a machine that nobody here knows yet; may be given again", func(s string) error {
		address, fingerprint, _ := strings.Cut(s, "=")
		_, err := netip.ParseAddr(address)
		_, errPort := netip.ParseAddrPort(address)
		if err != nil && errPort != nil || !strings.HasPrefix(fingerprint, "SHA256:") {
			return errors.New("say whose it is, as in 192.168.1.127=SHA256:…")
		}
		f.accept = append(f.accept, s)
		return nil
	})
	fs.StringVar(&f.write, "write", "", "with --apply: write the lines for bgbot.yaml into this new `file`")
	fs.StringVar(&f.root, "root", "", "the `folder` below which all paths over there lie; for tests")
	words, err := parse(fs, args, 1)
	if err != nil {
		return exitUsage, err
	}
	if len(words) == 0 || words[0] != "install" {
		fs.Usage()
		return exitUsage, errors.New("say: bgbot gate install")
	}
	g, err := newGateInstall(e, f)
	if err != nil {
		return exitUsage, err
	}
	return g.run(ctx)
}

// gateInstall is one run of the command.
type gateInstall struct {
	gateFlags
	e        env
	options  install.Options
	host, vm far
	signers  []ssh.Signer // of the person who installs
}

// far is a machine and how its host key is learned. Its User is "" if nobody said whom to log in as.
type far struct {
	install.Login
	trust install.Trust
}

// newGateInstall puts the flags and the configuration together. The configuration may be wrong wherever it likes: half of
// what it needs is only about to be made.
func newGateInstall(e env, f gateFlags) (*gateInstall, error) {
	g := &gateInstall{gateFlags: f, e: e}
	if f.config == "" { // a half-filled bgbot.yaml is read when it lies here, so errors name it
		var err error
		if g.config, _, err = find(); err != nil {
			return nil, err
		}
	}
	cfg, _, err := loadWithout(g.config, e.environ, "vm", "gate", "ssh", "auth", "slack", "mattermost", "confirm", "agent", "watch", "mirror", "store", "http", "log")
	switch {
	case err != nil:
		return nil, err
	case f.apply && (f.check || f.remove) || f.check && f.remove:
		return nil, errors.New("say one of --apply, --check and --remove")
	case f.write != "" && !f.apply:
		return nil, errors.New("--write goes with --apply: before, nobody knows the host keys")
	case cfg.Gate.User != "root":
		return nil, fmt.Errorf("gate.user is %s, but the gate works as root only; leave the key out", cfg.Gate.User)
	}
	g.options = install.Options{VMID: cmp.Or(f.vmid, cfg.VM.VMID), VM: cfg.VM.Name, User: cmp.Or(f.user, cfg.SSH.User), SSHD: f.sshd, Root: f.root}
	g.host.User = "root"
	if err := g.far(&g.host, "the Proxmox host", "--host", f.host, "gate", cfg.Gate); err != nil {
		return nil, err
	}
	if err := g.far(&g.vm, cfg.VM.Name, "--vm", f.vm, "ssh", cfg.SSH); err != nil {
		return nil, err
	}
	g.vm.Sudo = g.vm.User != "root"
	g.options.Host, g.options.Guest = g.host.Address, g.vm.Address
	if f.from != "" {
		if g.options.From, err = install.ParseFrom(f.from); err != nil {
			return nil, err
		}
	}
	dir := cmp.Or(f.keys, g.keyFolder())
	g.options.GateKey.File = cmp.Or(cfg.Gate.KeyFile, filepath.Join(dir, "gate_key"))
	g.options.VMKey.File = cmp.Or(cfg.SSH.KeyFile, filepath.Join(dir, "vm_key"))
	g.options.ReadOnly.File = f.readOnly
	return g, g.readKeys()
}

// far settles where a machine is and what is known of its host key.
func (g *gateInstall) far(m *far, name, flagName, given, section string, h config.Host) error {
	m.Name, m.Root = name, g.root
	m.trust = install.Trust{KnownHosts: g.known, Accept: g.accept}
	if len(g.known) == 0 {
		m.trust.KnownHosts = []string{filepath.Join(g.getenv("HOME"), ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"}
	}
	if given == "" {
		flagName = ""
	}
	user, address, found := strings.Cut(cmp.Or(given, h.Address), "@")
	if !found {
		user, address = "", user
	}
	m.User = cmp.Or(user, m.User)
	if address == "" {
		return nil // NewPlan lists all that is missing
	}
	if ip, err := netip.ParseAddr(strings.Trim(address, "[]")); err == nil {
		m.Address = netip.AddrPortFrom(ip, 22)
	} else if m.Address, err = netip.ParseAddrPort(address); err != nil {
		return fmt.Errorf("%s: %q is not USER@IP or USER@IP:PORT; an IP and no name, for there may be no DNS in an incident", cmp.Or(flagName, section+".address"+g.inFile()), cmp.Or(given, h.Address))
	}
	if h.HostKey == "" || h.Address != m.Address.String() { // it would be another machine's
		return nil
	}
	pin, err := pve.ParseHostKey(h.HostKey)
	if err != nil {
		return fmt.Errorf("%s.host_key%s: %w", section, g.inFile(), err)
	}
	m.trust.Pin = pin
	return nil
}

func (g *gateInstall) inFile() string {
	if g.config == "" {
		return ""
	}
	return " in " + g.config
}

func (g *gateInstall) keyFolder() string {
	if home := g.getenv("HOME"); home != "" && os.Geteuid() != 0 {
		return filepath.Join(home, ".config", "bgbot")
	}
	return "/etc/bgbot"
}

// readKeys reads those of the bot's keys that are there.
func (g *gateInstall) readKeys() error {
	for _, k := range g.options.Pairs() {
		var err error
		if k.File, err = filepath.Abs(k.File); err != nil {
			return err
		}
		if strings.HasSuffix(k.File, ".pub") {
			return fmt.Errorf("%s: name the private key, without .pub", k.File)
		}
		if _, err := os.Lstat(k.File); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if k.Signer, err = sshagent.ReadKey(k.File); err != nil {
			return err
		}
	}
	return nil
}

func (g *gateInstall) getenv(name string) string {
	for _, pair := range g.e.environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

func (g *gateInstall) run(ctx context.Context) (int, error) {
	switch {
	case !g.apply && !g.check && !g.remove:
		return g.print()
	case g.remove: // what was said when it was made is no matter
		g.options.From, g.options.SSHD = install.Anywhere(), true
	}
	if err := g.early(); err != nil {
		return exitUsage, err
	}
	release, err := g.identities(ctx)
	if err != nil {
		return exitUsage, err
	}
	defer release()
	host, err := g.reach(ctx, g.host, nil)
	if err != nil {
		return exitError, err
	}
	defer func() { _ = host.Close() }()
	if g.from == "" && !g.remove {
		return exitUsage, fmt.Errorf("--from is missing: the address that the bot connects from. %s sees this machine as %s; "+
			"if the bot runs here, say --from %s", host.Name, host.Client, host.Client)
	}
	var vm *install.Machine
	if g.vm.User != "" {
		if vm, err = g.reach(ctx, g.vm, host); err != nil {
			return exitError, err
		}
		defer func() { _ = vm.Close() }()
	}
	vmKey := g.vm.trust.Pin
	if vm != nil {
		vmKey = vm.HostKey
	}
	if err := install.Distinct(host.HostKey, vmKey); err != nil {
		return exitError, err
	}
	return g.work(ctx, host, vm)
}

// early says what is missing before anything is asked. Only --from may wait, until the host has seen us.
func (g *gateInstall) early() error {
	if g.write != "" {
		if _, err := os.Lstat(g.write); err == nil {
			return fmt.Errorf("%s exists already and is not overwritten; --write another file", g.write)
		}
	}
	o := g.options
	if g.from == "" {
		o.From = install.Anywhere()
	}
	_, err := install.NewPlan(o)
	return err
}

func (g *gateInstall) print() (int, error) {
	if p, err := g.program(""); err == nil {
		g.options.Program = p
	}
	plan, err := install.NewPlan(g.options)
	if err != nil {
		return exitUsage, err
	}
	fmt.Fprintf(g.e.out, "# What `bgbot gate install` would set up. Nothing has been done. Say the same with --apply to have it done.\n%s", plan)
	return exitOK, nil
}

// program is the pve-gate for a machine, or for any.
func (g *gateInstall) program(arch string) (install.Program, error) {
	if g.binary != "" {
		return install.ReadProgram(g.binary)
	}
	self, err := os.Executable()
	if err != nil {
		return install.Program{}, err
	}
	return install.FindProgram(filepath.Dir(self), arch)
}

// work does what was asked, on machines that are logged in to.
func (g *gateInstall) work(ctx context.Context, host, vm *install.Machine) (int, error) {
	o := &g.options
	if !g.remove {
		var err error
		if o.Program, err = g.program(host.Arch); err != nil {
			return exitError, err
		}
		o.OpenSSH = host.OpenSSH
	}
	if g.apply {
		fmt.Fprintln(g.e.out)
		if err := o.MakeKeys(g.e.out); err != nil {
			return exitError, err
		}
	}
	plan, err := install.NewPlan(*o)
	if err != nil {
		return exitUsage, err
	}
	w := install.Work{Plan: plan, Host: host, VM: vm, Out: g.e.out}
	if g.remove {
		if err := w.Remove(ctx); err != nil {
			return exitError, err
		}
		fmt.Fprintln(g.e.out, "\nThe bot's keys on this machine are left; you may delete them.")
		return exitOK, nil
	}
	for _, warning := range plan.Warnings {
		fmt.Fprintln(g.e.out, "\n⚠", warning)
	}
	if g.check {
		return g.verdict(w.Check(ctx))
	}
	good, vmKey, err := w.Apply(ctx)
	if err != nil {
		return exitError, err
	}
	if vmKey == nil {
		vmKey = g.vm.trust.Pin
	}
	if err := g.fragment(plan.Fragment(host.HostKey, vmKey)); err != nil {
		return exitError, err
	}
	if !good {
		return exitError, errors.New("everything is in place, but it does not work yet; see ✗ above")
	}
	return exitOK, nil
}

func (g *gateInstall) verdict(good bool, err error) (int, error) {
	switch {
	case err != nil:
		return exitError, err
	case !good:
		fmt.Fprintln(g.e.out, "\nSomething differs. The same with --apply puts in place what is missing or differs.")
		return exitError, nil
	}
	fmt.Fprintln(g.e.out, "\nAll is as it should be.")
	return exitOK, nil
}

func (g *gateInstall) fragment(text string) error {
	fmt.Fprintln(g.e.out, "\nThe private keys are on this machine alone. If the bot runs elsewhere, take them there and correct key_file.")
	if g.write == "" {
		if g.host.trust.Pin != nil && g.vm.trust.Pin != nil { // the configuration has it all
			return nil
		}
		fmt.Fprintf(g.e.out, "For bgbot.yaml:\n\n%s\nThen: bgbot doctor -c bgbot.yaml\n", text)
		return nil
	}
	if err := install.WriteNew(g.write, []byte(text)); err != nil {
		return err
	}
	fmt.Fprintf(g.e.out, "Wrote %s. Add the chat and who may act, then: bgbot doctor -c %s\n", g.write, g.write)
	return nil
}
