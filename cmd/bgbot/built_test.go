package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"bgbot/internal/lab"
)

// built is the binary as people get it, with the Makefile's flags; the test binary is twice its size.
func built(b *testing.B) string {
	b.Helper()
	if out, err := exec.Command("make", "-s", "-C", "../..", "build").CombinedOutput(); err != nil {
		b.Fatalf("make build: %v: %s", err, out)
	}
	path, err := filepath.Abs("../../bin/bgbot")
	if err != nil {
		b.Fatal(err)
	}
	return path
}

// configFile is a configuration for a lab.
func configFile(b *testing.B, l *lab.Lab) (path string) {
	b.Helper()
	me, err := user.Current()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	gateKey, vmKey := l.KeyFiles()
	pin := func(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }
	text := fmt.Sprintf(`
vm: {name: %s, vmid: %d}
gate: {address: "%s", user: %s, key_file: %s, host_key: "%s"}
ssh: {address: "%s", user: %s, key_file: %s, host_key: "%s"}
auth: {console: [%s]}
agent: {command: %s}
store: {url: "sqlite://%s"}
`, l.VMName(), l.VMID(),
		l.Gate().Address, l.Gate().User, gateKey, pin(l.Gate().HostKey),
		l.VM().Address, l.VM().User, vmKey, pin(l.VM().HostKey),
		me.Username, tickerCLI(b), filepath.Join(dir, "state", "bgbot.db"))
	path = filepath.Join(dir, "bgbot.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// startBuilt starts the binary with a terminal of pipes.
func startBuilt(b *testing.B, bgbot string, args ...string) *process {
	b.Helper()
	p := &process{person: newPerson("operator"), cmd: exec.Command(bgbot, args...)}
	keys, err := p.cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	p.keys = keys
	p.cmd.Stdout, p.cmd.Stderr = p.person, p.person
	p.begins(b)
	return p
}

func (p *process) begins(b *testing.B) {
	b.Helper()
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.cmd.Process.Kill() }) // does nothing to one that was waited for
}

func (p *process) awaits(b *testing.B, pattern string) {
	b.Helper()
	if _, err := p.sees(pattern, patience); err != nil {
		b.Fatal(err)
	}
}

// leaves ends the process as systemd would.
func (p *process) leaves(b *testing.B) {
	b.Helper()
	must(b, p.cmd.Process.Signal(syscall.SIGTERM))
	must(b, p.cmd.Wait())
}

// memory is a line of what the kernel counts for the process, in MiB.
func (p *process) memory(b *testing.B, line string) float64 {
	b.Helper()
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(rollup), line)
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatalf("%s in %s: %v", line, rollup, err)
	}
	return kib / 1024
}
