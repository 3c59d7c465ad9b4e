package install_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"bgbot/pve"
	"bgbot/pve/install"
)

func TestFromNothingToARunningGateAndBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.options.SSHD = true
	r.host.sshdConfig()
	before := r.host.read("root/.ssh/authorized_keys")

	r.says(r.apply(r.options),
		"the Proxmox host, 127.0.0.1:",
		"✓ made       ROOT/usr/local/sbin/pve-gate", "sha256 ",
		"✓ made       ROOT/var/log/pve-gate",
		"✓ made       ROOT/etc/logrotate.d/pve-gate",
		"✓ made       ROOT/etc/ssh/sshd_config.d/50-bgbot.conf", "sshd has read it",
		"✓ made       ROOT/root/.ssh/authorized_keys", "2 keys",
		"✓ ok         status through the gate", "with the new key: VM 102 is stopped.",
		"devvm, 127.0.0.1:",
		"✓ made       user breakglass",
		"✓ made       ROOT/etc/sudoers.d/bgbot-breakglass",
		"✓ made       ~breakglass/.ssh/authorized_keys", "1 key",
		"✓ ok         sudo of breakglass", "works without a password",
		"✓ ok         login with the new key", "works")
	good, said := r.check(r.options)
	if !good || strings.Contains(said, "✗") {
		t.Errorf("check after apply:\n%s", said)
	}
	r.theKeysDoWhatTheySay()

	once := r.host.tree()
	if said := r.apply(r.options); strings.Contains(said, "✓ made") || strings.Contains(said, "✓ changed") {
		t.Errorf("the second time:\n%s", said)
	}
	if again := r.host.tree(); again != once {
		t.Errorf("the second time wrote files:\n%s\nbefore:\n%s", again, once)
	}

	r.says(r.remove(r.options),
		"✓ removed    ROOT/root/.ssh/authorized_keys", "the block vm102; the other lines are as they were",
		"✓ removed    ROOT/etc/ssh/sshd_config.d/50-bgbot.conf",
		"✓ removed    ROOT/etc/logrotate.d/pve-gate",
		"- kept       ROOT/var/log/pve-gate", "the journal and the evidence in it are yours",
		"✓ removed    ROOT/usr/local/sbin/pve-gate",
		"✓ removed    ~breakglass/.ssh/authorized_keys",
		"✓ removed    ROOT/etc/sudoers.d/bgbot-breakglass",
		"✓ removed    user breakglass")
	if after := r.host.read("root/.ssh/authorized_keys"); after != before {
		t.Errorf("the other lines of authorized_keys:\n%q\nbefore:\n%q", after, before)
	}
	if left := r.host.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if said := r.remove(r.options); strings.Contains(said, "✓ removed") || strings.Contains(said, "✗") {
		t.Errorf("removed twice:\n%s", said)
	}
	if _, exit := knock(t, r.host, r.options.GateKey, nil, "status"); exit != 255 {
		t.Errorf("the key is still let in: exit %d", exit)
	}
}

// theKeysDoWhatTheySay logs in with the installed keys, as the bot would and as somebody would who stole them.
func (r *rig) theKeysDoWhatTheySay() {
	t := r.t
	t.Helper()
	keys := r.options
	for _, c := range []struct {
		what    string
		key     install.Key
		options []string
		args    []string
		exit    pve.Exit
	}{
		{"a status", keys.GateKey, nil, []string{"status"}, pve.Done},
		{"a status, to look only", keys.ReadOnly, nil, []string{"status"}, pve.Done},
		{"a change, to look only", keys.ReadOnly, nil, []string{"cycle"}, pve.Rejected},
		{"a shell", keys.GateKey, nil, nil, pve.Rejected},
		{"another program", keys.GateKey, nil, []string{"id; id"}, pve.Rejected},
		{"a subsystem", keys.GateKey, []string{"-s"}, []string{"sftp"}, pve.Rejected},
	} {
		out, exit := knock(t, r.host, c.key, c.options, c.args...)
		var last struct{ Result *pve.Result }
		for line := range strings.Lines(out) {
			_ = json.Unmarshal([]byte(line), &last)
		}
		if last.Result == nil || exit != int(c.exit) || last.Result.Exit != c.exit || last.Result.VMID != 102 {
			t.Errorf("%s: exit %d, want %d:\n%s", c.what, exit, c.exit, out)
		}
	}
	if out, _ := knock(t, r.host, keys.GateKey, []string{"-tt"}, "status"); !strings.Contains(out, "PTY allocation request failed") {
		t.Errorf("a terminal:\n%s", out)
	}
	if out, exit := knock(t, r.vm, keys.VMKey, nil, "echo $((40+2))"); exit != 0 || strings.TrimSpace(out) != "42" {
		t.Errorf("the agent's key: exit %d, %q", exit, out)
	}
	if _, exit := knock(t, r.host, keys.VMKey, nil, "status"); exit != 255 {
		t.Errorf("the agent's key is let in at the host: exit %d", exit)
	}
	if journal := r.host.read("var/log/pve-gate/102.rejected.jsonl"); !strings.Contains(journal, `"key":"bgbot-ro"`) {
		t.Errorf("the gate did not note the rejection:\n%s", journal)
	}
}

