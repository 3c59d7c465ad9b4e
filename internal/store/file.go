//nolint:gosec // G703: the path is the operator's own, from the config
package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// prepare makes the folder, takes the lock and makes the file.
func (s *Store) prepare() error {
	folder := filepath.Dir(s.path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return permitted(err, fmt.Sprintf("store.url: bgbot cannot make the folder %s; make it and give it to the user that runs bgbot.", folder))
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return permitted(err, fmt.Sprintf("store.url: bgbot may not write %s; give the file and its folder to the user that runs bgbot.", s.path))
	}
	defer f.Close()
	if s.file, err = f.Stat(); err != nil {
		return err
	}
	if s.file.Mode().Perm()&0o077 != 0 {
		return permitted(f.Chmod(0o600), fmt.Sprintf("store.url: others may read %s, and bgbot may not forbid it; give the file and its folder to the user that runs bgbot.", s.path))
	}
	return nil
}

// permitted makes the sentence of an error that waiting does not mend, and passes on all others.
func permitted(err error, sentence string) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENAMETOOLONG) {
		return &Unusable{Message: sentence, Err: err}
	}
	return err
}

// takeLock holds PATH.lock for this process; the kernel frees it however the process ends. A file at the path that is
// no store of ours and has no lock beside it never was, and is left alone.
func (s *Store) takeLock() error {
	if s.lock != nil {
		return nil
	}
	if _, err := os.Lstat(s.lockPath()); errors.Is(err, fs.ErrNotExist) && foreign(s.path) {
		return s.notOurs()
	}
	f, err := os.OpenFile(s.lockPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return permitted(err, fmt.Sprintf("store.url: bgbot may not write in the folder %s; give it to the user that runs bgbot, or choose another path.", filepath.Dir(s.path)))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock: %w", err)
		}
		holder := make([]byte, 100)
		n, _ := f.ReadAt(holder, 0)
		by := strings.TrimSpace(string(holder[:n]))
		return &Unusable{By: by, Message: fmt.Sprintf("store.url: another bgbot (%s) uses %s; stop it, or give this one another path.", by, s.path)}
	}
	s.lock = f
	if err := f.Truncate(0); err == nil {
		host, _ := os.Hostname()
		_, _ = fmt.Fprintf(f, "process %d on %s\n", os.Getpid(), host) // only for the sentence above; the disk may be full
	}
	return nil
}

func (s *Store) notOurs() error {
	return &Unusable{Message: fmt.Sprintf("store.url: %s is not a store of bgbot and was left alone; choose another path.", s.path)}
}

func (s *Store) lockPath() string { return s.path + ".lock" }

func (s *Store) unlock() {
	if s.lock != nil {
		// Unlocked by name: a child that is being forked just now holds a copy of the descriptor until its exec, and with
		// it a lock that is only closed.
		_ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN)
		_ = s.lock.Close() // the kernel frees it in any case
		s.lock = nil
	}
}

// foreign says whether something other than a store of ours is at the path, without changing it.
func foreign(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if !info.Mode().IsRegular() {
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 72) // https://www.sqlite.org/fileformat.html#the_database_header
	n, _ := io.ReadFull(f, head)
	return n > 0 && (!bytes.HasPrefix(head, []byte("SQLite format 3\x00")) || binary.BigEndian.Uint32(head[68:]) != applicationID)
}

// setAside keeps a damaged file under another name, so that a new one can take its place.
func (s *Store) setAside(cause error) error {
	now := time.Now().UTC()
	aside := s.path + ".corrupt-" + now.Format("20060102T150405.000Z")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(s.path+suffix, aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set aside: %w", err)
		}
	}
	s.suspect, s.bare = false, true
	s.mu.Lock()
	s.log.Error("store file is damaged, moved aside", "path", s.path, "aside", aside, "error", cause)
	s.health.tell(fmt.Sprintf("The store's file was damaged; it was kept as %s and a new one started, so older history is missing.", filepath.Base(aside)))
	s.own("damaged", "the file was damaged and kept as "+aside)
	s.mu.Unlock()
	return s.prepare()
}
