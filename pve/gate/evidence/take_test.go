package evidence_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/evidence"
)

// patience is for a machine that does other things as well; the limits themselves are 9 s and 2.5 s.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil { // they wait nearly all of the time
		panic(err)
	}
	os.Exit(m.Run())
}

// take looks, and fails the test when the look does not end.
func take(t *testing.T, s *stage, glance bool) *evidence.Capture {
	t.Helper()
	back := make(chan *evidence.Capture, 1)
	go func() {
		if glance {
			back <- evidence.Glance(context.Background(), s.Subject)
		} else {
			back <- evidence.Take(context.Background(), s.Subject, "c81f", pve.Cycle)
		}
	}()
	select {
	case c := <-back:
		c.Host.Load, c.Host.IOFull, c.Host.MemoryFull = 0, 0, 0 // this machine may be overrun itself
		names, asked := c.Missing()
		t.Logf("%s after %s; missing %q of %d", c.Verdict().Text, c.Took, names, asked)
		return c
	case <-time.After(patience):
		t.Fatal("the look does not end")
		return nil
	}
}

// until looks till it sees what it should: on a machine that is busy enough any answer can come too late.
func until(t *testing.T, s *stage, glance bool, right func(*evidence.Capture) bool) *evidence.Capture {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		if c := take(t, s, glance); right(c) || time.Now().After(end) {
			return c
		}
	}
}

func TestALookAtAHealthyVM(t *testing.T) {
	t.Parallel()
	s := newStage(t).well()
	s.file("tasks/6/UPID:pve1:0000A1B2:01C3D4E5:69123456:qmstart:102:root@pam:", "starting\nTASK OK\n", 0o600)
	s.file("tasks/7/UPID:pve1:0000A1B2:01C3D4E5:69123457:qmstop:102:root@pam:", "stopping\npassword: hunter2\nTASK ERROR: no\n", 0o600)
	s.file("tasks/8/UPID:pve1:0000A1B2:01C3D4E5:69123458:qmstop:1020:root@pam:", "TASK OK\n", 0o600)
	s.file("tasks/index", "nothing of ours\n", 0o600)
	c := until(t, s, false, func(c *evidence.Capture) bool {
		missing, _ := c.Missing()
		return c.Verdict().Rule == "healthy" && len(missing) == 1
	})
	if v := c.Verdict(); v.Rule != "healthy" {
		t.Errorf("%+v", v)
	}
	if missing, asked := c.Missing(); len(missing) != 1 || missing[0] != "screen" || asked < 10 {
		t.Errorf("of %d probes all but the screen, which this QEMU has not, should have answered; missing: %q", asked, missing)
	}
	if len(c.Tasks) != 2 || c.Tasks[0].Type != "qmstop" || c.Tasks[0].End != "no" || c.Tasks[1].End != "OK" {
		t.Errorf("the tasks are %+v", c.Tasks)
	}
	report := string(c.Report())
	for _, want := range []string{
		"VM 102, op c81f, for cycle, ", "\nVerdict: Healthy from outside: ", "state running, QEMU 9.2.0 (pve-qemu-kvm_9.2.0-5), port of the guest's agent: open\n",
		"disk scsi0: io-status ok, throttled: 1000 B/s\n", "  scsi0        requests ", "job backup on drive-scsi0: running, 1 of 9\n",
		"note: scsi0 is throttled: 1000 B/s; throttled disks can lock up before QEMU 10.2.1", "== guest agent", "  sda          waiting 0, done 3 (+0)",
		"== qm config", "cipassword: [redacted]\n", "qmstop by root@pam: no\n", "\n== host disks", "\n== memory", "MemAvailable:",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the report has no %q", want)
		}
	}
	all, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(report, "hunter2") || strings.Contains(string(all), "hunter2") {
		t.Error("a secret is in the evidence")
	}
	var again evidence.Capture
	if err := json.Unmarshal(all, &again); err != nil || string(again.Report()) != report {
		t.Errorf("a recorded capture tells something else: %v", err)
	}
	if t.Failed() {
		t.Log(report)
	}
}

