package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Task is one of Proxmox's own tasks.
type Task struct {
	UPID  string    `json:"upid"`
	Type  string    `json:"type"` // qmstart, qmstop, vzdump, …
	User  string    `json:"user"`
	Began time.Time `json:"began"`
	End   string    `json:"end,omitempty"` // OK, or its error; empty while it runs, or if it was cut off
	Log   string    `json:"log,omitempty"` // its last lines
}

const (
	maxTasks   = 3
	maxTaskLog = 4 << 10
)

// The form is that of PVE::Tools::upid_decode in pve-common.
var upidForm = regexp.MustCompile(`^UPID:[A-Za-z0-9][A-Za-z0-9-]*:[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,9}:([0-9A-Fa-f]{8}):([[:word:].-]+):([[:word:].-]*):([^:/[:cntrl:][:space:]]+):$`)

// parseUPID reads the name of a task's log, and of which VM it is.
func parseUPID(name string) (t Task, vmid string, ok bool) {
	parts := upidForm.FindStringSubmatch(name)
	if parts == nil {
		return Task{}, "", false
	}
	began, err := strconv.ParseInt(parts[1], 16, 64)
	if err != nil {
		return Task{}, "", false
	}
	return Task{UPID: line(name), Type: line(parts[2]), User: line(parts[4]), Began: time.Unix(began, 0).UTC()}, parts[3], true
}

// tasks finds the newest tasks of the VM by the names of their logs. The index beside them lists the ended ones alone.
func (l *look) tasks(ctx context.Context) finding {
	folders, err := os.ReadDir(l.Tasks)
	if errors.Is(err, os.ErrNotExist) {
		return finding{text: "no task logs on this host"}
	} else if err != nil {
		return finding{err: err}
	}
	type found struct {
		Task
		path string
	}
	var all []found
	for _, folder := range folders {
		if len(folder.Name()) != 1 || ctx.Err() != nil { // the last hex digit of the start time
			continue
		}
		names, err := os.ReadDir(filepath.Join(l.Tasks, folder.Name()))
		if err != nil {
			continue
		}
		for _, name := range names {
			if t, vmid, ok := parseUPID(name.Name()); ok && vmid == fmt.Sprint(l.VMID) {
				all = append(all, found{t, filepath.Join(l.Tasks, folder.Name(), name.Name())})
			}
		}
	}
	slices.SortFunc(all, func(a, b found) int { return b.Began.Compare(a.Began) })
	var newest []Task
	for _, f := range all[:min(len(all), maxTasks)] {
		text, err := tail(f.path, maxTaskLog)
		if err != nil {
			text = "[unreadable: " + err.Error() + "]"
		}
		f.Log, f.End = taskEnd(text)
		newest = append(newest, f.Task)
	}
	return finding{put: func(c *Capture) { c.Tasks = newest }}
}

// taskEnd takes the verdict of a task from the last line of its log.
func taskEnd(text string) (log, end string) {
	log = strings.TrimSpace(clean(text))
	last := log[strings.LastIndexByte(log, '\n')+1:]
	for _, word := range []string{"TASK OK", "TASK WARNINGS", "TASK ERROR"} {
		if strings.HasPrefix(last, word) {
			return log, strings.TrimPrefix(strings.TrimPrefix(last, "TASK ERROR: "), "TASK ")
		}
	}
	return log, ""
}

// tail is the end of a file.
func tail(path string, n int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-n), n))
	return string(text), err
}
