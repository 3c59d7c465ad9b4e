package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bgbot/pve"
	gatehost "bgbot/pve/gate/host"
	"bgbot/pve/qmp"
)

// The drill table: what may befall a VM, its host and whoever asks for a change, each row as a story. All parts are real:
// ssh(1) and the bot's client, sshd with the forced command, the gate, QEMU and the Linux in it. Only qm is played. The
// rows share two VMs, and each leaves a healthy one behind. This test is not parallel to others of the package, so that
// no more than two VMs run at once.
func TestDrillTableOnARealVM(t *testing.T) {
	fit(t)
	t.Run("asked", func(t *testing.T) {
		t.Parallel()
		d := newDrill(t, "")
		d.row(t, "healthy cycle", d.healthyCycle)
		d.row(t, "locked", d.lockRefuses)
		d.row(t, "HA", d.haRefuses)
		d.row(t, "start fails", d.startFails)
		d.row(t, "read-only key", d.readOnlyKey)
		d.row(t, "injection", d.injection)
		d.row(t, "environment", d.environment)
		d.row(t, "forwarding", d.forwarding)
		d.row(t, "two at once", d.twoAtOnce)
		for _, moment := range []string{"verdict ok", "stopped ok", "process ok"} { // all ten with a VM that is played
			d.row(t, "client killed at "+moment, func(t *testing.T) { d.clientKilled(t, moment) })
		}
		d.row(t, "gate killed", d.gateKilled)
		d.row(t, "session killed", d.sessionKilled)
	})
	t.Run("broken", func(t *testing.T) {
		t.Parallel()
		disk := newLoopDisk(t)
		d := newDrill(t, disk.lab)
		d.row(t, "I/O stall", d.ioStall)
		d.row(t, "panic", d.panics)
		d.row(t, "reboot", d.reboots)
		d.row(t, "power off", d.powersOff)
		d.row(t, "wedged main loop", d.wedgedLoop)
		d.row(t, "qm hangs", d.qmHangs)
		d.row(t, "D state", func(t *testing.T) { d.stuckInStorage(t, disk) })
	})
}

// fit ends a test on a machine that cannot run a real VM.
func fit(t testing.TB) {
	t.Helper()
	_, err := FindGuest("")
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skipf("SKIPPED, the gate is not tested on a real VM: %v", err)
	}
}

// upLimit is for a guest to come up on a busy machine; 5 s are usual.
const upLimit = 3 * time.Minute

// drill is a host with a healthy VM, and who asks it.
type drill struct {
	*Lab
	known string // ssh(1)'s known_hosts
}

// newDrill brings the VM up, in dir or in a folder of its own, and at the end makes sure that nothing of it is left.
func newDrill(t testing.TB, dir string) *drill {
	t.Helper()
	options := Options{VM: QEMU, Dir: dir, Fast: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	l, err := begin(t.Context(), options, Scenario{Name: "drill table", image: "healthy"})
	if err != nil {
		t.Fatal(err)
	}
	return drillOn(t, l)
}

// newPlayedDrill is the same with a VM that is played, so that a cycle of it costs next to nothing. The host is as real:
// sshd, the gate, and the process that all of it descends from.
func newPlayedDrill(t testing.TB) *drill {
	t.Helper()
	if findProgram("sshd") == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("this machine has no sshd; make deps installs it")
		}
		t.Skip("SKIPPED, a real host: this machine has no sshd; make deps installs it")
	}
	l := &Lab{opts: Options{VM: Simulated, Fast: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, scenario: Scenario{Name: "played", image: "healthy"}}
	ctx, cancel := context.WithTimeout(t.Context(), upLimit)
	defer cancel()
	for _, step := range []func(context.Context) error{l.prepare, func(context.Context) error { return l.prepareHost() }, l.writeVM, l.startMachine} {
		if err := step(ctx); err != nil {
			t.Fatal(errors.Join(err, l.Close()))
		}
	}
	d := drillOn(t, l)
	d.isUp(t)
	return d
}

