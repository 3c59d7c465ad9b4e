package lab

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"bgbot/pve"
)

// The rows about the boundary: what a key may, and what else its owner may try.

func (d *drill) readOnlyKey(t *testing.T) {
	before := d.qemu(t)
	d.ask(t, d.ReadOnlyGate(), pve.Status).want(pve.Done, `VM 102 is running .*`)
	a := d.ask(t, d.ReadOnlyGate(), pve.Forensics).want(pve.Done, well)
	if len(a.file("forensics").Data) == 0 || len(a.file("screen").Data) == 0 {
		t.Error("an empty file")
	}
	for _, v := range []pve.Verb{pve.Start, pve.Reset, pve.Stop, pve.Cycle} {
		a := d.ask(t, d.ReadOnlyGate(), v).want(pve.Rejected, fmt.Sprintf(`Rejected: this key may not %s, only status, forensics\. Nothing was run\.`, v))
		if a.trail() != "op ok" {
			t.Errorf("%s: steps %s", v, a.trail())
		}
	}
	d.untouched(t, before)
}

// injection: the command is one word or nothing. What a shell, a path or an eye would take for a verb is none.
func (d *drill) injection(t *testing.T) {
	before, last := d.qemu(t), d.lastOp(t)
	marker := filepath.Join(t.TempDir(), "ran")
	client := d.dial(t, d.Gate())
	for _, command := range []string{
		"cycle; touch " + marker, "cycle\n", "cycle\ntouch " + marker, "cycle\r", " cycle", "cycle ", "\tcycle", "cycle cycle", "cycle 102",
		"cycle&touch " + marker, "cycle && touch " + marker, "cycle | tee " + marker, "cycle > " + marker, "`touch " + marker + "`",
		"$(touch " + marker + ")", "$(echo cycle)", "'cycle'", `"cycle"`, `\cycle`, "${IFS}cycle", "cycle #", "stop;cycle", "!cycle",
		"Cycle", "CYCLE", "--help", "--version", "--allow cycle", "cycle --skiplock", "cycle --vmid 103", "./cycle", "../cycle", "/bin/sh",
		"", "bash -i", "sh -c 'touch " + marker + "'", "scp -t " + marker, "internal-sftp", "/usr/lib/openssh/sftp-server", "qm stop 102",
		"сycle", "cyclе", "ｃｙｃｌｅ", "cyc\u200ble", "cycle\u0301", "cycle\u2028", "\ufeffcycle", "cycle\x1b[2J", "\xff\xfecycle", "cycle\x7f",
		strings.Repeat("cycle ", 100<<10/6),
	} {
		out, exit := raw(t, client, "exec", command)
		var said struct{ Result pve.Result }
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		if err := json.Unmarshal(lines[len(lines)-1], &said); err != nil || exit != int(pve.Rejected) || !strings.HasSuffix(said.Result.Text, " Nothing was run.") {
			t.Errorf("%.60q: exit %d, %.300s", command, exit, out)
		}
	}
	if out, exit := raw(t, client, "shell", ""); exit != int(pve.Rejected) {
		t.Errorf("a shell: exit %d, %s", exit, out)
	}
	if out, exit := raw(t, client, "subsystem", "sftp"); exit != int(pve.Rejected) && exit != notRun {
		t.Errorf("sftp: exit %d, %s", exit, out)
	}
	// What the host's system does not take reaches no gate: a word longer than a program may be given, a zero byte.
	if out, exit := raw(t, client, "exec", "cycle"+strings.Repeat(" ", 200<<10)); exit == 0 {
		t.Errorf("200 kB: exit 0, %s", out)
	}
	if out, exit := raw(t, d.dial(t, d.Gate()), "exec", "cycle\x00;id"); exit != notRun { // at the very end sshd strips it
		t.Errorf("a zero byte: exit 0, %s", out)
	}
	d.copies(t, marker)
	if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something ran on the host: %v", err)
	}
	d.untouched(t, before)
	if now := d.lastOp(t); now != last {
		t.Errorf("the last operation was %q and is %q", last, now)
	}
}