// Whatever hangs, the look ends, says what is missing, and judges by the rest.
func TestWhatHangsIsLeftBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		stage   func(*stage)
		rule    string
		missing []string // at least
	}{
		{"QEMU accepts and says nothing", func(s *stage) {
			s.qm("echo 'status: running'")
			s.socket("qmp", silent)
			s.socket("qga", silent)
		}, "main-loop", []string{"QEMU (QMP)", "guest agent", "screen"}},
		{"QEMU falls silent in the middle of a line", func(s *stage) {
			s.qm("echo 'status: running'")
			s.socket("qmp", lively("true").but("query-blockstats", "cut").monitor())
			s.socket("qga", silent)
		}, "fell-silent", []string{"QEMU (QMP)"}},
		{"QEMU falls silent between two commands", func(s *stage) {
			s.qm("echo 'status: running'")
			s.socket("qmp", lively("true").but("query-block", "none").monitor())
			s.socket("qga", resting().agent())
		}, "fell-silent", []string{"QEMU (QMP)", "screen"}},
		{"QEMU greets and takes no command, as one of somebody else has not ended", func(s *stage) {
			s.socket("qmp", lively("true").but("qmp_capabilities", "none").monitor())
			s.socket("qga", resting().agent())
		}, "fell-silent", []string{"QEMU (QMP)", "screen"}},
		{"a display that hangs costs the picture and nothing else", func(s *stage) {
			s.well("add-fd", `{"fdset-id": 1}`, "screendump", "none")
		}, "healthy", []string{"screen"}},
		{"something else is behind the socket", func(s *stage) {
			s.socket("qmp", func(c client) { c.say("220 mail.example.org ESMTP\r\n") })
			s.socket("qga", silent)
		}, "unknown", []string{"QEMU (QMP)"}},
		{"QEMU sends numbers that do not fit", func(s *stage) {
			s.socket("qmp", lively("true").but("query-blockstats", `[{"stats": {"wr_operations": 99999999999999999999}}]`).monitor())
			s.socket("qga", resting().agent())
		}, "unknown", []string{"screen"}},
		{"the agent sends garbage", func(s *stage) {
			s.socket("qmp", lively("true").monitor())
			s.socket("qga", func(c client) {
				for n := 0; n < 1<<20; n += 5 {
					c.say("\xff{]}\n")
				}
				silent(c)
			})
		}, "guest-quiet", []string{"guest agent"}},
		{"qm hangs", func(s *stage) {
			s.well()
			s.qm("exec sleep 600")
		}, "healthy", []string{"qm status", "qm config", "qm pending"}},
		{"qm fails", func(s *stage) {
			s.well()
			s.qm("echo 'no such VM' >&2; exit 255")
		}, "healthy", []string{"qm status", "qm config", "qm pending"}},
		{"the process is stopped and so all of it is silent", func(s *stage) {
			s.freeze()
			s.socket("qmp", silent)
			s.socket("qga", silent)
		}, "main-loop", []string{"QEMU (QMP)", "guest agent"}},
		{"everything hangs", func(s *stage) {
			s.socket("qmp", silent)
			s.socket("qga", silent)
			s.qm("trap '' TERM; sleep 600 & sleep 600; exit 1")
			s.file("pvesm", "#!/bin/sh\nexec sleep 600\n", 0o700)
		}, "main-loop", []string{"QEMU (QMP)", "guest agent", "screen", "qm status", "qm config", "qm pending", "storage (pvesm)"}},
		{"QEMU hangs in a command, and greets nobody from then on", func(s *stage) {
			s.qm("echo 'status: running'")
			talk := lively("true").but("query-block", "none").monitor()
			s.socket("qmp", func(c client) {
				if c.n > 1 {
					silent(c)
				}
				talk(c)
			})
			s.socket("qga", resting().agent())
		}, "fell-silent", []string{"QEMU (QMP)", "screen"}},
		{"nobody listens", func(*stage) {}, "socket-gone", []string{"QEMU (QMP)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			tt.stage(s)
			c := until(t, s, false, func(c *evidence.Capture) bool { return c.Verdict().Rule == tt.rule })
			if v := c.Verdict(); v.Rule != tt.rule {
				t.Errorf("the rule is %s, want %s: %s", v.Rule, tt.rule, v.Text)
			}
			missing, _ := c.Missing()
			if tt.rule == "healthy" && c.Machine.Last == nil {
				t.Error("the counters were not read twice")
			}
			for _, name := range tt.missing {
				if !slices.Contains(missing, name) {
					t.Errorf("%s is not said to be missing", name)
				}
			}
			if report := string(c.Report()); !strings.Contains(report, "[missing: ") || !strings.Contains(report, "== load") {
				t.Errorf("the report does not tell what is missing and what there is:\n%s", report)
			}
		})
	}
}

// A guest may say what it likes of its disks, and be slow to read for it. It must not hold a change up.
func TestAGuestThatNamesDisksWithoutEnd(t *testing.T) {
	t.Parallel()
	disks := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(`{"name": "sd%d", "stats": {"write-ios": 2, "ios-pgr": 3}}`, i)
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	s := newStage(t)
	s.socket("qmp", lively("true").monitor())
	s.socket("qga", resting().but("guest-get-diskstats", disks(4000)).agent()) // as many as fit into a line
	c := until(t, s, false, func(c *evidence.Capture) bool { return c.Guest != nil && c.Guest.More > 0 })
	if got := string(c.Report()); len(c.Guest.First) != 64 || c.Guest.More != 4000-64 || !strings.Contains(got, "\n  and 3936 disks that nobody looked at\n") {
		t.Errorf("%d disks and %d more", len(c.Guest.First), c.Guest.More)
	}
	s = newStage(t)
	s.socket("qmp", lively("true").monitor())
	s.socket("qga", resting().but("guest-get-diskstats", disks(80_000)).agent())
	quiet := func(c *evidence.Capture) bool { return c.Verdict().Rule == "guest-quiet" }
	if c = until(t, s, false, quiet); !quiet(c) || c.Guest.First != nil {
		t.Errorf("%+v", c.Verdict())
	}
}

