package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bgbot/pve"
)

// The rows about who asked: a phone without signal, a session that ends, a gate that dies.

// moments of a cycle, as the steps tell them.
var moments = []string{
	"op ok", "lock ok", "forensics start", "verdict ok", "check start", "stop start", "stopped ok", "start start", "process ok", "ssh start",
}

// A cycle goes on to its good end whenever its client is killed. A VM that is played has each of the moments too.
func TestACycleOutlivesItsClient(t *testing.T) {
	t.Parallel()
	for _, moment := range moments {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			newPlayedDrill(t).clientKilled(t, moment)
		})
	}
}

func (d *drill) clientKilled(t *testing.T, moment string) {
	before := d.qemu(t)
	c := d.call(t, "cycle")
	c.sees(moment)
	c.kill()
	d.tellsDone(t, c.op())
	d.replaced(t, before)
}

// sessionKilled is the same from the other side: sshd's process for the connection ends.
func (d *drill) sessionKilled(t *testing.T) {
	before := d.qemu(t)
	c := d.call(t, "cycle")
	c.sees("stop start")
	d.kill(t, "sshd", d.gatePID(t))
	if a := c.ends(); a.exit != 255 || a.result.Verb != "" {
		t.Errorf("ssh(1) ended with %d and %+v", a.exit, a.result)
	}
	d.tellsDone(t, c.op())
	d.replaced(t, before)
}

// tellsDone asks status until the change is over, and fails the test unless it went well.
func (d *drill) tellsDone(t *testing.T, op string) {
	t.Helper()
	c := pve.NewClient(d.Gate(), d.VMID(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), pve.Cycle.Budget())
	defer cancel()
	var r pve.Report
	err := d.until(ctx, func() (err error) {
		if r, err = c.Run(ctx, pve.Status, nil); err != nil {
			return err
		}
		if at := r.Result.LastOp; !strings.HasPrefix(at, "cycle by key bgbot, op "+op) || strings.Contains(at, " is running: ") {
			return errors.New("at last it was " + at)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	matches(t, "the last operation", r.Result.LastOp, "^cycle by key bgbot, op "+op+`, done \d+ s ago$`)
	if r.Result.Status != "running" {
		t.Errorf("status %q: %s", r.Result.Status, r.Result.Text)
	}
}

// gateKilled: even then the next status says where it stands, and what it says to do works.
func (d *drill) gateKilled(t *testing.T) {
	t.Run("between stopped and start", func(t *testing.T) {
		before := d.qemu(t)
		cleaned := d.cleanUp(t)
		c := d.call(t, "cycle")
		c.sees("stopped ok")
		d.kill(t, "pve-gate", d.gatePID(t))
		if a := c.ends(); a.exit != 255 || strings.Contains(a.trail(), "stopped ok, start") {
			t.Fatalf("this is not the case to test: exit %d, %s", a.exit, a.trail())
		}
		a := d.client(t, pve.Status).want(pve.Done, `VM 102 is stopped\.`).status("stopped")
		matches(t, "the last operation", a.result.LastOp, "^cycle by key bgbot, op "+c.op()+" was interrupted after `stopped`, \\d+ s ago; say start to finish it$")
		cleaned()
		d.ssh(t, pve.Start).want(pve.Done, `VM 102 was started in .*`)
		d.replaced(t, before)
	})
	t.Run("while the start is checked", func(t *testing.T) {
		before := d.qemu(t)
		c := d.call(t, "cycle")
		c.sees("qmp ok")
		d.kill(t, "pve-gate", d.gatePID(t))
		_ = c.ends()
		a := d.client(t, pve.Status).want(pve.Done, `VM 102 is running .*`).status("running")
		matches(t, "the last operation", a.result.LastOp, "^cycle by key bgbot, op "+c.op()+
			" was interrupted after `(qmp|writes)`, \\d+ s ago; qm start had come back, so look whether the VM is up$")
		d.replaced(t, before)
		d.ssh(t, pve.Start).want(pve.Done, `VM 102 is already running: .*`)
	})
}

// gatePID is the gate of the change that is under way, by its own record.
func (d *drill) gatePID(t *testing.T) int {
	t.Helper()
	var record struct{ Gate struct{ Pid int } }
	line, err := os.ReadFile(d.state.path("run", "pve-gate", fmt.Sprintf("%d.op", vmid)))
	if err == nil {
		err = json.Unmarshal(line, &record)
	}
	if err != nil || record.Gate.Pid < 2 {
		t.Fatalf("no gate: %v, %s", err, line)
	}
	return record.Gate.Pid
}

// kill ends pid, or the nearest process above it that has the name, and waits for its end.
func (d *drill) kill(t *testing.T, name string, pid int) {
	t.Helper()
	for pid > 1 {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatalf("process %d: %v", pid, err)
		}
		p := &vmProcess{pid: pid, fd: fd}
		seen, _ := readProcess(pid)
		if seen.name != name && seen.name != name+"-session" {
			p.close()
			pid = seen.parent
			continue
		}
		defer p.close()
		p.signal(unix.SIGKILL)
		if !p.dead(10 * time.Second) {
			t.Fatalf("process %d does not end", pid)
		}
		return
	}
	t.Fatalf("there is no process %s", name)
}

// cleanUp is Proxmox's own work after a death, which a start waits for: `qm cleanup 102` in the list of processes, until
// the end of it is asked for.
func (d *drill) cleanUp(t *testing.T) (end func()) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read -r line", "qm", "cleanup", fmt.Sprint(vmid))
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	end = func() {
		if in.Close() == nil {
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	return end
}