func TestThePrintedPlanDoesTheSame(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.options.SSHD = true
	r.host.sshdConfig()
	plan, err := install.NewPlan(r.options)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(plan.String(), "# ━━ 2.")
	script, _, _ := strings.Cut(rest, "# ━━ 4.")
	script = strings.ReplaceAll("#"+script, "~breakglass", r.host.at("home/breakglass"))
	script = strings.ReplaceAll(script, "chown ", "# chown ") // there is no such user
	gate, err := os.ReadFile(r.options.Program.File)
	if err != nil {
		t.Fatal(err)
	}
	r.host.write("usr/local/sbin/pve-gate.new", string(gate))
	r.host.must(os.MkdirAll(r.host.at("etc/logrotate.d"), 0o755))
	r.host.must(os.MkdirAll(r.host.at("etc/sudoers.d"), 0o755))
	r.host.shell("set -e\n" + script)

	good, said := r.check(r.options)
	if !good {
		t.Errorf("check after pasting:\n%s", said)
	}
	if !strings.HasPrefix(r.host.read("root/.ssh/authorized_keys"), foreign+"\n") {
		t.Error("the other lines of authorized_keys were changed")
	}
	if said := r.apply(r.options); strings.Contains(said, "✓ made") || strings.Contains(said, "✓ changed") {
		t.Errorf("apply after pasting:\n%s", said)
	}
}

func TestChangedSettingsReplaceOnlyOurBlock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.apply(r.options)
	mine := r.host.read("root/.ssh/authorized_keys")
	r.host.write("root/.ssh/authorized_keys", "# above\n"+mine+"\n# below")

	o := r.options
	o.From, o.ReadOnly = r.from("127.0.0.0/8"), install.Key{}
	good, said := r.check(o)
	if good {
		t.Errorf("check says that all is well:\n%s", said)
	}
	r.says(said, "✗ differs    ROOT/root/.ssh/authorized_keys", "the block vm102 is another one", "✗ differs    ~breakglass")
	r.says(r.apply(o), "✓ unchanged  ROOT/usr/local/sbin/pve-gate", "✓ changed    ROOT/root/.ssh/authorized_keys", "1 key")
	now := r.host.read("root/.ssh/authorized_keys")
	if !strings.HasPrefix(now, "# above\n# bgbot vm102 begin:") || !strings.HasSuffix(now, "# bgbot vm102 end\n"+foreign+"\n# below") {
		t.Errorf("the lines around the block were moved:\n%s", now)
	}
	if strings.Contains(now, "bgbot-ro") || !strings.Contains(now, `,from="127.0.0.0/8" ssh-ed25519 `) {
		t.Errorf("the block:\n%s", now)
	}
}

func TestTwoVMsOnOneHost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.options, r.keys(r.optionsFor(103))
	r.apply(one)
	r.vm = nil // the second VM is somewhere else
	r.says(r.apply(two), "✓ unchanged  ROOT/usr/local/sbin/pve-gate", "✓ made       ROOT/root/.ssh/authorized_keys",
		"VM 103 is stopped", "devvm: nothing was done there; say --vm USER@127.0.0.1 for that")
	r.says(r.remove(one), "✓ removed    ROOT/root/.ssh/authorized_keys", "the block vm102",
		"- kept       ROOT/etc/logrotate.d/pve-gate", "also for vm103",
		"- kept       ROOT/usr/local/sbin/pve-gate", "also for vm103")
	if _, exit := knock(t, r.host, two.GateKey, nil, "status"); exit != 0 {
		t.Errorf("the other VM's key: exit %d", exit)
	}
	if good, said := r.check(two); !good {
		t.Errorf("the other VM's half:\n%s", said)
	}
	r.says(r.remove(two), "✓ removed    ROOT/root/.ssh/authorized_keys", "✓ removed    ROOT/usr/local/sbin/pve-gate")
	if got := r.host.read("root/.ssh/authorized_keys"); got != foreign {
		t.Errorf("the other lines:\n%q", got)
	}
}

func TestABotThatRunsElsewhere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.options.From = r.from("192.0.2.7")
	r.says(r.apply(r.options), "✓ ok         status through the gate", "as root, for --from does not let the key in from here: VM 102 is stopped.",
		"- skipped    login with the new key", "`bgbot doctor` tries it where the bot runs")
	for _, k := range []install.Key{r.options.GateKey, r.options.ReadOnly} {
		if _, exit := knock(t, r.host, k, nil, "status"); exit != 255 {
			t.Errorf("a key is let in from an address that from= does not hold: exit %d", exit)
		}
	}
}
