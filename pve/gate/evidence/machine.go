package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bgbot/pve/gate/host"
	"bgbot/pve/qmp"
)

// Machine is what QEMU says of itself over QMP.
type Machine struct {
	Absent  bool          `json:"absent,omitempty"`  // nobody listens on its socket
	Silent  time.Duration `json:"silent,omitempty"`  // it said nothing at all, not even a greeting, for so long; 0 if it did
	Broke   *Break        `json:"broke,omitempty"`   // it answered and then fell silent; nil if it did not
	Tries   int           `json:"tries,omitempty"`   // conversations begun
	Refused []string      `json:"refused,omitempty"` // what QEMU would not tell, and why
	Version string        `json:"version,omitempty"`
	Status  string        `json:"status,omitempty"` // the run state: running, paused, io-error, …

	Devices   []Device `json:"devices,omitempty"`
	Jobs      []Job    `json:"jobs,omitempty"`
	CPUs      []int    `json:"cpus,omitempty"`      // thread ids
	IOThreads []int    `json:"iothreads,omitempty"` // thread ids
	// Port is that of the guest's agent: open or closed by the guest, or empty if nobody knows. Where it is closed no agent
	// runs, and its silence says nothing; where it is open and the agent silent, something hangs.
	Port string `json:"port,omitempty"`

	First  []Counters    `json:"first,omitempty"`
	Last   []Counters    `json:"last,omitempty"`   // window later; none if one look was enough
	Window time.Duration `json:"window,omitempty"` // between the two
	Queues []Queue       `json:"queues,omitempty"` // asked when the counters stood still
}

// Break is where a conversation with QEMU broke off. It is no proof of a main loop that hangs: QEMU executes one command
// after the other, whoever asks, so that one which does not end keeps all others waiting.
type Break struct {
	Answered string        `json:"answered"`       // the last command that was answered; "greeting" if there was none
	At       string        `json:"at"`             // the command that was not
	Waited   time.Duration `json:"waited"`         // for its answer, and for that of the next conversation
	Deaf     bool          `json:"deaf,omitempty"` // the next conversation got no greeting: the main loop does not come back
}

// Job is a block job of QEMU, such as a backup.
type Job struct {
	Device string `json:"device"`
	Type   string `json:"type"`
	Status string `json:"status,omitempty"`
	Offset int64  `json:"offset"`
	Len    int64  `json:"len"`
}

const (
	talkLimit   = 2 * time.Second // of one conversation: Proxmox itself wants the socket, and QEMU serves one client
	retryAfter  = 3 * time.Second
	sampleLimit = time.Second
	shotLimit   = 800 * time.Millisecond
	sampleEvery = 250 * time.Millisecond
	lately      = 2 * time.Second // an I/O that was done so long ago says that the disks work
)

// machine asks QEMU. A conversation that stays silent is tried again after 3 s where there is time: somebody else may
// have been served. The picture comes last and in a conversation of its own: a display that hangs costs nothing else.
func (l *look) machine(ctx context.Context) finding {
	m := &Machine{}
	began := time.Now()
	var err error
	for m.Tries < l.tries {
		if m.Tries > 0 && (l.hopeless() || !pause(ctx, retryAfter)) {
			break
		}
		m.Tries++
		if err = l.converse(ctx, m); !errors.Is(err, qmp.ErrSilent) {
			break
		}
	}
	switch {
	case err == nil:
		m.Broke = nil // it was heard out in the end
	case errors.Is(err, qmp.ErrAbsent):
		m.Absent = true
	case m.Broke != nil:
		m.Broke.Waited = time.Since(began)
	case errors.Is(err, qmp.ErrSilent):
		m.Silent = time.Since(began)
	}
	talked := err == nil
	if talked && m.Status == "running" {
		err = l.watch(ctx, m)
	}
	if talked && !l.glance {
		l.shoot(ctx)
	}
	l.pass(shot{err: errors.New("the conversation with QEMU did not come so far")})
	return finding{err: err, put: func(c *Capture) { c.Machine = m }}
}

// hopeless says that the process is stopped or killed: it answers nobody.
func (l *look) hopeless() bool {
	st, err := host.ReadStat(l.QEMU.Pid)
	return err != nil || strings.Contains("TtZX", st.State)
}