func drillOn(t testing.TB, l *Lab) *drill {
	t.Helper()
	d := &drill{Lab: l, known: l.state.path("keys", "known_hosts")}
	t.Cleanup(func() { d.end(t) })
	d.writeKnownHosts(t)
	return d
}

func (d *drill) writeKnownHosts(t testing.TB) {
	t.Helper()
	host, port, err := net.SplitHostPort(d.host.address)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("[%s]:%s %s", host, port, authorized(d.keys.gateHost))
	if err := os.WriteFile(d.known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *drill) end(t testing.TB) {
	t.Helper()
	p := openVM(d.state, vmid)
	if t.Failed() {
		said, _ := os.ReadFile(d.state.path("log", "sshd.log"))
		t.Logf("sshd said at last:\n%s", said[max(0, len(said)-3000):])
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if p != nil {
		defer p.close()
		if !p.dead(0) {
			t.Error("QEMU is still there after Close")
		}
	}
}

// row tells one story, and leaves a healthy VM to the next one whatever became of it.
func (d *drill) row(t *testing.T, name string, story func(t *testing.T)) {
	t.Helper()
	began := time.Now()
	passed := t.Run(name, story)
	t.Logf("%s took %.1f s", name, time.Since(began).Seconds())
	if passed {
		return
	}
	faults, _ := filepath.Glob(d.state.path("fault", "*"))
	for _, f := range faults {
		_ = os.Remove(f)
	}
	if p := openVM(d.state, vmid); p != nil {
		p.signal(unix.SIGCONT)
		p.close()
	}
	if r := onHost(t, d.Lab, pve.Cycle); r.Exit != pve.Done {
		t.Fatalf("no VM for the other rows: %s", r.Text)
	}
}

// isUp waits until the guest's sshd says who it is and its agent answers: with our own eyes, not with the gate's.
func (d *drill) isUp(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upLimit)
	defer cancel()
	for _, layer := range []func(context.Context) error{d.banner, d.agentAnswers} {
		if err := d.until(ctx, func() error { return within(ctx, 5*time.Second, layer) }); err != nil {
			t.Fatalf("the VM is not up: %v", err)
		}
	}
}

func within(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return try(ctx)
}

func (d *drill) banner(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.VM().Address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "SSH-2.0-") {
		err = fmt.Errorf("no banner of SSH: %q", line)
	}
	return err
}

func (d *drill) agentAnswers(ctx context.Context) error {
	a, err := qmp.DialAgent(ctx, d.state.runFile(vmid, "qga"))
	if err != nil {
		return err
	}
	return errors.Join(a.Do(ctx, "guest-ping", nil, nil), a.Close())
}

// process is a QEMU by what never repeats: its number and its start time. It is empty if there is none.
type process string

func (d *drill) qemu(t testing.TB) process {
	t.Helper()
	p := openVM(d.state, vmid)
	if p == nil {
		return ""
	}
	defer p.close()
	stat, err := gatehost.ReadStat(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	return process(fmt.Sprintf("%d since %d", p.pid, stat.Start))
}

// pid is its number, as the gate says it.
func (p process) pid() string {
	pid, _, _ := strings.Cut(string(p), " ")
	return pid
}

// untouched fails the test if another QEMU runs than before, or none.
func (d *drill) untouched(t testing.TB, before process) {
	t.Helper()
	if now := d.qemu(t); now != before || before == "" {
		t.Errorf("QEMU was %q and is %q", before, now)
	}
}

// replaced fails the test unless a new QEMU runs and is up.
func (d *drill) replaced(t testing.TB, before process) {
	t.Helper()
	if now := d.qemu(t); now == before || now == "" {
		t.Errorf("QEMU was %q and is %q", before, now)
	}
	d.isUp(t)
}

// fault makes qm misbehave until mend.
func (d *drill) fault(t testing.TB, name string) (mend func()) {
	t.Helper()
	path := d.state.path("fault", name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
	return func() { _ = os.Remove(path) }
}
