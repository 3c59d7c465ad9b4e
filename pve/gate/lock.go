package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bgbot/pve"

	"golang.org/x/sys/unix"
)

// lock is the right to change the VM. Its descriptor is close-on-exec: in the hands of a qm that never ends it would
// stay taken for ever.
type lock struct{ file *os.File }

// lock takes the right to change the VM, or says at once who has it.
func (g *gate) lock() (*lock, error) {
	path := g.runFile("lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("the lock cannot be taken: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the lock cannot be taken: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return &lock{f}, nil
	}
	_ = f.Close()
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("the lock cannot be taken: %w", err)
	}
	holder := "another change"
	if r := loadRecord(g.settings); r.Op != "" && r.Ended.IsZero() {
		holder = r.words(time.Now())
	}
	g.tell.step("lock", pve.StepFail, "busy: "+holder)
	return nil, ended(pve.Busy, "Busy: %s.\n%s was not begun. Ask status, then try again.", holder, g.verb)
}

// release gives the right back at once, not when the process ends: a thread stuck in the disk can keep the process and
// its descriptors for hours.
func (l *lock) release() {
	_ = unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	_ = l.file.Close()
}
