package evidence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/pve/gate/evidence"
)

func TestDisksOfTheHost(t *testing.T) {
	t.Parallel()
	volumes := map[string]string{"dm-3": "pve-vm--102--disk--0"}
	got := evidence.ParseDisks(`   7       0 loop0 9 0 9 9 9 9 9 9 0 9 9 9 9 9 9 9 9
   8       0 sda 100 1 2 3 40 4 5 6 7 8000 9 10 11 12 13 14 15
   8      16 sdb 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 252       3 dm-3 1 0 0 0 2 0 0 0 1 16 0
 odd
`, func(name string) string { return volumes[name] })
	want := []evidence.HostDisk{
		{Name: "sda", Waiting: 7, Done: 100 + 40 + 10 + 14, Busy: 8 * time.Second},
		{Name: "dm-3 pve-vm--102--disk--0", Waiting: 1, Done: 3, Busy: 16 * time.Millisecond},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLoadOfTheHost(t *testing.T) {
	t.Parallel()
	var h evidence.Host
	h.ReadLoad("/proc/loadavg:\n7.25 2 1 3/99 12\n/proc/uptime:\n86400.50 1.0\n/proc/pressure/cpu:\nfull avg10=99.00 avg60=0 avg300=0 total=1\n" +
		"/proc/pressure/io:\nsome avg10=12.00\nfull avg10=3.50 avg60=0 avg300=0 total=1\n/proc/pressure/memory:\nfull avg10=0.25\n")
	if h.Load != 7.25 || h.Up != 86400*time.Second+500*time.Millisecond || h.IOFull != 3.5 || h.MemoryFull != 0.25 || h.CPUs < 1 {
		t.Errorf("%+v", h)
	}
}

// A thousand lines about a network bridge must not push the reason out.
func TestTroubleStaysInTheKernelLog(t *testing.T) {
	t.Parallel()
	b := &strings.Builder{}
	b.WriteString("<6>[    1.000000] Linux version\n<3>[   50.000000] blk_update_request: I/O error, dev sdb, sector 7\n")
	for i := range 1000 {
		_, _ = fmt.Fprintf(b, "<6>[%5d.000000] vmbr0: port 1 entered forwarding state\n", 100+i)
	}
	got := evidence.KernelLines(b.String())
	if !strings.HasPrefix(got, "[   50.000000] blk_update_request: I/O error, dev sdb, sector 7\n[ ") || strings.Contains(got, "Linux version") || !strings.Contains(got, "[ 1099.0") {
		t.Errorf("%.300s", got)
	}
	if len(got) > 16<<10 {
		t.Errorf("%d bytes", len(got))
	}
	c := recorded(t, "healthy")
	c.Host.Up = 55 * time.Second
	say(c, "kernel log", got)
	if report := string(c.Report()); !strings.Contains(report, "  note: host's kernel: [   50.000000] blk_update_request: I/O error, dev sdb, sector 7\n") {
		t.Errorf("the report does not begin with it: %.600s", report)
	}
}

// Since Proxmox uses -blockdev, a disk has its limits in a group of its own.
func TestLimitsOfDisks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.socket("qmp", lively("true").
		but("query-block", `[{"device": "", "qdev": "scsi0", "inserted": {"drv": "throttle"}}, {"device": "drive-ide2", "qdev": "ide2"}, {"device": "drive-sata1", "inserted": {"drv": "raw", "iops_wr": 7}}]`).
		but("qom-get", `{"bps-total": 1048576, "iops-read": 50, "bps-total-max-length": 1}`).monitor())
	s.socket("qga", resting().agent())
	want := []evidence.Device{{Name: "scsi0", Throttle: "1048576 B/s, 50 IO/s read"}, {Name: "ide2"}, {Name: "sata1", Throttle: "7 IO/s written"}}
	told := func(c *evidence.Capture) bool { return c.Machine != nil && slices.Equal(c.Machine.Devices, want) }
	if c := until(t, s, true, told); !told(c) {
		t.Errorf("%s", c.Report())
	}
}
