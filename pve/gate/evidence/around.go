package evidence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"bgbot/pve/gate/host"

	"golang.org/x/sys/unix"
)

// Host is the machine around QEMU, in numbers that rules use. The rest is in the texts of the probes.
type Host struct {
	Up     time.Duration `json:"up,omitempty"`
	CPUs   int           `json:"cpus,omitempty"`
	Load   float64       `json:"load,omitempty"` // of the last minute
	Free   int64         `json:"free,omitempty"` // bytes of memory that programs could have
	Memory int64         `json:"memory,omitempty"`
	// Pressure: the percentage of the last 10 s in which everything that wanted to run waited for memory, or for I/O.
	MemoryFull float64 `json:"memory_full,omitempty"`
	IOFull     float64 `json:"io_full,omitempty"`

	First  []HostDisk    `json:"first,omitempty"`
	Last   []HostDisk    `json:"last,omitempty"`
	Window time.Duration `json:"window,omitempty"`
}

// HostDisk is a line of the host's /proc/diskstats.
type HostDisk struct {
	Name    string        `json:"name"` // with that of the logical volume, as in dm-3 pve-vm--102--disk--0
	Waiting int64         `json:"waiting"`
	Done    int64         `json:"done"`
	Busy    time.Duration `json:"busy"`
}

// stalled are the disks of the host that had requests under way at both readings and did none between.
func (h *Host) stalled() (names []string) {
	for _, d := range h.Last {
		i := slices.IndexFunc(h.First, func(f HostDisk) bool { return f.Name == d.Name })
		if i >= 0 && h.Window >= lately && d.Waiting > 0 && h.First[i].Waiting > 0 && h.First[i].Done == d.Done {
			names = append(names, d.Name)
		}
	}
	return names
}

// busiest is the disk of the host that worked the largest share of the window.
func (h *Host) busiest() (name string, share float64) {
	for _, d := range h.Last {
		i := slices.IndexFunc(h.First, func(f HostDisk) bool { return f.Name == d.Name })
		if i < 0 || h.Window <= 0 {
			continue
		}
		if s := float64(d.Busy-h.First[i].Busy) / float64(h.Window); s > share {
			name, share = d.Name, s
		}
	}
	return name, min(1, share)
}

const scarce = 20 // percent of the time without memory

// starved says why the host has no time for its VMs; empty if it has.
func (h *Host) starved() string {
	switch {
	case h.MemoryFull >= scarce:
		return fmt.Sprintf("short of memory (%.0f %%)", h.MemoryFull)
	case h.CPUs > 0 && h.Load >= 4*float64(h.CPUs):
		return fmt.Sprintf("load %.0f on %d CPUs", h.Load, h.CPUs)
	}
	return ""
}

// hostDisks reads the counters twice, and goes on while one disk seems to stand still.
func (l *look) hostDisks(ctx context.Context) finding {
	var h Host
	var err error
	began := time.Now()
	if h.First, err = readDisks(); err != nil {
		return finding{err: err}
	}
	for wait := l.cpu; pause(ctx, wait); wait = sampleEvery {
		if h.Last, err = readDisks(); err != nil {
			break
		}
		h.Window = time.Since(began)
		waits := slices.ContainsFunc(h.Last, func(d HostDisk) bool { return d.Waiting > 0 })
		if !waits || h.Window >= l.stuck {
			break
		}
	}
	return finding{err: err, put: func(c *Capture) { c.Host.First, c.Host.Last, c.Host.Window = h.First, h.Last, h.Window }}
}

func readDisks() ([]HostDisk, error) {
	text, err := os.ReadFile("/proc/diskstats")
	return parseDisks(string(text), func(name string) string {
		volume, _ := os.ReadFile(filepath.Join("/sys/block", name, "dm/name"))
		return strings.TrimSpace(string(volume))
	}), err
}

// parseDisks takes the whole disks that were ever used; see Documentation/admin-guide/iostats.rst.
func parseDisks(text string, volume func(string) string) (all []HostDisk) {
	for row := range strings.Lines(text) {
		words := strings.Fields(row)
		if len(words) < 14 || strings.HasPrefix(words[2], "loop") || strings.HasPrefix(words[2], "ram") {
			continue
		}
		var n [17]int64 // by the numbers of the document, from 1; kernels before 5.5 have fewer
		for i, word := range words[3:min(len(words), 3+len(n))] {
			n[i], _ = strconv.ParseInt(word, 10, 64)
		}
		d := HostDisk{Name: line(words[2]), Waiting: n[8], Done: n[0] + n[4] + n[11] + n[15], Busy: milliseconds(n[9])}
		if d.Done == 0 && d.Waiting == 0 {
			continue
		}
		if name := volume(words[2]); name != "" {
			d.Name += " " + line(name)
		}
		all = append(all, d)
	}
	return all
}

// load is how hard the host works.
func (l *look) load(context.Context) finding {
	f := files("/proc/loadavg", "/proc/uptime", "/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory")
	f.put = func(c *Capture) { c.Host.readLoad(c.text(loadProbe)) }
	return f
}

