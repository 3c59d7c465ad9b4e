package image

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// file is one entry of an initramfs. A mode without a type is a regular file.
type file struct {
	mode fs.FileMode
	data []byte // of a link: its target
}

// archive is a file tree by absolute paths; all belongs to root. Folders above an entry need not be named.
type archive map[string]file

func (a archive) text(name, text string)              { a[name] = file{0o644, []byte(text)} }
func (a archive) program(name string, program []byte) { a[name] = file{0o755, program} }
func (a archive) secret(name string, data []byte)     { a[name] = file{0o600, data} }
func (a archive) link(name, target string)            { a[name] = file{fs.ModeSymlink | 0o777, []byte(target)} }
func (a archive) dir(name string)                     { a[name] = file{fs.ModeDir | 0o755, nil} }

// write makes an archive in the format "newc" that the kernel unpacks (Documentation/driver-api/early-userspace/
// buffer-format.rst). Several of them in a row are unpacked one over the other; each ends on a multiple of 512 bytes,
// since the kernel looks for the next at multiples of four.
func (a archive) write(w io.Writer) error {
	for name := range maps.Clone(a) {
		for dir := path.Dir(name); dir != "/" && dir != "."; dir = path.Dir(dir) {
			if _, named := a[dir]; !named {
				a.dir(dir)
			}
		}
	}
	c := &counter{w: w}
	for i, name := range slices.Sorted(maps.Keys(a)) { // a folder sorts before what is in it
		if err := entry(c, i+1, strings.TrimPrefix(name, "/"), a[name]); err != nil {
			return err
		}
	}
	if err := entry(c, 0, "TRAILER!!!", file{}); err != nil {
		return err
	}
	return c.pad(512)
}

func entry(c *counter, inode int, name string, f file) error {
	kind := map[fs.FileMode]uint32{0: 0o100000, fs.ModeDir: 0o040000, fs.ModeSymlink: 0o120000}[f.mode.Type()]
	_, err := fmt.Fprintf(c, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		inode, kind|uint32(f.mode.Perm()), 0, 0, 1, 0, len(f.data), 0, 0, 0, 0, len(name)+1, 0, name)
	if err == nil {
		err = c.pad(4)
	}
	if err == nil {
		_, err = c.Write(f.data)
	}
	if err == nil {
		err = c.pad(4)
	}
	return err
}

// counter knows how far it has written.
type counter struct {
	w io.Writer
	n int
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += n
	return n, err
}

func (c *counter) pad(to int) error {
	_, err := c.Write(make([]byte, (to-c.n%to)%to))
	return err
}
