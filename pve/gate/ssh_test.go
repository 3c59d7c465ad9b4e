package gate_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bgbot/internal/sshdtest"
	"bgbot/pve"
)

// serve puts the real gate behind a real sshd.
func (h *host) serve(more ...string) *sshdtest.Server {
	h.t.Helper()
	argv := h.flags(more...)
	argv[0] = binary(h.t)
	return sshdtest.New(h.t, sshdtest.Options{KeyOptions: sshdtest.ForcedCommand(argv...)})
}

func (h *host) client(s *sshdtest.Server) *pve.Client {
	h.t.Helper()
	c := pve.NewClient(pve.Host{
		Name: "the Proxmox host", Address: s.Address, User: s.User, Signer: s.ClientSigner, HostKey: s.HostKey,
	}, vmid, slog.New(slog.NewTextHandler(h.t.Output(), nil)))
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

// ssh runs ssh(1) to its end.
func sshRun(t *testing.T, cmd *exec.Cmd) ran {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	exit := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		exit = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return parse(t, pve.Exit(exit), out.String(), errOut.String())
}

func TestACycleThroughSSH(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	s := h.serve()
	sshRun(t, s.SSH(t.Context(), s.Client, "cycle")).wantTrail(before + "stop ok, stopped ok, start ok, " + up)

	old := h.pid()
	var heard []string
	report, err := h.client(s).Run(t.Context(), pve.Cycle, func(st pve.Step) { heard = append(heard, st.Step) })
	if err != nil || report.Result.Exit != pve.Done || h.pid() == old {
		t.Errorf("got %+v, %v", report.Result, err)
	}
	if len(report.Files) != 1 || report.Files[0].Name != "forensics-"+report.Result.Op+".txt" || len(heard) != len(report.Steps)+len(report.Files) {
		t.Errorf("files %d, heard %v", len(report.Files), heard)
	}
	if !strings.HasPrefix(report.Result.LastOp, "cycle by key test, op ") {
		t.Errorf("last op: %q", report.Result.LastOp)
	}
}

func TestNothingButTheVerbGetsThroughSSH(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	s := h.serve()
	for _, asked := range [][]string{{}, {"status x"}, {"cycle;id"}, {"cycle\n"}, {"сycle"}, {"stop", "--skiplock"}, {strings.Repeat("cycle", 20_000)}} {
		if r := sshRun(t, s.SSH(t.Context(), s.Client, asked...)); r.exit != pve.Rejected {
			t.Errorf("%.40q: exit %d\n%s%s", asked, r.exit, r.out, r.errOut)
		}
	}
	// A subsystem becomes the server's own command line; a pty is refused, and the gate still judges the word.
	if r := sshRun(t, s.SSHOptions(t.Context(), s.Client, []string{"-s"}, "sftp")); r.exit == pve.Done {
		t.Errorf("a subsystem ended with 0: %s", r.out)
	}
	if r := sshRun(t, s.SSHOptions(t.Context(), s.Client, []string{"-tt"}, "sh")); r.exit == pve.Done {
		t.Errorf("a pty ended with 0: %s", r.out)
	}
	if got := h.calls(); len(got) != 0 {
		t.Errorf("qm was called with %v", got)
	}
}

func TestTheClientsEnvironmentDoesNotReachQm(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	s := h.serve()
	cmd := s.SSHOptions(t.Context(), s.Client, []string{"-o", "SendEnv=LC_*"}, "status")
	cmd.Env = append(os.Environ(), "LC_PVE_TICKET=stolen", "LC_ALL=tr_TR.UTF-8")
	sshRun(t, cmd)
	got := slices.Sorted(strings.Lines(h.read("env-status")))
	// What the shell of the script adds itself is not ours.
	got = slices.DeleteFunc(got, func(l string) bool { return strings.HasPrefix(l, "PWD=") || strings.HasPrefix(l, "_=") })
	if want := []string{"LC_ALL=C\n", "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"}; !slices.Equal(got, want) {
		t.Errorf("qm had the environment %q, want %q", got, want)
	}
}

func TestTheKeyOpensNoTunnel(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.serve()
	link, err := pve.Host{Name: "h", Address: s.Address, User: s.User, Signer: s.ClientSigner, HostKey: s.HostKey}.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	if conn, err := link.Dial("tcp", s.Address); err == nil {
		conn.Close()
		t.Error("a tunnel through the gate's key works")
	} else if !strings.Contains(err.Error(), "administratively prohibited") {
		t.Errorf("got %v", err)
	}
}

func TestAReadOnlyKeyThroughSSH(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	s := h.serve("--allow", "status,forensics")
	report, err := h.client(s).Run(t.Context(), pve.Cycle, nil)
	if err != nil || report.Result.Exit != pve.Rejected || report.Result.Text != "Rejected: this key may not cycle, only status, forensics. Nothing was run." {
		t.Errorf("got %+v, %v", report.Result, err)
	}
	if report, err = h.client(s).Run(t.Context(), pve.Forensics, nil); err != nil || report.Result.Exit != pve.Done || len(report.Files) != 1 {
		t.Errorf("got %+v, %v", report.Result, err)
	}
}

func TestACycleEndsWellWhenItsClientIsKilled(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"accepted", "forensics", "check", "stop", "stopped", "start"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			h := newHost(t).withVM()
			h.file("slow-stop", "0.3")
			h.file("slow-start", "0.3")
			s := h.serve()
			old := h.pid()
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			cmd := s.SSH(ctx, s.Client, "cycle")
			cmd.Stdout = watch{`"step":"` + at + `"`, kill}
			_ = cmd.Run()
			h.awaitEnd()
			r := sshRun(t, s.SSH(t.Context(), s.Client, "status"))
			if !strings.Contains(r.result.LastOp, ", done ") || r.result.Status != "running" || h.pid() == old {
				t.Errorf("status %q, last %q, QEMU %d → %d", r.result.Status, r.result.LastOp, old, h.pid())
			}
		})
	}
}

