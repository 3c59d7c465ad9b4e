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
	l, err := g.flock("lock")
	switch {
	case err != nil:
		return nil, fmt.Errorf("the lock cannot be taken: %w", err)
	case l != nil:
		g.mark = g.runFile("change")
		return l, nil
	}
	holder := "another change"
	if r := loadRecord(g.settings); r.Op != "" && r.Ended.IsZero() {
		holder = r.words(time.Now())
	}
	g.tell.step("lock", pve.StepFail, "busy: "+holder)
	return nil, ended(pve.Busy, "Busy: %s.\n%s was not begun. Ask status, then try again.", holder, g.verb)
}

// turns is how many runs may look at the VM at once, all keys together. On a wedged host each leaves something behind
// that hangs, and a key that may only look shall not be able to fill the host with that.
const turns = 3

// takeTurn takes the right to look, or says at once that enough others do.
func (g *gate) takeTurn() (*lock, error) {
	for n := 1; n <= turns; n++ {
		name := fmt.Sprintf("look.%d", n)
		l, err := g.flock(name)
		if err != nil {
			return nil, fmt.Errorf("no turn to look can be taken: %w", err)
		}
		if l != nil {
			g.mark = g.runFile(name)
			return l, nil
		}
	}
	g.tell.step("turn", pve.StepFail, "busy")
	return nil, ended(pve.Busy, "Busy: %d others are looking at VM %d already.\n%s was not begun. Try again in a few seconds.", turns, g.vmid, g.verb)
}

// flock locks a file of the run folder; nil if somebody else has it.
func (g *gate) flock(name string) (*lock, error) {
	path := g.runFile(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return &lock{f}, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, err
}

// release gives the right back at once, not when the process ends: a thread stuck in the disk can keep the process and
// its descriptors for hours.
func (l *lock) release() {
	_ = unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	_ = l.file.Close()
}
