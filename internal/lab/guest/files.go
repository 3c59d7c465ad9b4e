package guest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/interp"
)

// cached tells what is in the guest's page cache, and so can be read while the disk hangs: the system's own small files.
// Logs, data and homes are not.
func cached(p string) bool {
	for _, cold := range []string{"/var", "/home", "/root", "/tmp", "/srv"} {
		if within(p, cold) {
			return false
		}
	}
	return true
}

// inMemory tells file systems that need no disk.
func (m *Machine) inMemory(p string) bool {
	return within(p, "/proc") || within(p, "/sys") || within(p, "/dev") || m.disk.mount(p).Memory
}

// absolute resolves p in the working directory dir.
func absolute(dir, p string) string {
	if !strings.HasPrefix(p, "/") {
		p = dir + "/" + p
	}
	return path.Clean(p)
}

// readFile is the content of a file of the guest.
func (s *session) readFile(p, program string) (string, error) {
	if text, ok := s.m.pseudo(p); ok {
		return text, nil
	}
	m := s.m
	m.mu.Lock()
	f := m.disk.Files[p]
	dir, memory := m.disk.isDir(p), m.inMemory(p)
	m.mu.Unlock()
	switch {
	case f == nil && !dir:
		return "", &fs.PathError{Op: "open", Path: p, Err: syscall.ENOENT}
	case dir:
		return "", &fs.PathError{Op: "read", Path: p, Err: syscall.EISDIR}
	}
	if !memory && !cached(p) {
		if err := s.touchDisk(program + " " + p); err != nil {
			return "", err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return f.Text, nil
}

func (s *session) name() string {
	name, _, _ := s.user()
	return name
}

// mayWrite is the permission check: root everything, a user the home and the scratch folders.
func (s *session) mayWrite(p string) bool {
	for _, mine := range []string{"/home/breakglass", "/tmp", "/var/tmp", "/dev/shm"} {
		if within(p, mine) && p != mine {
			return true
		}
	}
	return s.root
}

// writeFile stores text in a file of the guest.
func (s *session) writeFile(p, text string, appending bool, program string) error {
	m := s.m
	if p == "/dev/null" || p == "/dev/stdout" || p == "/dev/stderr" {
		return nil
	}
	m.mu.Lock()
	var err error
	switch {
	case m.disk.isDir(p):
		err = &fs.PathError{Op: "open", Path: p, Err: syscall.EISDIR}
	case !parentExists(m.disk, p):
		err = &fs.PathError{Op: "open", Path: p, Err: syscall.ENOENT}
	case !s.mayWrite(p) || within(p, "/proc") || within(p, "/sys"):
		err = &fs.PathError{Op: "open", Path: p, Err: syscall.EACCES}
	}
	memory := m.inMemory(p)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if !memory {
		if err := s.touchDisk(program); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// A new file needs an inode and a directory entry, so even an empty one fails on a full disk.
	if m.disk.Files[p] == nil && m.disk.free(p) == 0 {
		return &fs.PathError{Op: "open", Path: p, Err: syscall.ENOSPC}
	}
	n := m.disk.write(p, text, appending, s.name(), time.Now())
	if err := m.commit(); err != nil {
		return err
	}
	if n < len(text) {
		return &fs.PathError{Op: "write", Path: p, Err: syscall.ENOSPC}
	}
	return nil
}

// open serves the shell's redirections.
func (s *session) open(ctx context.Context, p string, flag int, _ os.FileMode) (io.ReadWriteCloser, error) {
	p = absolute(interp.HandlerCtx(ctx).Dir, p)
	if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		if p == "/dev/null" {
			return &reading{Reader: strings.NewReader("")}, nil
		}
		text, err := s.readFile(p, "bash")
		if err != nil {
			return nil, err
		}
		return &reading{Reader: strings.NewReader(text)}, nil
	}
	if err := s.writeFile(p, "", flag&os.O_APPEND != 0, "bash"); err != nil {
		return nil, err
	}
	return &writing{s: s, path: p}, nil
}

type reading struct{ io.Reader }

func (*reading) Write([]byte) (int, error) { return 0, syscall.EBADF }
func (*reading) Close() error              { return nil }

// writing appends to a file of the guest.
type writing struct {
	s    *session
	path string
}

func (*writing) Read([]byte) (int, error) { return 0, syscall.EBADF }
func (*writing) Close() error             { return nil }
func (w *writing) Write(b []byte) (int, error) {
	if err := w.s.writeFile(w.path, string(b), true, "bash"); err != nil {
		return 0, err
	}
	return len(b), nil
}

// stat serves test, cd and globs.
func (s *session) stat(_ context.Context, p string, _ bool) (fs.FileInfo, error) {
	p = path.Clean(p)
	if text, ok := s.m.pseudo(p); ok {
		return info{name: path.Base(p), size: int64(len(text))}, nil
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	f := s.m.disk.Files[p]
	switch {
	case f != nil:
		return info{name: path.Base(p), size: f.Size, dir: f.Dir, modTime: f.ModTime}, nil
	case s.m.disk.isDir(p), p == "/proc", p == "/proc/pressure", p == "/sys", p == "/dev":
		return info{name: path.Base(p), size: 4096, dir: true}, nil
	default:
		return nil, &fs.PathError{Op: "stat", Path: p, Err: syscall.ENOENT}
	}
}

func (s *session) readDir(_ context.Context, p string) ([]fs.DirEntry, error) {
	p = path.Clean(p)
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if !s.m.disk.isDir(p) {
		return nil, &fs.PathError{Op: "readdir", Path: p, Err: syscall.ENOTDIR}
	}
	var all []fs.DirEntry
	for _, name := range s.m.disk.names(p) {
		full := path.Join(p, name)
		i := info{name: name, dir: s.m.disk.isDir(full)}
		if f := s.m.disk.Files[full]; f != nil {
			i.size, i.modTime = f.Size, f.ModTime
		}
		all = append(all, fs.FileInfoToDirEntry(i))
	}
	return all, nil
}

func (s *session) access(ctx context.Context, p string, mode interp.AccessMode) error {
	i, err := s.stat(ctx, p, true)
	switch {
	case err != nil:
		return err
	case mode&interp.AccessWrite != 0 && !s.mayWrite(p):
		return syscall.EACCES
	case mode&interp.AccessExec != 0 && !i.IsDir():
		return syscall.EACCES
	}
	return nil
}

// info is a FileInfo of the guest.
type info struct {
	name    string
	size    int64
	dir     bool
	modTime time.Time
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return i.modTime }
func (i info) IsDir() bool        { return i.dir }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// Sys is what the interpreter's -O, -G and -N tests look at, without asking whether it is there. They compare with the
// real user, so nobody owns anything here.
func (i info) Sys() any { return &syscall.Stat_t{Uid: 1 << 31, Gid: 1 << 31} }

// sentence is the error as C programs print it: "No space left on device".
func sentence(err error) string {
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		text := no.Error()
		return strings.ToUpper(text[:1]) + text[1:]
	}
	return err.Error()
}
