package gate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"bgbot/pve/gate/host"
)

const (
	diskLimit     = time.Second
	maxJournal    = 1 << 20  // thousands of changes
	maxRejections = 64 << 10 // some hundreds; one more of as much is kept
)

// journal appends lines to a file on the host's disk, which may be the very thing that is stuck. The first line that
// does not get through in time is the last that is tried. A file that has grown beyond most bytes becomes the old one.
type journal struct {
	path  string
	most  int64
	stuck bool
}

func (j *journal) append(r record) error {
	if j.stuck {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = host.Within(diskLimit, func() (struct{}, error) { return struct{}{}, j.write(append(line, '\n')) })
	j.stuck = err != nil
	return err
}

func (j *journal) write(line []byte) error {
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return err
	}
	if info, err := os.Stat(j.path); err == nil && info.Size() > j.most {
		if err := os.Rename(j.path, j.path+".1"); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(j.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(line); err != nil {
		return err
	}
	return f.Sync()
}
