package evidence_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bgbot/pve"
	"bgbot/pve/gate/evidence"
	"bgbot/pve/gate/host"
)

// recorded is a capture of a real QEMU with a real guest and a real fault.
func recorded(t testing.TB, name string) *evidence.Capture {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	c := &evidence.Capture{}
	if err := json.Unmarshal(text, c); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c
}

// story is a VM in some state and the sentence that a person gets.
type story struct {
	name   string
	base   string // a recorded capture
	change func(*evidence.Capture)
	rule   string
	advice pve.Verb
	text   string
}

// What was really done to a VM. Each was recorded on the lab's QEMU with its heartbeat, one write a second.
var lived = []story{
	{"all is well", "healthy", nil, "healthy", "", "Healthy from outside: CPU 4 %, I/O moving, agent answers; look inside the guest"},
	{"the heartbeat was stopped, so the guest had nothing to write", "idle", nil, "idle", "", "Idle from outside: CPU 3 %, no I/O for 13 s and none waiting, agent answers; look inside the guest"},
	{"idle, at a glance", "idle-glance", nil, "idle", "", "Idle from outside: CPU 7 %, no I/O for 13 s and none waiting, agent answers; look inside the guest"},
	{"idle, and the agent was stopped", "idle-deaf", nil, "guest-quiet", "", "The guest's agent is silent and no I/O for 17 s, but none waits (CPU 1 %): idle or hung; try SSH"},
	{"idle, and no agent runs", "noagent-idle", nil, "idle", "", "Idle from outside: CPU 0 %, no I/O for 108 s and none waiting, no agent runs in it; look inside the guest"},
	{"no agent runs", "noagent", nil, "healthy", "", "Healthy from outside: CPU 4 %, I/O moving, no agent runs in it; look inside the guest"},
	{"just started", "young", nil, "booting", "", "Started 0 s ago: CPU 53 %, and no agent runs yet; give it a moment"},

	{"the disk was throttled to 1 byte a second", "stall", nil, "io-stall", pve.Cycle, "No block I/O for 11 s, 1 request waiting: I/O stall; scsi0 throttled (hangs before QEMU 10.2.1); `cycle`"},
	{"the same at a glance", "stall-glance", nil, "io-stall", pve.Cycle, "No block I/O for 12 s, 1 request waiting: I/O stall; scsi0 throttled (hangs before QEMU 10.2.1); `cycle`"},
	{"the same, and the agent was stopped", "stall-deaf", nil, "io-stall", pve.Cycle, "No block I/O for 16 s, 1 request waiting: I/O stall; scsi0 throttled (hangs before QEMU 10.2.1); `cycle`"},
	{"the same, and no agent runs", "noagent-stall", nil, "io-stall", pve.Cycle, "No block I/O for 10 s, 1 request waiting: I/O stall; scsi0 throttled (hangs before QEMU 10.2.1); `cycle`"},
	{"a busy loop in the guest, its agent and its heartbeat stopped", "spin", nil, "guest-hung", pve.Reset, "The guest spins: 1 of 1 CPUs all busy, its agent is silent, no I/O for 25 s; `reset`"},
	{"QEMU got SIGSTOP", "wedged", nil, "main-loop", pve.Cycle, "QEMU is stopped by a signal (state T), so nothing in it answers; `cycle`"},
	{"the same at a glance", "wedged-glance", nil, "main-loop", pve.Cycle, "QEMU is stopped by a signal (state T), so nothing in it answers; `cycle`"},
	{"the guest's kernel was made to panic", "panic", nil, "panic", pve.Reset, "Guest kernel panic on screen: sysrq triggered crash; `reset` is enough"},
	{"the same at a glance, which sees no screen", "panic-glance", nil, "guest-quiet", pve.Forensics, "The guest's agent is silent and no I/O for 7 s, but none waits (CPU 82 %): idle or hung; try SSH"},
	{"QEMU was paused", "paused", nil, "not-running", "", "Paused by someone or by a task; `qm resume 102` on the host continues it, a `cycle` loses memory"},
	{"it was stopped", "stopped", nil, "stopped", pve.Start, "Stopped: no QEMU of it runs; `start`"},
	{"the guest's file systems were frozen through the agent", "frozen", nil, "fs-frozen", pve.Reset, "The guest's file systems are frozen, as for a backup; on the host: qm guest cmd 102 fsfreeze-thaw"},
	{"a process of the guest took all its memory", "oom", nil, "guest-oom", "", "The guest ran out of memory: its screen shows that tail (pid 210) was killed; look inside"},
	{"a lock was put into the config", "locked", nil, "locked", "", "Locked (backup), changes refused. Healthy from outside: CPU 2 %, I/O moving, agent answers"},
	{"the guest wrote more than the host had room for", "nospace", nil, "nospace", "", "The host's storage is full: scsi0 paused on a write; free space, then `qm resume 102` on the host"},
	{"the host's file system under the disk was frozen", "dstate", nil, "stuck-process", "", "QEMU hangs in the kernel: 2 threads in D for 9 s (percpu_rwsem_wait): host storage; start nothing"},
	{"the same, and QEMU got SIGKILL", "dleft", nil, "stuck-process", "", "QEMU was killed, but 2 threads live on in D (percpu_rwsem_wait): host storage; start nothing"},
	{"a guest without anything to boot", "noboot", nil, "no-boot", "", "The guest did not boot: its screen says \"No bootable device\"; someone must look at its console"},
}

