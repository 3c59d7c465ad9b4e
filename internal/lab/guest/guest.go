// Package guest is a Linux VM made of data: a disk with files, units and sizes, and a shell whose programs answer from
// them. It owns what a person sees who logs in to the practice VM. It does not own the machine around it: the QEMU
// process, its network and its power are the lab's. It never runs a program and never opens a file of the real machine,
// whatever command line it is given; only its own disk image is written.
package guest

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what a Machine is made of.
type Config struct {
	Name     string // the host name
	Image    string // path of the disk image; made from Template if it is not there
	Template string // healthy or full
	Drive    *Drive // the disk as QEMU presents it
	Reboot   func() // the guest asks for its own reboot; must not block
}

// Machine is one guest. Its methods may be called from many goroutines at once.
type Machine struct {
	cfg Config

	mu       sync.Mutex // guards all below, and the disk
	disk     *Disk
	booted   time.Time
	services map[string]*service // by unit name
	stuck    []task              // waiting for the disk, in state D
	kmsg     []message           // the kernel log
	journal  []message           // the part of the journal that is in memory
	nextPID  int
}

// service is the state of a unit since this boot.
type service struct {
	state string // active, failed, inactive
	pid   int
	since time.Time
	words string // the last line it wrote
}

const (
	firstLogin = 3000              // the process numbers of what people run
	hungAfter  = 120 * time.Second // kernel.hung_task_timeout_secs
)

type task struct {
	pid   int
	user  string
	name  string
	since time.Time
}

type message struct {
	at   time.Time
	unit string // of the journal; empty for the kernel
	text string
	err  bool
}

// New makes a machine that is switched off: nothing works before Boot.
func New(cfg Config) (*Machine, error) {
	disk, err := openDisk(cfg.Image, cfg.Template)
	if err != nil {
		return nil, fmt.Errorf("guest disk: %w", err)
	}
	return &Machine{cfg: cfg, disk: disk}, nil
}

// Boot starts the guest anew: memory is empty, scratch files go, services start if they can. The first boot of an image
// is the one before the incident, and leaves it as it is. Boot needs the disk, so it waits while the drive is stalled;
// then it returns the cause of ctx's end.
func (m *Machine) Boot(ctx context.Context) error {
	if err := m.cfg.Drive.write(ctx, 4<<20); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.booted, m.nextPID = time.Now(), 480
	if m.disk.Since.IsZero() {
		m.disk.boot()
	} else { // the drill begins long after this boot
		m.booted, m.disk.Since = m.disk.Since, time.Time{}
	}
	m.stuck, m.kmsg, m.journal, m.services = nil, nil, nil, map[string]*service{}
	m.kernel("Linux version 6.1.0-28-amd64 (debian-kernel@lists.debian.org)")
	m.kernel("sd 0:0:0:0: [sda] 629145600 512-byte logical blocks: (322 GB/300 GiB)")
	m.kernel("EXT4-fs (sda2): mounted filesystem with ordered data mode. Quota mode: none.")
	for _, u := range m.disk.Units {
		m.startUnit(u, m.booted)
	}
	return m.disk.save(m.cfg.Image)
}

// startUnit needs mu.
func (m *Machine) startUnit(u Unit, at time.Time) bool {
	m.nextPID += 7
	s := &service{state: "active", pid: m.nextPID, since: at, words: "Started " + u.Description + "."}
	if m.disk.free("/var") < u.Needs {
		s.state, s.pid, s.since = "failed", 0, later(at, time.Now().Add(-4*time.Minute))
		s.words = strings.TrimSuffix(u.Name, ".service") + ": cannot write to /var: No space left on device (os error 28)"
		m.log(s.since, u.Name, s.words, true)
		m.log(s.since, u.Name, u.Name+": Main process exited, code=exited, status=1/FAILURE", true)
		m.log(s.since, u.Name, "Failed to start "+u.Description+".", true)
	} else {
		m.log(s.since, u.Name, s.words, false)
	}
	m.services[u.Name] = s
	return s.state == "active"
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *Machine) kernel(text string) {
	m.kmsg = append(m.kmsg, message{at: m.booted, text: text})
}

func (m *Machine) log(at time.Time, unit, text string, bad bool) {
	m.journal = append(m.journal, message{at: at, unit: unit, text: text, err: bad})
}

// touchDisk is what every program does before it reads or writes what is not in memory. While the drive is stalled it
// becomes a task in state D, which no signal ends: not even `timeout` inside the guest helps. Only the end of the login,
// or of the machine, lets go of it, and it stays listed.
func (s *session) touchDisk(what string) error {
	m := s.m
	m.mu.Lock()
	m.nextPID++
	t := task{pid: firstLogin + m.nextPID, user: s.name(), name: what, since: time.Now()}
	m.stuck = append(m.stuck, t)
	m.mu.Unlock()
	if err := m.cfg.Drive.write(s.life, 4<<10); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stuck = slices.DeleteFunc(m.stuck, func(o task) bool { return o.pid == t.pid })
	return nil
}

// commit writes the disk image after a change; it needs mu.
func (m *Machine) commit() error { return m.disk.save(m.cfg.Image) }

// tasks lists what waits for the disk: the part of the system that always writes, once it has had time to get stuck, and
// every command that has touched the disk since.
func (m *Machine) tasks() []task {
	since := m.cfg.Drive.Stalled()
	m.mu.Lock()
	defer m.mu.Unlock()
	if since.IsZero() {
		return nil
	}
	system := []task{
		{pid: 312, user: "root", name: "[jbd2/sda3-8]"},
		{pid: 347, user: "root", name: "/lib/systemd/systemd-journald"},
		{pid: 1604, user: "t3", name: "/usr/bin/t3-serve --config /etc/t3-serve/config.toml"},
		{pid: 2218, user: "root", name: "[kworker/u8:2+flush-8:0]"},
	}
	for i := range system {
		system[i].since = since
	}
	return append(system, m.stuck...)
}

// load is the load average: a stalled disk drives it up to about 60, since every waiting writer counts.
func (m *Machine) load() (one, five, fifteen float64) {
	since := m.cfg.Drive.Stalled()
	if since.IsZero() {
		return 0.31, 0.28, 0.22
	}
	n := float64(len(m.tasks()))
	return 56.4 + n, 55.9 + n, 41.7
}

// dmesg is the kernel log, with the hung tasks that a stalled disk leads to.
func (m *Machine) dmesg() []message {
	stuck := m.tasks()
	m.mu.Lock()
	defer m.mu.Unlock()
	out := slices.Clone(m.kmsg)
	for _, t := range stuck {
		if t.pid >= firstLogin && time.Since(t.since) < hungAfter {
			continue // the story's own tasks hang for longer than the drill has run
		}
		name := strings.Trim(strings.Fields(t.name)[0], "[]")
		if strings.HasPrefix(name, "/") {
			name = path.Base(name)
		}
		out = append(out,
			message{at: t.since, text: fmt.Sprintf("INFO: task %s:%d blocked for more than 120 seconds.", name, t.pid), err: true},
			message{at: t.since, text: "      Not tainted 6.1.0-28-amd64 #1 Debian 6.1.119-1", err: true},
			message{at: t.since, text: fmt.Sprintf("task:%-15s state:D stack:0 pid:%d ppid:1 flags:0x00004002", name, t.pid), err: true},
		)
	}
	return out
}