// awaitEnd waits until the newest change has ended.
func (h *host) awaitEnd() {
	h.t.Helper()
	await(h.t, "the end of the change", func() bool {
		line, _ := os.ReadFile(h.path("run/pve-gate/102.op"))
		return bytes.Contains(line, []byte(`"ended"`))
	})
}

// watch calls seen when the text goes by.
type watch struct {
	text string
	seen func()
}

func (w watch) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) {
		w.seen()
	}
	return len(p), nil
}

func TestALinkThatDropsInMidCycleIsFollowedByStatus(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	h.file("hold-stop", "")
	s := h.serve()
	old := h.pid()
	report, err := h.client(s).Run(t.Context(), pve.Cycle, func(st pve.Step) {
		if st.Step == "stop" && st.State == pve.StepStart {
			s.Drop()
		}
	})
	h.remove("hold-stop")
	unknown, ok := errors.AsType[*pve.Unknown](err)
	if !ok || unknown.Step != "stop" || unknown.Op == "" || unknown.Now == nil {
		t.Fatalf("got %v, %+v", err, report.Result)
	}
	first, _, _ := strings.Cut(unknown.UserMessage(), "\n")
	if want := "Outcome of cycle unknown: the link dropped after step `stop` of op " + unknown.Op + "."; first != want {
		t.Errorf("got %q, want %q", first, want)
	}
	if want := "cycle by key test, op " + unknown.Op + " is running: `stop` since "; !strings.HasPrefix(unknown.Now.LastOp, want) {
		t.Errorf("status said %q, want %q", unknown.Now.LastOp, want)
	}
	h.awaitEnd()
	if h.pid() == 0 || h.pid() == old {
		t.Errorf("QEMU %d → %d", old, h.pid())
	}
	if got := h.changed(); !slices.Equal(got, []string{"stop", "start"}) {
		t.Errorf("the cycle was sent again: qm %v", got)
	}
}

func TestAGateThatIsKilledLeavesItsPlaceBehind(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	h.file("slow-start", "5")
	s := h.serve()
	report, err := h.client(s).Run(t.Context(), pve.Cycle, func(st pve.Step) {
		if st.Step == "start" && st.State == pve.StepStart {
			h.killGate()
		}
	})
	unknown, ok := errors.AsType[*pve.Unknown](err)
	if !ok || unknown.Now == nil {
		t.Fatalf("got %v, %+v", err, report.Result)
	}
	want := "cycle by key test, op " + unknown.Op + " was interrupted after `stopped`, "
	if !strings.HasPrefix(unknown.Now.LastOp, want) || !strings.HasSuffix(unknown.Now.LastOp, "say start to finish it") {
		t.Errorf("got %q, want %q…", unknown.Now.LastOp, want)
	}
	if !strings.Contains(unknown.UserMessage(), "the gate died (SIGKILL)") || report.Result.Exit != pve.Broken {
		t.Errorf("got %q", unknown.UserMessage())
	}
}

// killGate ends the gate that wrote the newest record.
func (h *host) killGate() {
	h.t.Helper()
	r := struct{ Gate struct{ Pid int } }{}
	h.json("run/pve-gate/102.op", &r)
	if err := syscall.Kill(r.Gate.Pid, syscall.SIGKILL); err != nil {
		h.t.Error(err)
	}
}

func TestTheBinaryIsSmallAndStartsAtOnce(t *testing.T) {
	t.Parallel()
	info, err := os.Stat(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= 8_000_000 {
		t.Errorf("pve-gate has %d bytes", info.Size())
	}
	best := time.Hour
	for range 10 { // the best of them, since the machine is busy
		began := time.Now()
		if out, err := exec.CommandContext(t.Context(), binary(t), "--version").Output(); err != nil || !strings.HasPrefix(string(out), "pve-gate ") {
			t.Errorf("got %q, %v", out, err)
		}
		best = min(best, time.Since(began))
	}
	if best > 100*time.Millisecond {
		t.Errorf("it took %s to start", best)
	}
}

func BenchmarkGateStartUp(b *testing.B) {
	gate := binary(b)
	for b.Loop() {
		if err := exec.CommandContext(b.Context(), gate, "--version").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