// What the lab cannot make: the recorded capture that is nearest, and what would be different.
var told = []story{
	{"the main loop hangs, and its process seems to be well", "wedged", func(c *evidence.Capture) {
		c.Process.State = "S"
	}, "main-loop", pve.Cycle, "QEMU does not answer on its control socket (2 tries, 5 s): main loop hung; `cycle`"},
	{"the same on a host that is overrun", "wedged", func(c *evidence.Capture) {
		c.Process.State, c.Host.Load, c.Host.CPUs = "S", 300, 16
	}, "main-loop", "", "QEMU does not answer on its control socket (2 tries, 5 s): hung, or starved by the host, load 300 on 16 CPUs"},
	{"the same at a glance, while others wait already", "wedged-glance", func(c *evidence.Capture) {
		c.Process.State = "S"
	}, "main-loop-suspected", pve.Forensics, "QEMU has not served earlier callers of its control socket: busy or hung; `forensics` looks longer"},
	{"the same at a glance, which asks once", "wedged-glance", func(c *evidence.Capture) {
		c.Process.State, c.Machine.Silent = "S", 2*time.Second
	}, "main-loop-suspected", pve.Forensics, "QEMU gave no answer on its control socket for 2 s: busy or hung; `forensics` looks longer"},
	{"another client keeps the socket, and qm got its answer before", "wedged", func(c *evidence.Capture) {
		c.Process.State = "S"
		say(c, "qm status", "status: running\nrunning-qemu: 9.2.0\npid: 1\n")
	}, "socket-taken", "", "QEMU answers qm, but another client holds its control socket; look again"},
	{"the socket was removed", "healthy", func(c *evidence.Capture) {
		c.Machine = &evidence.Machine{Absent: true, Tries: 1}
	}, "socket-gone", pve.Cycle, "QEMU 17413 runs, but nobody listens on its control socket; `cycle`"},
	{"QEMU ended while we looked", "healthy", func(c *evidence.Capture) {
		c.Process, c.Machine = nil, &evidence.Machine{Absent: true, Tries: 1}
	}, "socket-gone", "", "QEMU 17413 ended during the look; look again"},
	{"QEMU has hardly begun", "healthy", func(c *evidence.Capture) {
		c.Process.Age, c.Machine = time.Second, &evidence.Machine{Absent: true, Tries: 1}
	}, "socket-gone", "", "QEMU 17413 is 1 s old and not ready yet; look again"},

	{"a read of a disk failed on the host", "nospace", func(c *evidence.Capture) {
		c.Machine.Devices[0].Status = "failed"
	}, "io-error", "", "The host failed a read or write of scsi0 and QEMU paused: mend the storage, then `qm resume 102`"},
	{"prelaunch", "paused", state("prelaunch"), "not-running", pve.Cycle, "QEMU waits before its first instruction (prelaunch): nobody finished a start or reset; `cycle`"},
	{"internal error", "paused", state("internal-error"), "not-running", pve.Cycle, "QEMU stopped the guest on an internal error (of KVM, mostly): only a fresh QEMU helps; `cycle`"},
	{"guest panicked, with a device that tells QEMU", "paused", state("guest-panicked"), "not-running", pve.Cycle, "The guest panicked and QEMU holds it; a `reset` would not set it going again; `cycle`"},
	{"watchdog", "paused", state("watchdog"), "not-running", pve.Cycle, "The guest's watchdog fired and QEMU stopped it; `cycle`"},
	{"the guest powered off", "paused", state("shutdown"), "not-running", pve.Cycle, "The guest powered off, but its QEMU is still there; `cycle` boots it again"},
	{"suspended", "paused", state("suspended"), "not-running", "", "The guest sleeps (suspended to memory); `qm resume 102` on the host wakes it"},
	{"migrated", "paused", state("postmigrate"), "not-running", "", "The VM was migrated away: it runs on another node, and this QEMU is its shell"},
	{"a snapshot with memory", "paused", state("save-vm"), "not-running", "", "QEMU is at a task of its own (save-vm): a migration or a snapshot; wait for it"},
	{"a state of a QEMU to come", "paused", state("dreaming"), "not-running", "", "QEMU does not run the guest: its state is dreaming"},
	{"paused by a task that runs", "paused", func(c *evidence.Capture) {
		c.Tasks = []evidence.Task{{Type: "qmsnapshot", User: "root@pam", Began: c.At.Add(-20 * time.Second)}}
	}, "not-running", "", "QEMU is paused while the task qmsnapshot of root@pam is at work; wait for it"},

	{"a command that does not end", "healthy", func(c *evidence.Capture) {
		c.Machine.Broke = &evidence.Break{Answered: "query-status", At: "query-blockstats", Waited: 7 * time.Second}
	}, "fell-silent", pve.Forensics, "QEMU answered `query-status`, then fell silent at `query-blockstats`; look again with `forensics`"},
	{"a command of somebody else that does not end", "healthy", func(c *evidence.Capture) {
		c.Machine.Broke = &evidence.Break{Answered: "greeting", At: "qmp_capabilities", Waited: 7 * time.Second}
	}, "fell-silent", pve.Forensics, "QEMU greets, but takes no command: an earlier one has not ended; look again with `forensics`"},
	{
		"a main loop that hangs in a command", "healthy", hangs, "fell-silent", pve.Cycle,
		"QEMU answered `query-cpus-fast`, then fell silent at `query-block` and greets nobody now; `cycle`",
	},
	{"the same, while qm got an answer", "healthy", func(c *evidence.Capture) {
		hangs(c)
		say(c, "qm status", "running-qemu: 9.2.0\nstatus: running\n")
	}, "fell-silent", pve.Forensics, "QEMU answered `query-cpus-fast`, then fell silent at `query-block`; look again with `forensics`"},
	{"the same, on a host without time", "healthy", func(c *evidence.Capture) {
		hangs(c)
		c.Host.MemoryFull = 41
	}, "fell-silent", "", "QEMU answered `query-cpus-fast`, then fell silent at `query-block`: hung, or starved by the host, short of me…"},

	{"a stall without a throttle", "stall", noThrottle, "io-stall", pve.Cycle, "No block I/O for 11 s, 1 request waiting: I/O stall; `cycle` (a `reset` keeps the wedged QEMU)"},
	{"a stall with a throttle of a newer QEMU", "stall", func(c *evidence.Capture) {
		c.Machine.Version = "10.2.1 (pve-qemu-kvm_10.2.1-1)"
	}, "io-stall", pve.Cycle, "No block I/O for 11 s, 1 request waiting: I/O stall; scsi0 is throttled; `cycle`"},
	{"a stall of a controller whose queues nobody sees, told by the guest's kernel", "stall-deaf", func(c *evidence.Capture) {
		noThrottle(c)
		c.Machine.Queues = nil
		c.Screen.Text = append(c.Screen.Text, "[  242.672000] INFO: task jbd2/sda1-8:245 blocked for more than 120 seconds.")
	}, "io-stall", pve.Cycle, "No block I/O for 16 s, the guest's jbd2/sda1-8 blocked: I/O stall; `cycle` (a `reset` keeps the wedged QEMU)"},
	{"a stall of which nobody can say that it is one", "stall-deaf", func(c *evidence.Capture) {
		c.Machine.Queues = nil
	}, "io-stall-suspected", pve.Cycle, "No block I/O for 16 s and the guest's agent is silent: probably an I/O stall; `cycle`"},
	{"the first seconds of a stall, at a glance", "stall-glance", func(c *evidence.Capture) {
		c.Machine.First[0].Idle, c.Machine.Last[0].Idle = 2500*time.Millisecond, 4*time.Second
	}, "io-slow", pve.Forensics, "No block I/O for 4 s with 1 request waiting: slow, or the beginning of a stall; look again with `forensics`"},
	{"an agent that fell silent a moment ago, and nobody to ask", "idle-deaf", func(c *evidence.Capture) {
		c.Machine.Queues, c.Machine.Last[0].Idle = nil, 6*time.Second
	}, "guest-quiet", "", "The guest's agent is silent and no I/O for 6 s (CPU 1 %): idle or hung; try SSH"},
	{"frozen at a glance", "frozen", func(c *evidence.Capture) {
		c.Glance = true
	}, "fs-frozen", pve.Forensics, "The guest's file systems are frozen, as for a backup; on the host: qm guest cmd 102 fsfreeze-thaw"},
	{"idle or stalled, and nobody to ask", "noagent-idle", func(c *evidence.Capture) {
		c.Machine.Queues = nil
		c.Guest = &evidence.Guest{Absent: true}
		c.Process.Age = time.Hour
	}, "no-io", "", "No block I/O for 108 s, and nothing tells whether any waits: idle or stalled; try SSH"},
	{"an agent that knows no disk counters", "idle", func(c *evidence.Capture) {
		c.Guest.First, c.Guest.Last = nil, nil
	}, "no-io", "", "No block I/O for 13 s, and nothing tells whether any waits: idle or stalled; try SSH"},
	{"never any I/O", "noagent-idle", func(c *evidence.Capture) {
		c.Machine.Queues = nil
		c.Process.Age = time.Hour
		for _, all := range [][]evidence.Counters{c.Machine.First, c.Machine.Last} {
			all[0].Idle = -1
		}
	}, "no-io", "", "No block I/O since its start, and nothing tells whether any waits: idle or stalled; try SSH"},
	{"the host's own disk stands still as well", "stall", func(c *evidence.Capture) {
		c.Host.Window = 3 * time.Second
		c.Host.First = []evidence.HostDisk{{Name: "sdb", Waiting: 32, Done: 1000}, {Name: "sda", Waiting: 1, Done: 7}}
		c.Host.Last = []evidence.HostDisk{{Name: "sdb", Waiting: 32, Done: 1000}, {Name: "sda", Waiting: 1, Done: 8}}
	}, "host-storage", "", "No block I/O for 11 s, and the host's disk sdb stands still too: host storage, which no `cycle` mends"},
	{"one disk of two stands still", "healthy", func(c *evidence.Capture) {
		c.Guest.Window = 3 * time.Second
		c.Guest.First = []evidence.GuestDisk{{Name: "sda", Done: 5}, {Name: "sdb", Waiting: 4, Done: 100}}
		c.Guest.Last = []evidence.GuestDisk{{Name: "sda", Done: 9}, {Name: "sdb", Waiting: 4, Done: 100}}
	}, "disk-stall", "", "The guest's disk sdb did nothing for 3 s with 4 requests waiting, others move: slow or stalled; look inside"},

	{"the guest was reset a moment ago, in an old QEMU", "noagent", reset(20 * time.Second), "booting", "", "Reset 20 s ago: CPU 4 %, and no agent runs yet; give it a moment"},
	{"the same, and it has not read its disk yet", "noagent-idle", since(20*time.Second, 0), "booting", "", "Reset 20 s ago: CPU 0 %, and no agent runs yet; give it a moment"},
	{"a reset, and its last I/O was 11 s after it", "noagent-idle", reset(119 * time.Second), "booting", "", "Reset 119 s ago: CPU 0 %, and no agent runs yet; give it a moment"},
	{"it has come up since the reset, without an agent", "noagent", reset(3 * time.Minute), "healthy", "", "Healthy from outside: CPU 4 %, I/O moving, no agent runs in it; look inside the guest"},
	{"it came up quickly, has nothing to do, and runs no agent", "noagent-idle", since(3*time.Minute, 5*time.Second), "idle", "", "Idle from outside: CPU 0 %, no I/O for 2 min and none waiting, no agent runs in it; look inside the guest"},
	{"its agent answers already, soon after a reset", "idle", reset(10 * time.Second), "idle", "", "Idle from outside: CPU 3 %, no I/O for 13 s and none waiting, agent answers; look inside the guest"},
	{"the gate has waited for it in vain after a reset", "noagent-idle", since(61*time.Second, 0), "reset-in-vain", pve.Cycle, "No block I/O since the reset 61 s ago: the guest does not boot; `cycle` (a `reset` keeps this QEMU)"},
	{"hours later, and the reset did one request that QEMU had held", "noagent-idle", since(5*time.Hour, time.Second), "reset-in-vain", pve.Cycle, "No block I/O since the reset 5 h ago: the guest does not boot; `cycle` (a `reset` keeps this QEMU)"},
	{"the same, and nobody can say whether requests wait", "noagent-idle", func(c *evidence.Capture) {
		since(5*time.Hour, 0)(c)
		c.Guest, c.Machine.Queues = &evidence.Guest{Absent: true}, nil
	}, "reset-in-vain", pve.Cycle, "No block I/O since the reset 5 h ago: the guest does not boot; `cycle` (a `reset` keeps this QEMU)"},
	{"the firmware finds its disk dead after a reset", "noagent-idle", func(c *evidence.Capture) {
		since(2*time.Minute, 0)(c)
		c.Screen = &evidence.Screen{Text: []string{"Boot failed: could not read the boot disk", "", "No bootable device."}}
	}, "reset-in-vain", pve.Cycle, "No block I/O since the reset 2 min ago: the guest does not boot; `cycle` (a `reset` keeps this QEMU)"},
	{"the same on a host that is overrun", "noagent-idle", func(c *evidence.Capture) {
		since(3*time.Minute, 0)(c)
		c.Host.Load, c.Host.CPUs = 300, 16
	}, "idle", "", "Idle from outside: CPU 0 %, no I/O for 3 min and none waiting, no agent runs in it; look inside the guest"},
	{"a guest that never used its disk, reset", "noagent-idle", func(c *evidence.Capture) {
		since(3*time.Minute, 0)(c)
		c.Machine.First[0].Idle, c.Machine.Last[0].Idle, c.Machine.Queues = -1, -1, nil
	}, "no-io", "", "No block I/O since its start, and nothing tells whether any waits: idle or stalled; try SSH"},

	{"a panic that is longer than a line of the screen", "panic", func(c *evidence.Capture) {
		c.Screen.Text = []string{
			"[    1.859062] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00",
			"000100",
		}
	}, "panic", pve.Reset, "Guest kernel panic on screen: Attempted to kill init! exitcode=0x00000100; `reset` is enough"},
	{"a panic for want of a disk", "panic", func(c *evidence.Capture) {
		c.Screen.Text = []string{"[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"}
	}, "panic", "", "Guest kernel panic at boot on screen: it finds no root disk, so a `reset` would only repeat it"},
	{"old words of a panic on the screen of a guest that lives", "healthy", func(c *evidence.Capture) {
		c.Screen.Text = []string{"kern.log: Kernel panic - not syncing: sysrq triggered crash"}
	}, "healthy", "", "Healthy from outside: CPU 4 %, I/O moving, agent answers; look inside the guest"},
	{"the same, idle", "idle", func(c *evidence.Capture) {
		c.Screen.Text = []string{"kern.log: Kernel panic - not syncing: sysrq triggered crash"}
	}, "idle", "", "Idle from outside: CPU 3 %, no I/O for 13 s and none waiting, agent answers; look inside the guest"},
	{"out of memory, and dead", "spin", func(c *evidence.Capture) {
		c.Screen.Text = []string{"[ 99.1] Out of memory: Killed process 4711 (t3-serve) total-vm:9kB"}
	}, "guest-oom", pve.Reset, "The guest ran out of memory (killed t3-serve, pid 4711) and does not answer; `reset`"},
	{"emergency mode", "noagent", func(c *evidence.Capture) {
		c.Screen.Text = []string{"You are in emergency mode. After logging in, type \"journalctl -xb\" to view"}
	}, "no-boot", "", "The guest did not boot: its screen says \"emergency mode\"; someone must look at its console"},
	{"a disk that wants a passphrase", "young", func(c *evidence.Capture) {
		c.Screen.Text = []string{"Please unlock disk sda3_crypt: "}
	}, "no-boot", "", "The guest did not boot: its screen says \"unlock disk\"; someone must look at its console"},
	{"the agent alone is silent", "healthy", func(c *evidence.Capture) {
		c.Guest = &evidence.Guest{Silent: 2 * time.Second}
	}, "guest-quiet", "", "QEMU is well (CPU 4 %, I/O moving), but the guest's agent does not answer; try SSH"},

	{"the host swaps", "healthy", func(c *evidence.Capture) {
		c.Host.MemoryFull = 41
	}, "host-pressure", "", "QEMU is well, but the host has no time for it: short of memory (41 %)"},
	{"the host's disk cannot keep up", "healthy", func(c *evidence.Capture) {
		c.Host.IOFull, c.Host.Window = 88, time.Second
		c.Host.First = []evidence.HostDisk{{Name: "sda", Waiting: 60, Done: 100}}
		c.Host.Last = []evidence.HostDisk{{Name: "sda", Waiting: 60, Done: 140, Busy: time.Second}}
	}, "host-pressure", "", "QEMU is well, but the host's disk sda is 100 % busy: all waited for I/O 88 % of the time"},
	{"pressure that an idle iothread feigns", "healthy", func(c *evidence.Capture) {
		c.Host.IOFull = 99
	}, "healthy", "", "Healthy from outside: CPU 4 %, I/O moving, agent answers; look inside the guest"},
	{"the host has too much to do", "healthy", func(c *evidence.Capture) {
		c.Host.Load, c.Host.CPUs = 130, 16
		for i, thread := range c.Process.Last {
			if thread.ID == c.Machine.CPUs[0] {
				c.Process.Last[i].Delayed += c.Process.Window * 6 / 10
			}
		}
	}, "host-pressure", "", "QEMU is well, but its CPUs waited for the host's for 62 % of the time: load 130 on 16 CPUs"},
	{"the same, for a VM that wants no more than it gets", "healthy", func(c *evidence.Capture) {
		c.Host.Load, c.Host.CPUs = 130, 16
	}, "healthy", "", "Healthy from outside: CPU 4 %, I/O moving, agent answers; look inside the guest"},

	{"a thread that was in D twice and worked between", "dstate", func(c *evidence.Capture) {
		for i := range c.Process.Last {
			c.Process.Last[i].Switches += 40
		}
	}, "io-stall", pve.Cycle, "No block I/O for 9 s, 2 requests waiting: I/O stall; `cycle` (a `reset` keeps the wedged QEMU)"},
	{"a thread in a long write while others go on", "dstate", func(c *evidence.Capture) {
		c.Machine.Last[0].Requests++
		c.Guest.Last[0].Done++
	}, "healthy", "", "Healthy from outside: CPU 2 %, I/O moving, agent answers; look inside the guest"},
	{"threads in D, and QEMU does not answer", "dstate", func(c *evidence.Capture) {
		c.Machine = &evidence.Machine{Silent: 7 * time.Second, Tries: 2}
		c.Guest = &evidence.Guest{Silent: 2 * time.Second}
	}, "stuck-process", "", "QEMU hangs in the kernel: 2 threads in D for 2 s (percpu_rwsem_wait): host storage; start nothing"},

	{"threads in D since the look began", "dstate", lastMoved(500 * time.Millisecond), "stuck-process", "", "QEMU hangs in the kernel: 2 threads in D for 3 s (percpu_rwsem_wait): host storage; start nothing"},
	{
		"a stall that is as young", "stall", lastMoved(500 * time.Millisecond), "io-slow", pve.Forensics,
		"No block I/O for 3 s with 1 request waiting: slow, or the beginning of a stall; look again with `forensics`",
	},

	{"locked, and something is wrong beneath", "stall", func(c *evidence.Capture) {
		say(c, "qm config", "lock: snapshot-delete\n")
	}, "locked", "", "Locked (snapshot-delete), changes refused. No block I/O for 11 s, 1 request waiting: I/O stall"},
	{"locked and stopped, which only qm status says", "stopped", func(c *evidence.Capture) {
		say(c, "qm status", "lock: suspended\nstatus: stopped\n")
	}, "locked", "", "Locked (suspended), changes refused. Stopped: no QEMU of it runs"},
	{"locked, and not to be touched anyway", "dleft", func(c *evidence.Capture) {
		say(c, "qm config", "lock: backup\n")
	}, "stuck-process", "", "QEMU was killed, but 2 threads live on in D (percpu_rwsem_wait): host storage; start nothing"},

	{"qm sees a VM and nobody its process", "stopped", func(c *evidence.Capture) {
		say(c, "qm status", "qmpstatus: running\nstatus: running\n")
	}, "lost", "", "qm says running, but no QEMU of VM 102 was found: look at the host; start nothing"},
	{"somebody stopped it", "stopped", func(c *evidence.Capture) {
		c.Tasks = []evidence.Task{{Type: "qmstop", User: "root@pam", Began: c.At.Add(-5 * time.Minute), End: "OK"}}
	}, "stopped", pve.Start, "Stopped: its last task was qmstop by root@pam 5 min ago; `start`"},
	{"the last start came to nothing", "stopped", func(c *evidence.Capture) {
		c.Tasks = []evidence.Task{{Type: "qmstart", User: "root@pam", Began: c.At.Add(-3 * time.Minute), End: "start failed: QEMU exited with code 1"}}
	}, "start-failed", pve.Start, "Stopped: the last start failed 3 min ago: start failed: QEMU exited with code 1"},
	{"the host's kernel took its memory back", "stopped", oomOfHost, "host-oom", pve.Start, "Stopped: the host ran out of memory and killed QEMU (pid 4711) 10 min ago; `start`"},
	{"the same, but it was started and stopped since", "stopped", func(c *evidence.Capture) {
		oomOfHost(c)
		c.Tasks = []evidence.Task{{Type: "qmstop", User: "root@pam", Began: c.At.Add(-5 * time.Minute), End: "OK"}}
	}, "stopped", pve.Start, "Stopped: its last task was qmstop by root@pam 5 min ago; `start`"},
	{"the same, of another VM", "stopped", func(c *evidence.Capture) {
		oomOfHost(c)
		c.VMID = 10
	}, "stopped", pve.Start, "Stopped: no QEMU of it runs; `start`"},

	{"nothing answered", "healthy", func(c *evidence.Capture) {
		*c = evidence.Capture{VMID: 102, At: c.At, QEMU: host.Process{Pid: 1, Start: 1}, Probes: []evidence.Probe{
			{Name: "QEMU (QMP)", Missing: "no answer in time"}, {Name: "threads", Missing: "no answer in time"},
		}}
	}, "unknown", "", "Too little answered to judge; missing: QEMU (QMP), threads"},
	{"a VM without a disk", "noboot", func(c *evidence.Capture) {
		c.Screen, c.Machine.First, c.Machine.Last = nil, nil, nil
	}, "unknown", "", "QEMU runs the guest (CPU 1 %), but it has no disk counters to judge by"},
}

