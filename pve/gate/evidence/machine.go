package evidence

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bgbot/pve/qmp"
)

// Machine is what QEMU says of itself over QMP.
type Machine struct {
	Absent  bool          `json:"absent,omitempty"`  // nobody listens on its socket
	Silent  time.Duration `json:"silent,omitempty"`  // it never answered, for so long; 0 if it did
	Tries   int           `json:"tries,omitempty"`   // conversations begun
	Refused []string      `json:"refused,omitempty"` // what QEMU would not tell, and why
	Version string        `json:"version,omitempty"`
	Status  string        `json:"status,omitempty"` // the run state: running, paused, io-error, …

	Devices   []Device `json:"devices,omitempty"`
	Jobs      []Job    `json:"jobs,omitempty"`
	CPUs      []int    `json:"cpus,omitempty"`      // thread ids
	IOThreads []int    `json:"iothreads,omitempty"` // thread ids
	// Listening says whether the guest has opened its agent's port. A guest that never did runs no agent, so the agent's
	// silence says nothing; a guest that did and is silent hangs.
	Listening bool `json:"listening,omitempty"`

	First  []Counters    `json:"first,omitempty"`
	Last   []Counters    `json:"last,omitempty"`   // window later; none if one look was enough
	Window time.Duration `json:"window,omitempty"` // between the two
	Queues []Queue       `json:"queues,omitempty"` // asked when the counters stood still
}

// Device is a disk as QEMU sees it.
type Device struct {
	Name     string `json:"name"`
	Status   string `json:"status,omitempty"`   // ok, failed, nospace
	Throttle string `json:"throttle,omitempty"` // its limits in words; empty without any
}

