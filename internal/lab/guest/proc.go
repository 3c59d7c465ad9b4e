package guest

import (
	"fmt"
	"strings"
	"time"
)

// pseudo is a file that no disk holds: the part of /proc that people read in an incident.
func (m *Machine) pseudo(p string) (string, bool) {
	stalled := !m.cfg.Drive.Stalled().IsZero()
	switch p {
	case "/proc/loadavg":
		a, b, c := m.load()
		return fmt.Sprintf("%.2f %.2f %.2f %d/412 3391\n", a, b, c, 1+len(m.tasks())), true
	case "/proc/uptime":
		up := m.uptime().Seconds()
		return fmt.Sprintf("%.2f %.2f\n", up, up*3.7), true
	case "/proc/pressure/io":
		if stalled {
			return "some avg10=99.21 avg60=98.74 avg300=71.02 total=418820114\nfull avg10=98.87 avg60=98.02 avg300=70.55 total=415590021\n", true
		}
		return "some avg10=0.00 avg60=0.03 avg300=0.01 total=1820114\nfull avg10=0.00 avg60=0.02 avg300=0.00 total=1590021\n", true
	case "/proc/pressure/cpu":
		return "some avg10=0.12 avg60=0.20 avg300=0.17 total=90211004\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", true
	case "/proc/pressure/memory":
		return "some avg10=0.00 avg60=0.00 avg300=0.00 total=20114\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=11021\n", true
	case "/proc/meminfo":
		return m.meminfo(), true
	case "/proc/mounts", "/etc/mtab":
		return m.mounts(), true
	case "/proc/diskstats":
		c := m.cfg.Drive.Counters()
		return fmt.Sprintf("   8       0 sda 21877 1204 1433600 9120 %d 0 %d 8810 %d 18201 19100 0 0 0 0 %d 80\n",
			c.Writes, c.Bytes/512, len(m.tasks()), c.Flushes), true
	case "/proc/cpuinfo":
		return strings.Repeat("processor\t: 0\nmodel name\t: QEMU Virtual CPU version 2.5+\n\n", 4), true
	case "/proc/version":
		return "Linux version 6.1.0-28-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1\n", true
	case "/proc/cmdline":
		return "BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=/dev/sda2 ro quiet\n", true
	case "/proc/sys/kernel/hostname":
		return m.cfg.Name + "\n", true
	case "/proc/sys/kernel/hung_task_timeout_secs":
		return "120\n", true
	case "/dev/null":
		return "", true
	}
	return "", false
}

func (m *Machine) uptime() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.booted)
}

// dirty is what waits to be written, in kB: a stalled disk piles it up.
func (m *Machine) dirty() int64 {
	since := m.cfg.Drive.Stalled()
	if since.IsZero() {
		return 184
	}
	return 318204 + int64(time.Since(since).Seconds())*96
}

func (m *Machine) meminfo() string {
	return fmt.Sprintf("MemTotal:       16384000 kB\nMemFree:         6102448 kB\nMemAvailable:   11880312 kB\nBuffers:          210044 kB\n"+
		"Cached:          5710220 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\nDirty:           %8d kB\nWriteback:       %8d kB\n",
		m.dirty(), m.dirty()/9)
}

func (m *Machine) mounts() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	b.WriteString("proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n")
	for _, f := range m.disk.Mounts {
		fmt.Fprintf(&b, "%s %s %s rw,relatime 0 0\n", f.Device, f.Point, f.Type)
	}
	return b.String()
}