func say(c *evidence.Capture, name, text string) {
	for i := range c.Probes {
		if c.Probes[i].Name == name {
			c.Probes[i].Text = text
		}
	}
}

func state(name string) func(*evidence.Capture) {
	return func(c *evidence.Capture) { c.Machine.Status = name }
}

// reset has the guest reset so long ago, inside a QEMU that is much older.
func reset(ago time.Duration) func(*evidence.Capture) {
	return func(c *evidence.Capture) { c.Process.Age, c.Reset = 9*24*time.Hour, ago }
}

// since is a reset, and the last I/O so long after it.
func since(ago, after time.Duration) func(*evidence.Capture) {
	return func(c *evidence.Capture) {
		reset(ago)(c)
		lastMoved(ago - after)(c)
	}
}

// lastMoved has the last I/O done so long before the first reading.
func lastMoved(ago time.Duration) func(*evidence.Capture) {
	return func(c *evidence.Capture) {
		c.Machine.First[0].Idle, c.Machine.Last[0].Idle = ago, ago+c.Machine.Window
	}
}

// hangs has QEMU's main loop hang in a command; qm does not get an answer either.
func hangs(c *evidence.Capture) {
	c.Machine.Broke = &evidence.Break{Answered: "query-cpus-fast", At: "query-block", Waited: 7 * time.Second, Deaf: true}
	say(c, "qm status", "status: running\n")
}

