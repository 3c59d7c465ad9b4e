package evidence

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"bgbot/pve/qmp"
)

// Device is a disk as QEMU sees it.
type Device struct {
	Name     string `json:"name"`
	Status   string `json:"status,omitempty"`   // ok, failed, nospace
	Throttle string `json:"throttle,omitempty"` // its limits in words; empty without any
}

// Counters are those of one disk, since QEMU began. A request counts when it is done.
type Counters struct {
	Device       string        `json:"device"`
	Requests     int64         `json:"requests"` // reads, writes, flushes and discards
	ReadBytes    int64         `json:"read_bytes"`
	WrittenBytes int64         `json:"written_bytes"`
	Failed       int64         `json:"failed,omitempty"`
	Idle         time.Duration `json:"idle"` // since the last request was done; below 0 if there never was one
}

// Queue is a virtio queue of a disk: Waiting are the requests that QEMU has taken from the guest and not answered.
type Queue struct {
	Device  string `json:"device"`
	Number  int    `json:"number"`
	Waiting int64  `json:"waiting"`
}

const never = time.Duration(1<<63 - 1)

// idle is how long ago the last I/O of all disks was done; never if there was none.
func idle(all []Counters) time.Duration {
	least := never
	for _, c := range all {
		if c.Idle >= 0 {
			least = min(least, c.Idle)
		}
	}
	return least
}

func counters(ctx context.Context, mon *qmp.Monitor) ([]Counters, error) {
	var stats blockStats
	if err := mon.Do(ctx, "query-blockstats", nil, &stats); err != nil {
		return nil, err
	}
	return stats.counters(), nil
}

// blockStats is the answer to query-blockstats, as far as needed.
type blockStats []struct {
	Device, QDev string
	Stats        struct {
		Rd      int64  `json:"rd_operations"`
		Wr      int64  `json:"wr_operations"`
		Flush   int64  `json:"flush_operations"`
		Unmap   int64  `json:"unmap_operations"`
		RdBytes int64  `json:"rd_bytes"`
		WrBytes int64  `json:"wr_bytes"`
		FailRd  int64  `json:"failed_rd_operations"`
		FailWr  int64  `json:"failed_wr_operations"`
		FailFl  int64  `json:"failed_flush_operations"`
		Idle    *int64 `json:"idle_time_ns"`
	}
}

func (b blockStats) counters() (all []Counters) {
	for _, r := range b[:min(len(b), maxDisks)] {
		c := Counters{
			Device: deviceName(r.Device, r.QDev), Requests: r.Stats.Rd + r.Stats.Wr + r.Stats.Flush + r.Stats.Unmap,
			ReadBytes: r.Stats.RdBytes, WrittenBytes: r.Stats.WrBytes, Failed: r.Stats.FailRd + r.Stats.FailWr + r.Stats.FailFl, Idle: -1,
		}
		if r.Stats.Idle != nil {
			c.Idle = time.Duration(max(0, *r.Stats.Idle))
		}
		all = append(all, c)
	}
	return all
}

// deviceName is that of Proxmox, such as scsi0. Its QEMU calls the drive drive-scsi0; since it uses -blockdev the drive
// has no name, and the device is named, or is the path of its inside: /machine/peripheral/virtio0/virtio-backend.
func deviceName(drive, device string) string {
	if name, ok := strings.CutPrefix(drive, "drive-"); ok {
		return line(name)
	}
	if inside, ok := strings.CutSuffix(device, "/virtio-backend"); ok {
		device = inside
	}
	if device == "" {
		return line(drive)
	}
	return line(filepath.Base(device))
}

func devices(ctx context.Context, mon *qmp.Monitor) ([]Device, error) {
	var raw []struct {
		Device, QDev string
		Status       string `json:"io-status"`
		Inserted     limits
	}
	if err := mon.Do(ctx, "query-block", nil, &raw); err != nil {
		return nil, err
	}
	var all []Device
	for _, r := range raw[:min(len(raw), maxDisks)] {
		d := Device{Name: deviceName(r.Device, r.QDev), Status: line(r.Status), Throttle: r.Inserted.words()}
		if r.Inserted.Drv == "throttle" {
			// Since it uses -blockdev, Proxmox has a node with a group of its own before each disk.
			group := map[string]any{"path": "/objects/throttle-drive-" + d.Name, "property": "limits"}
			var l limits
			err := mon.Do(ctx, "qom-get", group, &l)
			if _, no := errors.AsType[*qmp.CommandError](err); err != nil && !no {
				return nil, err
			}
			d.Throttle = l.words()
		}
		all = append(all, d)
	}
	return all, nil
}

// limits are those of a disk, by their names in query-block and in a throttle group; 0 is none.
type limits struct {
	Drv        string `json:"drv"`
	BPS        int64  `json:"bps"`
	BPSRd      int64  `json:"bps_rd"`
	BPSWr      int64  `json:"bps_wr"`
	IOPS       int64  `json:"iops"`
	IOPSRd     int64  `json:"iops_rd"`
	IOPSWr     int64  `json:"iops_wr"`
	GroupBPS   int64  `json:"bps-total"`
	GroupBPSR  int64  `json:"bps-read"`
	GroupBPSW  int64  `json:"bps-write"`
	GroupIOPS  int64  `json:"iops-total"`
	GroupIOPSR int64  `json:"iops-read"`
	GroupIOPSW int64  `json:"iops-write"`
}

func (l limits) words() string {
	var all []string
	for _, limit := range []struct {
		value int64
		unit  string
	}{
		{l.BPS + l.GroupBPS, "B/s"},
		{l.BPSRd + l.GroupBPSR, "B/s read"},
		{l.BPSWr + l.GroupBPSW, "B/s written"},
		{l.IOPS + l.GroupIOPS, "IO/s"},
		{l.IOPSRd + l.GroupIOPSR, "IO/s read"},
		{l.IOPSWr + l.GroupIOPSW, "IO/s written"},
	} {
		if limit.value != 0 {
			all = append(all, fmt.Sprintf("%d %s", limit.value, limit.unit))
		}
	}
	return strings.Join(all, ", ")
}

// waitingQueues is the sum of all.
func waitingQueues(queues []Queue) (n int64) {
	for _, q := range queues {
		n += max(0, q.Waiting)
	}
	return n
}

const maxQueues = 16 // of one controller

// waitingInQEMU asks how many requests of the guest its virtio disks hold: the sign that tells a stalled disk from an idle
// guest when no agent answers. The commands are there since QEMU 7.2, and the controllers lsi and megasas have no such
// queues; then there is no answer.
func waitingInQEMU(ctx context.Context, mon *qmp.Monitor) (all []Queue, _ error) {
	var controllers []struct{ Name, Path string }
	err := mon.Do(ctx, "x-query-virtio", nil, &controllers)
	if _, no := errors.AsType[*qmp.CommandError](err); no {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	for _, c := range controllers[:min(len(controllers), maxDisks)] {
		first, disk := map[string]int{"virtio-blk": 0, "virtio-scsi": 2}[c.Name] // before it: control and events
		for n := first; disk && n < first+maxQueues; n++ {
			var q struct{ Inuse int64 }
			err := mon.Do(ctx, "x-query-virtio-queue-status", map[string]any{"path": c.Path, "queue": n}, &q)
			if _, no := errors.AsType[*qmp.CommandError](err); no {
				break // that was the last one
			} else if err != nil {
				return nil, err
			}
			all = append(all, Queue{deviceName("", c.Path), n, q.Inuse})
		}
	}
	return all, nil
}