func (h *Host) readLoad(text string) {
	h.CPUs = runtime.NumCPU()
	section := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "/"):
			section = strings.TrimSuffix(strings.TrimSpace(line), ":")
		case len(words) < 2:
		case section == "/proc/loadavg":
			h.Load = number(words[0])
		case section == "/proc/uptime":
			h.Up = time.Duration(min(number(words[0]), 1e9) * float64(time.Second))
		case words[0] == "full" && section == "/proc/pressure/io":
			h.IOFull = number(strings.TrimPrefix(words[1], "avg10="))
		case words[0] == "full" && section == "/proc/pressure/memory":
			h.MemoryFull = number(strings.TrimPrefix(words[1], "avg10="))
		}
	}
}

// number reads one that is not below 0, or is 0.
func number(word string) float64 {
	n, err := strconv.ParseFloat(word, 64)
	if err != nil || !(n >= 0 && n < 1e15) { // also NaN
		return 0
	}
	return n
}

// memory keeps the lines of /proc/meminfo that explain something.
func (l *look) memory(context.Context) finding {
	text, err := os.ReadFile("/proc/meminfo")
	var b strings.Builder
	var h Host
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if !slices.Contains([]string{
			"MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapTotal", "SwapFree", "Dirty", "Writeback",
			"AnonPages", "Shmem", "Slab", "SUnreclaim", "Committed_AS", "HugePages_Total", "HugePages_Free",
		}, name) {
			continue
		}
		b.WriteString(line)
		words := strings.Fields(value)
		if len(words) == 0 {
			continue
		}
		switch kib := int64(number(words[0])); name {
		case "MemTotal":
			h.Memory = kib << 10
		case "MemAvailable":
			h.Free = kib << 10
		}
	}
	return finding{text: b.String(), err: err, put: func(c *Capture) { c.Host.Memory, c.Host.Free = h.Memory, h.Free }}
}

// kernelLog is the end of the host's kernel log, and what tells of trouble before it. It comes from the kernel's memory, so
// no disk and no journald can hold it up; see syslog(2).
func (l *look) kernelLog(context.Context) finding {
	const readAll, size, most = 3, 10, 2 << 20
	n, err := unix.Klogctl(size, nil)
	if err != nil {
		return finding{err: err}
	}
	memory := make([]byte, min(n, most))
	if n, err = unix.Klogctl(readAll, memory); err != nil {
		return finding{err: err}
	}
	return finding{text: kernelLines(string(memory[:n]))}
}

// kernelLines keeps the last lines, and of those before them the ones that tell of trouble.
func kernelLines(text string) string {
	const tail, most = 120, 50
	all := strings.SplitAfter(text, "\n")
	at := max(0, len(all)-tail)
	before := slices.DeleteFunc(slices.Clone(all[:at]), func(line string) bool { return !troubled(line) })
	kept := append(before[max(0, len(before)-most):], all[at:]...)
	for i, line := range kept {
		kept[i] = level.ReplaceAllString(line, "")
	}
	return strings.Join(kept, "")
}

var level = regexp.MustCompile(`^<\d+>`)

// commands are the questions for programs of the host; those that it does not have are not asked.
func (l *look) commands() []probe {
	vmid := fmt.Sprint(l.VMID)
	pvesm := filepath.Join(filepath.Dir(l.QM), "pvesm")
	all := []probe{
		l.command(statusProbe, 6*time.Second, l.QM, "status", vmid, "--verbose"),
		l.command(configProbe, 6*time.Second, l.QM, "config", vmid),
		l.command("qm pending", 6*time.Second, l.QM, "pending", vmid),
	}
	for _, p := range []struct {
		name  string
		limit time.Duration
		argv  []string
	}{
		{"storage (pvesm)", 7 * time.Second, []string{pvesm, "status"}},
		{"storage (lvs)", 5 * time.Second, []string{"lvs", "--noheadings", "-o", "vg_name,lv_name,lv_size,data_percent,metadata_percent,lv_attr"}},
		{"storage (zpool)", 5 * time.Second, []string{"zpool", "status", "-x"}},
		{"file systems", 3 * time.Second, []string{"df", "-lP"}},
		{"journal", 3 * time.Second, []string{
			"journalctl", "-q", "--no-pager", "-o", "short-iso", "-n", "80",
			// A local user may call itself QEMU in the journal; the field with the leading _ is journald's own word.
			"_UID=0", "-t", "QEMU", "-t", "pvedaemon", "-t", "pvestatd", "-t", "qmeventd",
		}},
	} {
		all = append(all, l.command(p.name, p.limit, p.argv[0], p.argv[1:]...))
	}
	return all
}

func (l *look) command(name string, limit time.Duration, path string, args ...string) probe {
	// Another second: host.Command waits so long for a process that cannot even be reaped.
	return probe{name, limit + time.Second, func(ctx context.Context) finding {
		path := program(path)
		if path == "" {
			return finding{void: true}
		}
		var said host.Said
		if l.Mark == "" {
			said = host.Command(ctx, limit, path, args...)
		} else {
			said = host.Once(ctx, limit, l.Mark+"."+unfit.ReplaceAllString(name, "-"), path, args...)
		}
		if !said.OK() {
			return finding{text: said.Out, err: errors.New(firstLine(said.Words()))}
		}
		return finding{text: said.All()}
	}}
}

var unfit = regexp.MustCompile(`[^a-z]+`) // for the name of a file

// program finds a program where the host keeps its own; empty if there is none.
func program(name string) string {
	paths := []string{name}
	if !filepath.IsAbs(name) {
		paths = []string{"/usr/sbin/" + name, "/usr/bin/" + name, "/sbin/" + name, "/bin/" + name}
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}