// Job is a block job of QEMU, such as a backup.
type Job struct {
	Device string `json:"device"`
	Type   string `json:"type"`
	Status string `json:"status,omitempty"`
	Offset int64  `json:"offset"`
	Len    int64  `json:"len"`
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

const (
	talkLimit   = 2 * time.Second // of one conversation: Proxmox itself wants the socket, and QEMU serves one client
	retryAfter  = 3 * time.Second
	sampleLimit = time.Second
	sampleEvery = 250 * time.Millisecond
	maxQueues   = 16              // of one controller
	lately      = 2 * time.Second // an I/O that was done so long ago says that the disks work
)

// machine asks QEMU. A conversation that stays silent is tried again after 3 s where there is time: somebody else may
// have been served.
func (l *look) machine(ctx context.Context) finding {
	m := &Machine{}
	began := time.Now()
	var err error
	for m.Tries < l.tries {
		if m.Tries > 0 && !pause(ctx, retryAfter) {
			break
		}
		m.Tries++
		if err = l.converse(ctx, m); !errors.Is(err, qmp.ErrSilent) {
			break
		}
	}
	switch {
	case errors.Is(err, qmp.ErrAbsent):
		m.Absent = true
	case errors.Is(err, qmp.ErrSilent):
		m.Silent = time.Since(began)
	}
	l.pass(shot{err: errors.New("the conversation with QEMU did not come so far")})
	if err == nil {
		err = l.watch(ctx, m)
	}
	return finding{err: err, put: func(c *Capture) { c.Machine = m }}
}

// converse is the one long conversation: all that is asked once, the counters, and the picture last.
func (l *look) converse(ctx context.Context, m *Machine) error {
	ctx, cancel := context.WithTimeout(ctx, talkLimit)
	defer cancel()
	mon, err := qmp.Dial(ctx, l.socket("qmp"))
	if err != nil {
		return err
	}
	defer func() { _ = mon.Close() }()
	m.Version = mon.Version()
	var status struct{ Status string }
	asked := []func() error{
		func() error { err := mon.Do(ctx, "query-status", nil, &status); m.Status = status.Status; return err },
		func() (err error) { m.First, err = counters(ctx, mon); return err },
		func() (err error) { m.Listening, err = l.listening(ctx, mon); return err },
		func() (err error) { m.CPUs, err = threadIDs(ctx, mon, "query-cpus-fast"); return err },
		func() (err error) { m.Devices, err = devices(ctx, mon); return err },
	}
	if !l.glance {
		asked = append(asked,
			func() (err error) { m.IOThreads, err = threadIDs(ctx, mon, "query-iothreads"); return err },
			func() error { return mon.Do(ctx, "query-block-jobs", nil, &m.Jobs) },
			func() error { return l.shoot(ctx, mon) },
		)
	}
	for _, ask := range asked {
		err := ask()
		if _, no := errors.AsType[*qmp.CommandError](err); no {
			m.Refused = append(m.Refused, clean(err.Error()))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// watch reads the counters again until they move. Each reading is a conversation of its own of some milliseconds, so
// that nobody else is kept from the socket meanwhile.
func (l *look) watch(ctx context.Context, m *Machine) error {
	if l.glance && idle(m.First) < lately {
		return nil
	}
	began := time.Now()
	var err error
	for wait := sampleEvery / 5; pause(ctx, wait); wait = sampleEvery {
		var now Machine
		since := time.Since(began)
		if err = l.sample(ctx, &now, since >= l.most/2); err == nil {
			m.Last, m.Window = now.Last, time.Since(began)
			m.Queues = both(m.Queues, now.Queues)
		}
		if m.moved() || (since >= l.least && l.isCalm()) || since >= l.most {
			break
		}
	}
	return err
}

// both keeps what waits at an earlier reading and at a later one.
func both(earlier, later []Queue) []Queue {
	for i, q := range later {
		if j := slices.IndexFunc(earlier, func(e Queue) bool { return e.Device == q.Device && e.Number == q.Number }); j >= 0 {
			later[i].Waiting = min(q.Waiting, earlier[j].Waiting)
		}
	}
	return later
}

func (l *look) isCalm() bool {
	select {
	case <-l.calm:
		return true
	default:
		return false
	}
}

// sample reads the counters once more, and the queues if they are wanted.
func (l *look) sample(ctx context.Context, m *Machine, queues bool) error {
	ctx, cancel := context.WithTimeout(ctx, sampleLimit)
	defer cancel()
	mon, err := qmp.Dial(ctx, l.socket("qmp"))
	if err != nil {
		return err
	}
	defer func() { _ = mon.Close() }()
	if m.Last, err = counters(ctx, mon); err == nil && queues {
		m.Queues, err = waitingInQEMU(ctx, mon)
	}
	return err
}

// moved says that some I/O was done between the readings.
func (m *Machine) moved() bool {
	return m.Last != nil && slices.ContainsFunc(m.Last, func(c Counters) bool {
		i := slices.IndexFunc(m.First, func(f Counters) bool { return f.Device == c.Device })
		return i >= 0 && (m.First[i].Requests != c.Requests || m.First[i].ReadBytes != c.ReadBytes || m.First[i].WrittenBytes != c.WrittenBytes)
	})
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
	var raw []struct {
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
	if err := mon.Do(ctx, "query-blockstats", nil, &raw); err != nil {
		return nil, err
	}
	var all []Counters
	for _, r := range raw {
		c := Counters{
			Device: deviceName(r.Device, r.QDev), Requests: r.Stats.Rd + r.Stats.Wr + r.Stats.Flush + r.Stats.Unmap,
			ReadBytes: r.Stats.RdBytes, WrittenBytes: r.Stats.WrBytes, Failed: r.Stats.FailRd + r.Stats.FailWr + r.Stats.FailFl, Idle: -1,
		}
		if r.Stats.Idle != nil {
			c.Idle = time.Duration(max(0, *r.Stats.Idle))
		}
		all = append(all, c)
	}
	return all, nil
}

// deviceName is that of Proxmox, such as scsi0. Its QEMU calls the drive drive-scsi0; since it uses -blockdev the drive
// has no name, and the device is named, or is the path of its inside: /machine/peripheral/virtio0/virtio-backend.
func deviceName(drive, device string) string {
	if name, ok := strings.CutPrefix(drive, "drive-"); ok {
		return clean(name)
	}
	if inside, ok := strings.CutSuffix(device, "/virtio-backend"); ok {
		device = inside
	}
	if device == "" {
		return clean(drive)
	}
	return clean(filepath.Base(device))
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
	for _, r := range raw {
		d := Device{Name: deviceName(r.Device, r.QDev), Status: clean(r.Status), Throttle: r.Inserted.words()}
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

func threadIDs(ctx context.Context, mon *qmp.Monitor, command string) (ids []int, _ error) {
	var raw []struct {
		ID int `json:"thread-id"`
	}
	err := mon.Do(ctx, command, nil, &raw)
	for _, r := range raw {
		ids = append(ids, r.ID)
	}
	return ids, err
}

// listening finds the agent's port by its socket.
func (l *look) listening(ctx context.Context, mon *qmp.Monitor) (bool, error) {
	var raw []struct {
		Filename string
		Open     bool `json:"frontend-open"`
	}
	err := mon.Do(ctx, "query-chardev", nil, &raw)
	name := fmt.Sprintf("/%d.qga", l.VMID)
	return slices.ContainsFunc(raw, func(r struct {
		Filename string
		Open     bool `json:"frontend-open"`
	},
	) bool {
		path, _, _ := strings.Cut(r.Filename, ",")
		return r.Open && strings.HasSuffix(path, name)
	}), err
}

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
	for _, c := range controllers {
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
