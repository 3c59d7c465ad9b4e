package evidence_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"bgbot/pve/gate/evidence"
)

const upid = "UPID:pve1:0000A1B2:01C3D4E5:69123456:qmstart:102:root@pam:"

func TestNamesOfTaskLogs(t *testing.T) {
	t.Parallel()
	task, vmid, ok := evidence.ParseUPID(upid)
	want := evidence.Task{UPID: upid, Type: "qmstart", User: "root@pam", Began: time.Unix(0x69123456, 0).UTC()}
	if !ok || vmid != "102" || task != want {
		t.Errorf("got %+v of VM %q, %v, want %+v", task, vmid, ok, want)
	}
	for _, name := range []string{
		"", "UPID:", "index", "active", upid[:len(upid)-1], upid + "x", "x" + upid, strings.ReplaceAll(upid, "69123456", "6912345"),
		strings.ReplaceAll(upid, "69123456", "-9123456"), strings.ReplaceAll(upid, "102", "../../etc"), strings.ReplaceAll(upid, "root@pam", ""),
		strings.ReplaceAll(upid, "pve1", "-"), upid + "\n",
	} {
		if _, vmid, ok := evidence.ParseUPID(name); ok {
			t.Errorf("%q passes for a task of VM %q", name, vmid)
		}
	}
	if _, vmid, ok := evidence.ParseUPID(strings.ReplaceAll(upid, ":102:", ":1020:")); !ok || vmid != "1020" {
		t.Errorf("VM 1020 is %q, %v", vmid, ok)
	}
	if _, _, ok := evidence.ParseUPID(strings.ReplaceAll(upid, "root@pam", "bot@pve!token-1")); !ok {
		t.Error("a task of an API token is no task")
	}
}

func TestEndsOfTasks(t *testing.T) {
	t.Parallel()
	for log, want := range map[string]string{
		"TASK OK\n":                        "OK",
		"a\nTASK ERROR: start failed: b\n": "start failed: b",
		"TASK WARNINGS: 2":                 "WARNINGS: 2",
		"INFO: 12 %\n":                     "",
		"":                                 "",
		"TASK OK\nTASK ERROR: password=hunter2 was wrong\n": "password=[redacted] was wrong",
	} {
		if _, got := evidence.TaskEnd(log); got != want {
			t.Errorf("%q ended with %q, want %q", log, got, want)
		}
	}
}

func FuzzParseUPID(f *testing.F) {
	f.Add(upid)
	f.Add("UPID:a:00000000:000000000:FFFFFFFF:x:102:y:")
	f.Fuzz(func(t *testing.T, name string) {
		task, vmid, ok := evidence.ParseUPID(name)
		if ok && strings.ContainsAny(name, "/\x00\n") {
			t.Errorf("%q would leave its folder", name)
		}
		if !ok && (vmid != "" || task != evidence.Task{}) {
			t.Errorf("%q is none, and still %+v of %q", name, task, vmid)
		}
	})
}

func FuzzTaskEnd(f *testing.F) {
	f.Add("a\nTASK ERROR: b\n")
	f.Fuzz(func(t *testing.T, log string) {
		if _, end := evidence.TaskEnd(log); strings.Contains(end, "\n") {
			t.Errorf("%q ended with more than a line: %q", log, end)
		}
	})
}

// What QEMU says is trusted no further than what a guest says: a guest may have taken it over.
func FuzzBlockStats(f *testing.F) {
	f.Add([]byte(`[{"device":"drive-scsi0","qdev":"scsi0","stats":{"rd_operations":1,"wr_operations":2,"idle_time_ns":3}}]`))
	f.Add([]byte(`[{"device":"","qdev":"/machine/peripheral/virtio0/virtio-backend","stats":{"idle_time_ns":-9223372036854775808}},null,{}]`))
	f.Add([]byte(`[{"stats":{"rd_operations":9223372036854775807,"wr_operations":9223372036854775807}}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var stats evidence.BlockStats
		if json.Unmarshal(text, &stats) != nil {
			return
		}
		first := evidence.ParseCounters(stats)
		for _, c := range first {
			if c.Idle < -1 || strings.ContainsAny(c.Device, "\n\x1b") {
				t.Errorf("%+v", c)
			}
		}
		c := evidence.Capture{Machine: &evidence.Machine{Status: "running", First: first, Last: evidence.ParseCounters(stats)}}
		_, _ = c.Verdict(), c.Report()
	})
}

func FuzzHostFiles(f *testing.F) {
	f.Add("   8       0 sda 10 0 80 5 20 0 160 9 3 14 14 0 0 0 0 1 2\n", "/proc/loadavg:\n1 2 3\n/proc/uptime:\n9 9\n/proc/pressure/io:\nfull avg10=1.5 x\n")
	f.Add("1 1 dm-0 a b c d -1 9e9 99999999999999999999 1 1 1 1 1 1 1 1", "/proc/pressure/memory:\nfull avg10=NaN\n/proc/uptime:\nInf -1\n")
	f.Fuzz(func(t *testing.T, disks, load string) {
		c := evidence.Capture{Machine: &evidence.Machine{Status: "running"}}
		c.Host.First = evidence.ParseDisks(disks, func(string) string { return "pve-vm--102--disk--0" })
		c.Host.Last, c.Host.Window = c.Host.First, time.Second
		c.Host.ReadLoad(load)
		if c.Host.Load < 0 || c.Host.Up < 0 || c.Host.IOFull < 0 || c.Host.MemoryFull < 0 {
			t.Errorf("%+v", c.Host)
		}
		_, _ = c.Verdict(), c.Report()
	})
}