// converse is the one long conversation: all that is asked once, the counters among it.
func (l *look) converse(ctx context.Context, m *Machine) error {
	ctx, cancel := context.WithTimeout(ctx, talkLimit)
	defer cancel()
	mon, err := qmp.Dial(ctx, l.socket("qmp"))
	if err != nil {
		m.heard(err)
		return err
	}
	defer func() { _ = mon.Close() }()
	m.Version = line(mon.Version())
	var status struct{ Status string }
	type question struct {
		command string
		ask     func() error
	}
	asked := []question{
		{"query-status", func() error {
			err := mon.Do(ctx, "query-status", nil, &status)
			m.Status = line(status.Status)
			return err
		}},
		{"query-blockstats", func() (err error) { m.First, err = counters(ctx, mon); return err }},
		{"query-chardev", func() (err error) { m.Port, err = l.port(ctx, mon); return err }},
		{"query-cpus-fast", func() (err error) { m.CPUs, err = threadIDs(ctx, mon, "query-cpus-fast"); return err }},
		{"query-block", func() (err error) { m.Devices, err = devices(ctx, mon); return err }},
	}
	if !l.glance {
		asked = append(asked,
			question{"query-iothreads", func() (err error) { m.IOThreads, err = threadIDs(ctx, mon, "query-iothreads"); return err }},
			question{"query-block-jobs", func() (err error) { m.Jobs, err = jobs(ctx, mon); return err }},
		)
	}
	var refused error
	answered := "greeting"
	for _, q := range asked {
		err := q.ask()
		switch {
		case err == nil:
		case errors.Is(err, qmp.ErrSilent):
			m.Broke = &Break{Answered: answered, At: q.command}
			return err
		case errors.Is(err, qmp.ErrGone), ctx.Err() != nil:
			return err
		default:
			refused = err
			m.Refused = append(m.Refused, line(err.Error()))
		}
		answered = q.command
	}
	if m.Status == "" {
		return refused // it is not a QEMU that talks there
	}
	if m.Status != "running" || m.Port == "closed" {
		close(l.mute)
	}
	return nil
}

// heard notes what a conversation that did not begin tells of the one before.
func (m *Machine) heard(err error) {
	switch {
	case errors.Is(err, qmp.ErrGreeted):
		if m.Broke == nil {
			m.Broke = &Break{Answered: "greeting", At: "qmp_capabilities"}
		}
		m.Broke.Deaf = false
	case errors.Is(err, qmp.ErrSilent) && m.Broke != nil:
		m.Broke.Deaf = true
	}
}

// watch reads the counters again until they move. Each reading is a conversation of its own of some milliseconds, so
// that nobody else is kept from the socket meanwhile.
func (l *look) watch(ctx context.Context, m *Machine) error {
	if l.glance && idle(m.First) < lately {
		return nil
	}
	if end, ok := ctx.Deadline(); ok && !l.glance {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-shotLimit)) // the rest is the picture's
		defer cancel()
	}
	began := time.Now()
	var err error
	for l.rest(ctx) {
		var now Machine
		since := time.Since(began)
		if err = l.sample(ctx, &now, l.glance || since >= l.most/2); err == nil {
			m.Last, m.Window = now.Last, time.Since(began)
			m.Queues = both(m.Queues, now.Queues)
		}
		calm := l.isCalm() || (l.glance && m.Queues != nil && waitingQueues(m.Queues) == 0)
		if m.moved() || (since >= l.least && calm) || since >= l.most {
			break
		}
	}
	return err
}

// rest is the time between two readings. A glance ends it when it hears that nothing waits.
func (l *look) rest(ctx context.Context) bool {
	timer := time.NewTimer(sampleEvery)
	defer timer.Stop()
	calm := l.calm
	if !l.glance {
		calm = nil
	}
	select {
	case <-timer.C:
	case <-calm:
	case <-ctx.Done():
		return false
	}
	return true
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

func jobs(ctx context.Context, mon *qmp.Monitor) (all []Job, _ error) {
	err := mon.Do(ctx, "query-block-jobs", nil, &all)
	all = all[:min(len(all), maxDisks)]
	for i, j := range all {
		all[i].Device, all[i].Type, all[i].Status = line(j.Device), line(j.Type), line(j.Status)
	}
	return all, err
}

func threadIDs(ctx context.Context, mon *qmp.Monitor, command string) (ids []int, _ error) {
	var raw []struct {
		ID int `json:"thread-id"`
	}
	err := mon.Do(ctx, command, nil, &raw)
	for _, r := range raw[:min(len(raw), maxThreads)] {
		ids = append(ids, r.ID)
	}
	return ids, err
}

// port finds that of the agent by its socket.
func (l *look) port(ctx context.Context, mon *qmp.Monitor) (string, error) {
	var all []struct {
		Filename string
		Open     bool `json:"frontend-open"`
	}
	err := mon.Do(ctx, "query-chardev", nil, &all)
	name := fmt.Sprintf("/%d.qga", l.VMID)
	for _, one := range all {
		if path, _, _ := strings.Cut(one.Filename, ","); strings.HasSuffix(path, name) {
			return map[bool]string{true: "open", false: "closed"}[one.Open], err
		}
	}
	return "", err
}
