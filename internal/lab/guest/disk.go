package guest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// Disk is what survives a power cycle: file systems, files and the units that are installed. Sizes are in bytes.
type Disk struct {
	Mounts []Mount          `json:"mounts"`
	Files  map[string]*File `json:"files"` // by absolute path
	Units  []Unit           `json:"units"` // enabled, in the order in which a boot starts them
	Since  time.Time        `json:"since"` // when the machine was up before the incident began; zero after the first boot
}

// Mount is one file system.
type Mount struct {
	Device string `json:"device"`
	Point  string `json:"point"`
	Type   string `json:"type"`
	Size   int64  `json:"size"`
	Base   int64  `json:"base"` // used by what is not in Files
	Memory bool   `json:"memory,omitempty"`
}

// File is a file or a directory. Text may be shorter than Size: then it is the part worth showing.
type File struct {
	Size    int64     `json:"size"`
	Text    string    `json:"text,omitempty"`
	Owner   string    `json:"owner"`
	Dir     bool      `json:"dir,omitempty"`
	ModTime time.Time `json:"mtime"`
	// BootRemoves stands for a line of type "R!" in tmpfiles.d: the file is removed at each boot, and only then.
	BootRemoves bool `json:"boot_removes,omitempty"`
}

// Unit is a systemd service.
type Unit struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Command     string `json:"command"`
	Needs       int64  `json:"needs,omitempty"` // free bytes in /var without which it fails to start
}

// openDisk reads a disk image, or makes a new one from the named template.
func openDisk(image, template string) (*Disk, error) {
	data, err := os.ReadFile(image)
	if os.IsNotExist(err) {
		d, err := fromTemplate(template)
		if err != nil {
			return nil, err
		}
		return d, d.save(image)
	}
	if err != nil {
		return nil, err
	}
	var d Disk
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("disk image %s: %w", image, err)
	}
	return &d, nil
}

// save replaces the image in one step, so that a power cut leaves the old one or the new one.
func (d *Disk) save(image string) error {
	data, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(image+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(image+".new", image)
}

// mount is the file system that holds p.
func (d *Disk) mount(p string) *Mount {
	best := 0
	for i, m := range d.Mounts {
		if within(p, m.Point) && len(m.Point) >= len(d.Mounts[best].Point) {
			best = i
		}
	}
	return &d.Mounts[best]
}

func within(p, dir string) bool {
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

// used is what m holds, never more than its size.
func (d *Disk) used(m *Mount) int64 {
	n := m.Base
	for p, f := range d.Files {
		if !f.Dir && d.mount(p) == m {
			n += f.Size
		}
	}
	return min(n, m.Size)
}

func (d *Disk) free(p string) int64 {
	m := d.mount(p)
	return m.Size - d.used(m)
}

// under is the size of all files at or below p.
func (d *Disk) under(p string) int64 {
	var n int64
	for name, f := range d.Files {
		if !f.Dir && within(name, p) {
			n += f.Size
		}
	}
	return n
}

// isDir tells directories, those included that exist only because something lies below them.
func (d *Disk) isDir(p string) bool {
	if p == "/" {
		return true
	}
	if f := d.Files[p]; f != nil {
		return f.Dir
	}
	for name := range d.Files {
		if strings.HasPrefix(name, p+"/") {
			return true
		}
	}
	return slices.ContainsFunc(d.Mounts, func(m Mount) bool { return m.Point == p })
}

// names lists what lies directly in dir, sorted.
func (d *Disk) names(dir string) []string {
	seen := map[string]bool{}
	add := func(p string) {
		if rest := strings.TrimPrefix(p, strings.TrimSuffix(dir, "/")+"/"); rest != p && rest != "" {
			name, _, _ := strings.Cut(rest, "/")
			seen[name] = true
		}
	}
	for p := range d.Files {
		add(p)
	}
	for _, m := range d.Mounts {
		add(m.Point)
	}
	return slices.Sorted(maps.Keys(seen))
}

// write puts text into p as far as there is room, and says how many bytes fitted.
func (d *Disk) write(p, text string, appending bool, owner string, now time.Time) int {
	f := d.Files[p]
	if f == nil {
		f = &File{Owner: owner}
		d.Files[p] = f
	}
	if !appending {
		f.Size, f.Text = 0, ""
	}
	n := int(min(int64(len(text)), d.free(p)))
	const shown = 64 << 10 // the text is there to be read back, not to be stored
	f.Size += int64(n)
	f.Text += text[:min(n, max(0, shown-len(f.Text)))]
	f.ModTime = now
	return n
}

// boot removes what tmpfiles.d removes at boot.
func (d *Disk) boot() {
	maps.DeleteFunc(d.Files, func(_ string, f *File) bool { return f.BootRemoves })
	maps.DeleteFunc(d.Files, func(p string, _ *File) bool { return d.mount(p).Memory })
}

func parentExists(d *Disk, p string) bool { return d.isDir(path.Dir(p)) }
