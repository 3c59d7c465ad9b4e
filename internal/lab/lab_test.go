package lab

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/pve"
)

func TestMain(m *testing.M) {
	if code, is := Applet(os.Args); is {
		syscall.Exit(code) // without the race detector's sleep at exit
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // they wait for processes more than they compute
	os.Exit(m.Run())
}

// start brings a lab up, and at the end makes sure that nothing of it is left.
func start(t *testing.T, name string) *Lab {
	t.Helper()
	l, err := Start(t.Context(), Options{Scenario: name, Fast: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p := openVM(l.state, vmid)
		said := l.trouble()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if p != nil {
			defer p.close()
			if !p.dead(0) {
				t.Error("the VM's process is still there after Close")
			}
		}
		if said != "" {
			t.Errorf("the VM's process complained:\n%s", said)
		}
		if _, err := os.Stat(l.state.dir); !os.IsNotExist(err) {
			t.Errorf("the state is still there after Close: %v", err)
		}
	})
	return l
}

// onVM runs a command in the guest with the agent's key, as `timeout 2 ssh devvm …` would.
func onVM(t *testing.T, l *Lab, command string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("timed out"))
	defer cancel()
	client, err := l.VM().Dial(ctx)
	if err != nil {
		return "", err
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	s, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := s.CombinedOutput(command)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return string(out), err
}

// onHost asks the gate for a verb, as the bot's client does.
func onHost(t *testing.T, l *Lab, v pve.Verb) pve.Result {
	t.Helper()
	return reportOf(t, l, v).Result
}

func reportOf(t *testing.T, l *Lab, v pve.Verb) pve.Report {
	t.Helper()
	c := pve.NewClient(l.Gate(), l.VMID(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	report, err := c.Run(t.Context(), v, func(s pve.Step) { t.Log(v, s.Step, s.State, s.Text) })
	if err != nil {
		t.Fatalf("%s: %v", v, err)
	}
	return report
}

func recovers(t *testing.T, l *Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*l.checkLimit())
	defer cancel()
	if err := l.until(ctx, func() error { return l.Recovered(ctx) }); err != nil {
		t.Fatalf("not recovered: %v", err)
	}
}

func TestTheStallNeedsACycle(t *testing.T) {
	t.Parallel()
	l := start(t, "io-stall")
	if err := pve.Reach(t.Context(), l.VM()); err != nil {
		t.Errorf("a login should still work: %v", err)
	}
	if out, err := onVM(t, l, "uptime; ps aux | grep ' D ' | wc -l"); err != nil || !strings.Contains(out, "load average: 6") {
		t.Errorf("uptime: %q, %v; want a load of about 60", out, err)
	}
	if out, err := onVM(t, l, "timeout 0.2 sync && echo done"); err == nil || err.Error() != "timed out" {
		t.Errorf("sync came back: %q, %v", out, err)
	}

	if r := onHost(t, l, pve.Reset); r.Exit != pve.Unverified {
		t.Fatalf("reset: %d %s", r.Exit, r.Text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := l.until(ctx, func() error { return l.Recovered(ctx) }); err == nil {
		t.Fatal("a reset has mended a stall that lives in the QEMU process")
	}
	if r := onHost(t, l, pve.Status); r.Status != "running" {
		t.Errorf("status after the reset: %q, want running: qm cannot see a wedge", r.Status)
	}

	before := l.state.pid(t)
	if r := onHost(t, l, pve.Cycle); r.Exit != pve.Done {
		t.Fatalf("cycle: %d %s", r.Exit, r.Text)
	}
	recovers(t, l)
	if now := l.state.pid(t); now == before {
		t.Errorf("process %s still runs the VM", now)
	}
	var hosts, guests int
	for _, c := range l.Commands() {
		if c.Where == "pve" {
			hosts++
		} else {
			guests++
		}
	}
	if hosts != 3 || guests != 3 {
		t.Errorf("commands %v; want 3 on the host, and 3 in the guest without the lab's own", l.Commands())
	}
}

func (s *state) pid(t *testing.T) string {
	data, err := os.ReadFile(s.runFile(vmid, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAFullDiskIsRepairedByHand(t *testing.T) {
	t.Parallel()
	l := start(t, "disk-full")
	for _, step := range []struct{ command, want string }{
		{"df -h /var | tail -1", "100% /var"},
		{"sudo systemctl restart t3-serve || sudo systemctl status t3-serve | head -3", "failed"},
		{"sudo du -xh -d2 /var | sort -rh | head -3", "/var/log/t3-serve"},
		{"sudo truncate -s 0 /var/log/t3-serve/trace.log && df -h /var | tail -1", "/var"},
		{"sudo journalctl --vacuum-size=500M; journalctl --disk-usage", "384M"},
		{"sudo systemctl restart containerd t3-serve; systemctl is-active t3-serve", "active\n"},
		{"systemctl --failed", "0 loaded units"},
	} {
		out, err := onVM(t, l, step.command)
		if !strings.Contains(out, step.want) {
			t.Fatalf("%s: %q, %v; want %q", step.command, out, err, step.want)
		}
	}
	recovers(t, l)
	if r := onHost(t, l, pve.Cycle); r.Exit != pve.Done {
		t.Fatalf("cycle: %d %s", r.Exit, r.Text)
	}
	recovers(t, l)
	if out, err := onVM(t, l, "ls -l /var/log/journal/*/ | wc -l"); err != nil || strings.TrimSpace(out) != "3" {
		t.Errorf("the journal after a cycle: %q, %v; the repair must be on the disk", out, err)
	}
}

func TestAFullDiskIsRepairedByTheBootAfterACycle(t *testing.T) {
	t.Parallel()
	l := start(t, "disk-full")
	if r := onHost(t, l, pve.Cycle); r.Exit != pve.Done {
		t.Fatalf("cycle: %d %s", r.Exit, r.Text)
	}
	recovers(t, l)
	if out, err := onVM(t, l, "cat /etc/tmpfiles.d/t3-serve.conf; ls /var/log/t3-serve"); err != nil || !strings.Contains(out, "R! /var/log/t3-serve/trace.log*") || strings.Contains(out, "\ntrace.log\n") {
		t.Errorf("%q, %v; want the boot to have removed what tmpfiles.d names", out, err)
	}
}

func TestAStoppedVMRefusesConnectionsAndStarts(t *testing.T) {
	t.Parallel()
	l := start(t, "io-stall")
	if r := onHost(t, l, pve.Stop); r.Exit != pve.Done || r.Status != "stopped" {
		t.Fatalf("stop: %d %s", r.Exit, r.Text)
	}
	err := pve.Reach(t.Context(), l.VM())
	if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a stopped VM answers: %v", err)
	}
	if r := onHost(t, l, pve.Start); r.Exit != pve.Done || r.Status != "running" {
		t.Fatalf("start: %d %s", r.Exit, r.Text)
	}
	recovers(t, l)
}

func TestTheHostRunsNothingButTheGate(t *testing.T) {
	t.Parallel()
	l := start(t, "disk-full")
	client, err := l.Gate().Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Dial("tcp", l.VM().Address); err == nil || !strings.Contains(err.Error(), "administratively prohibited") {
		t.Errorf("forwarding: %v", err)
	}
	for kind, payload := range map[string][]byte{
		"shell":     nil,
		"subsystem": ssh.Marshal(struct{ Name string }{"sftp"}),
		"exec":      ssh.Marshal(struct{ Command string }{"status; id"}),
	} {
		channel, answers, err := client.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := channel.SendRequest(kind, true, payload); !ok || err != nil {
			t.Errorf("%s: %v, %v", kind, ok, err)
		}
		go io.Copy(io.Discard, channel)
		for a := range answers {
			if a.Type == "exit-status" && a.Payload[3] != byte(pve.Rejected) {
				t.Errorf("%s: exit %d, want the gate's 2", kind, a.Payload[3])
			}
		}
	}
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err == nil {
		t.Error("the host gave a terminal")
	}
}

func TestTheGateOutlivesItsClient(t *testing.T) {
	t.Parallel()
	l := start(t, "io-stall")
	before := l.state.pid(t)
	client, err := l.Gate().Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("cycle"); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	recovers(t, l)
	if l.state.pid(t) == before {
		t.Error("no new process")
	}
}

func TestQMsFaultsReachTheVerdict(t *testing.T) {
	t.Parallel()
	l := start(t, "disk-full")
	fault := func(name string) func() {
		path := l.state.path("fault", name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return func() { _ = os.Remove(path) }
	}
	mend := fault("ha")
	if r := onHost(t, l, pve.Cycle); r.Exit != pve.Refused {
		t.Errorf("HA: %d %s", r.Exit, r.Text)
	}
	mend()
	conf, err := os.ReadFile(l.state.confFile(vmid))
	if err != nil {
		t.Fatal(err)
	}
	locked := append([]byte("lock: backup\n"), conf...)
	if err := os.WriteFile(l.state.confFile(vmid), locked, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := onHost(t, l, pve.Cycle); r.Exit != pve.Refused || !strings.Contains(r.Text, "backup") {
		t.Errorf("lock: %d %s", r.Exit, r.Text)
	}
	if err := os.WriteFile(l.state.confFile(vmid), conf, 0o600); err != nil {
		t.Fatal(err)
	}
	mend = fault("start-fail")
	if r := onHost(t, l, pve.Cycle); r.Exit != pve.Failed || !strings.Contains(r.Text, "invalid option") {
		t.Errorf("start-fail: %d %s", r.Exit, r.Text)
	}
	mend()
	if err := os.Truncate(l.state.path("log", "qemu.log"), 0); err != nil {
		t.Fatal(err)
	}
	if r := onHost(t, l, pve.Start); r.Exit != pve.Done {
		t.Errorf("start: %d %s", r.Exit, r.Text)
	}
	recovers(t, l)
}

func TestTheVMDiesWithItsLab(t *testing.T) {
	t.Parallel()
	l, err := Start(t.Context(), Options{Scenario: "disk-full", Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // complains, since everything is gone already
	p := openVM(l.state, vmid)
	if p == nil {
		t.Fatal("no VM")
	}
	defer p.close()
	if err := l.owner.Close(); err != nil { // what the kernel does when the drill is killed
		t.Fatal(err)
	}
	if !p.dead(5 * time.Second) {
		t.Error("the VM outlives a killed drill")
	}
	if _, err := os.Stat(l.state.dir); !os.IsNotExist(err) {
		t.Errorf("the temporary folder outlives a killed drill: %v", err)
	}
}

func TestAnUnknownScenarioIsToldWhichThereAre(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Scenario: "disk-ful"})
	const want = `"disk-ful" is not a practice incident; use one of: disk-full, io-stall.`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAnAppletNeedsItsWholePath(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"bgbot"}, {"qm", "status", "102"}, {"/usr/bin/bgbot"}} {
		if _, is := Applet(args); is {
			t.Errorf("%q was taken for an applet", args)
		}
	}
}

func TestAScoreReadsAsATable(t *testing.T) {
	t.Parallel()
	s := Score{FirstLine: 412 * time.Millisecond, Commands: 4, Why: "nothing happened"}
	want := "first line      0.4 s\nfirst command   never\nrecovered       never\ncommands        4\npushes          0\nresult          NOT recovered: nothing happened"
	if got := s.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