// lastOp is the id of the last operation.
func (d *drill) lastOp(t *testing.T) string {
	t.Helper()
	said := d.client(t, pve.Status).result.LastOp
	op := regexp.MustCompile(`^\w+ by key [\w-]+, op (\w+)`).FindStringSubmatch(said)
	if op == nil {
		t.Fatalf("no operation in %q", said)
	}
	return op[1]
}

// copies are the programs that would bring a file.
func (d *drill) copies(t *testing.T, marker string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	options := d.sshCommand(t, nil).Args[1:]
	i := slices.Index(options, "-p") // and -l, the user and the host
	port, user := options[i+1], options[i+3]
	to := user + "@127.0.0.1:" + marker
	for _, argv := range [][]string{
		append(append([]string{"scp"}, options[:i]...), "-P", port, file, to),
		append(append([]string{"scp", "-O"}, options[:i]...), "-P", port, file, to),
		append(append([]string{"sftp", "-b", "/dev/stdin"}, options[:i]...), "-P", port, to),
	} {
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader("put " + file + " " + marker + "\n")
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%s: %s", strings.Join(argv[:2], " "), out)
		}
	}
}

func (d *drill) dial(t *testing.T, h pve.Host) *ssh.Client {
	t.Helper()
	client, err := h.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// What [raw] returns when no program was run.
const notRun = -1

// raw asks a session for anything, byte for byte.
func raw(t *testing.T, client *ssh.Client, kind, what string) (out []byte, exit int) {
	t.Helper()
	channel, answers, err := client.OpenChannel("session", nil)
	if err != nil {
		return nil, notRun
	}
	defer func() { _ = channel.Close() }()
	var payload []byte
	if kind != "shell" {
		payload = ssh.Marshal(struct{ What string }{what})
	}
	if ok, err := channel.SendRequest(kind, true, payload); !ok || err != nil {
		return nil, notRun
	}
	go func() { _, _ = io.Copy(io.Discard, channel.Stderr()) }()
	_ = channel.CloseWrite()
	out, _ = io.ReadAll(channel)
	exit = notRun
	for a := range answers {
		if a.Type == "exit-status" {
			exit = int(a.Payload[3])
		}
	}
	return out, exit
}

// environment: sshd takes LC_* from the client, as Debian has it, and Proxmox's programs read LC_PVE_TICKET. They reach
// the gate and no further. A hostile ~/.bashrc is out of reach: it belongs to the account that the gate runs as, and who
// can write it is on the host already.
func (d *drill) environment(t *testing.T) {
	before := d.qemu(t)
	c := d.follow(t, d.withHostileEnvironment(t, pve.Cycle))
	c.sees("lock ok")
	reached, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", d.gatePID(t)))
	if err != nil || !bytes.Contains(reached, []byte("\x00LC_PVE_TICKET=sent\x00")) || !bytes.Contains(reached, []byte("LC_BGBOT=set\x00")) {
		t.Fatalf("this is not the case to test: the gate has %q, %v", reached, err)
	}
	if bytes.Contains(reached, []byte("LD_PRELOAD")) || bytes.Contains(reached, []byte("BASH_ENV")) {
		t.Errorf("sshd let %q through", reached)
	}
	c.ends().want(pve.Done, `VM 102 was cycled in .*`)
	d.replaced(t, before)
	d.sameEverywhere(t, "qemu-system-x86")
}

// withHostileEnvironment is ssh(1) with all that a client may send.
func (d *drill) withHostileEnvironment(t *testing.T, v pve.Verb) *exec.Cmd {
	cmd := d.sshCommand(t, []string{
		"-o", "SendEnv=LC_*", "-o", "SendEnv=BASH_ENV", "-o", "SetEnv=LC_BGBOT=set LD_PRELOAD=/nowhere.so QM_ENV=1",
	}, string(v))
	cmd.Env = append(cmd.Env, "LC_PVE_TICKET=sent", "LC_ALL=tr_TR.UTF-8", "BASH_ENV=/nowhere")
	return cmd
}

// sameEverywhere fails the test unless the processes of that name on the host have the environment that the host gives
// them, and nothing of a client.
func (d *drill) sameEverywhere(t *testing.T, name string) {
	t.Helper()
	var ours []hostProcess
	d.becomes(t, "a process "+name, func() bool {
		ours = slices.DeleteFunc(descendants(os.Getpid()), func(p hostProcess) bool { return p.name != name || !d.isOurs(p.pid) })
		return len(ours) > 0
	})
	for _, p := range ours {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if got := strings.Split(strings.TrimSuffix(string(environ), "\x00"), "\x00"); err != nil || !slices.Equal(got, hostEnv) {
			t.Errorf("process %d (%s) has %q, %v", p.pid, name, got, err)
		}
	}
}

// isOurs tells the processes of this lab from those of another one.
func (d *drill) isOurs(pid int) bool {
	words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(words, []byte(d.Dir()+"/"))
}

// forwarding: the key opens no way into the host's network, and none back.
func (d *drill) forwarding(t *testing.T) {
	before := d.qemu(t)
	client := d.dial(t, d.Gate())
	if _, err := client.Dial("tcp", d.VM().Address); !prohibited(err) {
		t.Errorf("direct-tcpip, which is -L, -D and -W: %v", err)
	}
	if _, err := client.Dial("unix", d.state.runFile(vmid, "qmp")); err == nil { // sshd says no more than "open failed"
		t.Error("a unix socket was opened")
	}
	if l, err := client.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Errorf("-R: the host listens at %s", l.Addr())
	}
	socket := filepath.Join(t.TempDir(), "back")
	if l, err := client.ListenUnix(socket); err == nil {
		t.Errorf("-R of a unix socket: the host listens at %s", l.Addr())
	}
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if agent.RequestAgentForwarding(session) == nil {
		t.Error("the agent was forwarded")
	}
	if session.RequestPty("xterm", 24, 80, nil) == nil {
		t.Error("the host gave a terminal")
	}
	x11 := struct {
		Single           bool
		Protocol, Cookie string
		Screen           uint32
	}{Protocol: "MIT-MAGIC-COOKIE-1", Cookie: "00"}
	if ok, err := session.SendRequest("x11-req", true, ssh.Marshal(x11)); ok || err != nil {
		t.Errorf("X11: %v, %v", ok, err)
	}
	for _, options := range [][]string{
		{"-W", d.VM().Address}, {"-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:" + d.VM().Address},
	} {
		if out, err := d.sshCommand(t, options).CombinedOutput(); err == nil {
			t.Errorf("ssh %v: %s", options, out)
		}
	}
	d.untouched(t, before)

	// So it is `restrict` that holds: a key with command= alone gets through.
	loose := d.dial(t, d.key(t, ""))
	for network, address := range map[string]string{"tcp": d.VM().Address, "unix": d.state.runFile(vmid, "qmp")} {
		conn, err := loose.Dial(network, address)
		if err != nil {
			t.Fatalf("this is not the case to test: %s: %v", network, err)
		}
		_ = conn.Close()
	}
}

func prohibited(err error) bool {
	refusal, ok := errors.AsType[*ssh.OpenChannelError](err)
	return ok && refusal.Reason == ssh.Prohibited
}

// key adds a key to the host's authorized_keys, with options before the gate's command and more words for it.
func (d *drill) key(t *testing.T, options string, more ...string) pve.Host {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := d.Gate()
	if h.Signer, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	path := d.state.path("conf", "authorized_keys")
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("%scommand=\"%s\" %s", options, quoted(append(d.state.gateCommand(botKey), more...)), authorized(h.Signer))
	if err := os.WriteFile(path, append(slices.Clone(was), line...), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(path, was, 0o600) })
	return h
}