// Proxmox asks the same socket, and QEMU serves one client at a time.
func TestQEMUThatServesSomebodyElseFirst(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	serve := lively("true").monitor()
	s.socket("qmp", func(c client) {
		if c.n == 1 {
			silent(c) // until it gives up
			return
		}
		serve(c)
	})
	s.socket("qga", resting().agent())
	healthy := func(c *evidence.Capture) bool { return c.Verdict().Rule == "healthy" }
	if c := until(t, s, false, healthy); !healthy(c) {
		t.Errorf("%+v", c.Verdict())
	}
}

func TestAGlance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, rule string
		stage      func(*stage)
	}{
		{"healthy", "healthy", func(s *stage) { s.well() }},
		{"idle", "idle", func(s *stage) {
			s.socket("qmp", lively("true").but("query-blockstats", `[{"device": "drive-scsi0", "stats": {"idle_time_ns": 95000000000}}]`).monitor())
			s.socket("qga", resting().agent())
		}},
		{"stalled", "io-stall", func(s *stage) {
			s.socket("qmp", lively("true").but("query-blockstats", `[{"device": "drive-scsi0", "stats": {"idle_time_ns": 95000000000}}]`).monitor())
			s.socket("qga", resting().but("guest-get-diskstats", `[{"name": "sda", "stats": {"write-ios": 2, "ios-pgr": 3}}]`).agent())
		}},
		{"stalled, as QEMU's queues tell", "io-stall", func(s *stage) {
			s.socket("qmp", lively("false").but("query-blockstats", `[{"device": "", "qdev": "/machine/peripheral/virtio0/virtio-backend", "stats": {"idle_time_ns": 95000000000}}]`).
				but("x-query-virtio", `[{"name": "virtio-net", "path": "/machine/peripheral/net0"}, {"name": "virtio-blk", "path": "/machine/peripheral/virtio0/virtio-backend"}]`).
				but("x-query-virtio-queue-status", `{"inuse": 1}`).monitor())
			s.socket("qga", silent)
		}},
		{"no agent runs", "healthy", func(s *stage) {
			s.socket("qmp", lively("false").monitor())
			s.socket("qga", silent)
		}},
		{"wedged", "main-loop-suspected", func(s *stage) {
			s.socket("qmp", silent)
			s.socket("qga", silent)
		}},
		{"stopped by a signal", "main-loop", func(s *stage) {
			s.freeze()
			s.socket("qmp", silent)
			s.socket("qga", silent)
		}},
		{"no QEMU", "stopped", func(s *stage) { s.QEMU.Pid = 0 }},
		{"another process by now", "socket-gone", func(s *stage) { s.QEMU.Start++ }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			tt.stage(s)
			c := until(t, s, true, func(c *evidence.Capture) bool {
				if c.Process != nil {
					c.Process.Age = time.Hour // a young VM without an agent would only be booting
				}
				return c.Verdict().Rule == tt.rule
			})
			if v := c.Verdict(); v.Rule != tt.rule {
				t.Errorf("%+v, want %s", v, tt.rule)
			}
		})
	}
}

func TestWhatTheCallerAskedHimself(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.QEMU.Pid = 0
	c := take(t, s, true)
	c.Note("qm status", "status: running\n\x1b[0mcipassword: hunter2\n", nil)
	if v := c.Verdict(); v.Rule != "lost" || strings.Contains(string(c.Report()), "hunter2") {
		t.Errorf("%+v", v)
	}
	c.Note("qm config", "", context.DeadlineExceeded)
	if missing, asked := c.Missing(); asked != 2 || !slices.Equal(missing, []string{"qm config"}) {
		t.Errorf("missing %q of %d", missing, asked)
	}
}

func TestALookThatIsCalledOff(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.socket("qmp", silent)
	s.socket("qga", silent)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := evidence.Take(ctx, s.Subject, "c81f", pve.Cycle)
	if missing, asked := c.Missing(); asked == 0 || len(missing) == 0 {
		t.Errorf("missing %q of %d", missing, asked)
	}
}

// What the fakes are trusted to do, a real QEMU does: a guest without a disk, then one whose QEMU is stopped.
func TestARealQEMU(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := newStage(t)
	words := "-nodefaults -vga std -display none -m 32 -accel tcg,tb-size=16 -name devvm,debug-threads=on -qmp unix:" +
		filepath.Join(s.dir, "102.qmp") + ",server=on,wait=off"
	cmd := exec.CommandContext(t.Context(), path, strings.Fields(words)...)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.QEMU = process(t, cmd.Process.Pid)

	noBoot := func(c *evidence.Capture) bool { return c.Verdict().Rule == "no-boot" }
	c := until(t, s, false, noBoot)
	if !noBoot(c) {
		t.Fatalf("it says %+v\n%s", c.Verdict(), c.Report())
	}
	if !strings.HasPrefix(string(c.PNG()), "\x89PNG") || len(c.Machine.CPUs) != 1 {
		t.Errorf("a picture of %d bytes, CPUs %v", len(c.PNG()), c.Machine.CPUs)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if v := take(t, s, false).Verdict(); v.Rule != "main-loop" {
		t.Errorf("%+v", v)
	}
}
