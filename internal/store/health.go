package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// health is how the disk does. The caller locks.
type health struct {
	failing error // the last failure; nil when the last attempt went well
	slow    bool  // somebody waited in vain
	deaf    bool  // reading fails too
	since   time.Time
	broken  chan struct{} // closed when it starts to fail, so that nobody waits on

	notice      string // something that people have to know although all is well
	noticeUntil time.Time
}

// ill says whether it makes no sense to wait for the disk.
func (h *health) ill() bool { return h.failing != nil || h.slow }

// fail notes a failure and says whether its reason is new.
func (h *health) fail(err error) bool {
	if !h.ill() {
		h.since = time.Now()
	}
	news := h.failing == nil || reason(h.failing) != reason(err)
	if h.failing == nil {
		close(h.broken)
	}
	h.failing = err
	return news
}

func (h *health) heal() {
	if h.failing != nil {
		h.broken = make(chan struct{})
	}
	h.failing, h.slow, h.deaf = nil, false, false
}

// noticeFor is how long Trouble tells of something that is over but has a consequence.
const noticeFor = time.Hour

func (h *health) tell(notice string) {
	h.notice, h.noticeUntil = notice, time.Now().Add(noticeFor)
}

// Trouble is empty when the store is healthy. Else it is one sentence for people, to be added to an answer. It never
// waits for the disk.
func (s *Store) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.health
	lost := ""
	if s.queue.lost > 0 {
		lost = fmt.Sprintf("; %s too many for memory were dropped", entries(s.queue.lost))
	}
	since := h.since.Format("15:04 MST") // with the zone: people, the host and the guest may be in three of them
	switch {
	case h.failing != nil:
		return fmt.Sprintf("The store is failing (%s) since %s; what happens now is kept in memory and written when it works again%s.",
			reason(h.failing), since, lost)
	case h.slow:
		return fmt.Sprintf("The store is slow since %s; what happens now is kept in memory and written when it catches up%s.", since, lost)
	case time.Now().Before(h.noticeUntil):
		return h.notice
	}
	return ""
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// errDamaged is what a check of the whole file finds.
var errDamaged = errors.New("the file is damaged")

// code is the primary result code of SQLite in err, or SQLITE_OK if there is none.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return sqlite3.SQLITE_OK
}

func damaged(err error) bool {
	c := code(err)
	return errors.Is(err, errDamaged) || c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB
}

// reason is err in a few words for people.
func reason(err error) string {
	switch code(err) {
	case sqlite3.SQLITE_FULL:
		return "disk full"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "another program locks the file"
	case sqlite3.SQLITE_READONLY:
		return "the file is read-only"
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return "the file cannot be opened"
	case sqlite3.SQLITE_NOMEM:
		return "out of memory"
	}
	switch {
	case damaged(err):
		return "the file is damaged"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "disk full"
	case errors.Is(err, syscall.EROFS):
		return "the disk is read-only"
	case errors.Is(err, fs.ErrPermission):
		return "no permission to write the file"
	case refused(err):
		return "the file cannot be used"
	default:
		return "disk error"
	}
}

// blame says whether err is the fault of one statement, which would fail for ever, and not of the disk.
func blame(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return true
	}
	return false
}

// keepsConnection says whether a failure passes without opening the file anew.
func keepsConnection(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return true
	}
	return false
}