func noThrottle(c *evidence.Capture) { c.Machine.Devices[0].Throttle = "" }

func oomOfHost(c *evidence.Capture) {
	c.Host.Up = time.Hour
	say(c, "kernel log", "[    1.000000] Linux\n[ 3000.123456] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=qemu.slice,mems_allowed=0,"+
		"global_oom,task_memcg=/qemu.slice/102.scope,task=kvm,pid=4711,uid=0\n")
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	met := map[string]bool{}
	for _, s := range slices.Concat(lived, told) {
		met[s.rule] = true
		t.Run(s.name, func(t *testing.T) {
			c := recorded(t, s.base)
			if s.change != nil {
				s.change(c)
			}
			want := evidence.Verdict{Rule: s.rule, Text: s.text, Advice: s.advice}
			got := c.Verdict()
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if n := utf8.RuneCountInString(got.Text); n > evidence.MaxText {
				t.Errorf("%d characters do not fit a lock screen", n)
			}
			if again := c.Verdict(); again != got {
				t.Errorf("asked again it says %+v", again)
			}
			if report := string(c.Report()); !strings.Contains(report, "\nVerdict: "+got.Text+"\n") {
				t.Errorf("the report does not begin with it:\n%.300s", report)
			}
		})
	}
	for _, name := range evidence.RuleNames() {
		if !met[name] {
			t.Errorf("no story ends with the rule %s", name)
		}
	}
}

// The worst that a verdict can do is to have a good VM cycled, or to have a second QEMU started beside a stuck one.
func TestNoVerbIsAdvisedForWhatIsWell(t *testing.T) {
	t.Parallel()
	for _, s := range slices.Concat(lived, told) {
		switch s.rule {
		case "healthy", "idle", "no-io", "booting", "disk-stall", "locked", "stuck-process", "host-storage", "lost", "nospace":
			if s.advice != "" {
				t.Errorf("%s: advises %s", s.name, s.advice)
			}
		}
	}
}

func FuzzVerdict(f *testing.F) {
	for _, name := range []string{"stopped", "panic-glance", "dleft"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var c evidence.Capture
		if json.Unmarshal(text, &c) != nil {
			return
		}
		v := c.Verdict()
		if n := utf8.RuneCountInString(v.Text); n > evidence.MaxText || n == 0 || strings.ContainsAny(v.Text, "\n\r") {
			t.Errorf("not a line for a lock screen: %q", v.Text)
		}
		if !slices.Contains(evidence.RuleNames(), v.Rule) {
			t.Errorf("no such rule: %q", v.Rule)
		}
		_ = c.Report()
	})
}
