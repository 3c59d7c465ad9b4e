package agentrun

import (
	"context"
	"fmt"
	"os"
)

// modesOf is who may do what with the files, those that are there.
func modesOf(paths []string) map[string]os.FileMode {
	modes := map[string]os.FileMode{}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			modes[path] = info.Mode().Perm()
		}
	}
	return modes
}

// shut gives the private files the modes back that they had at our start, and tells the turn of each that had another:
// the cage has no right for modes (landlock(7)), so a command may have changed what is our user's.
func (r *Runner) shut(ctx context.Context, t *Turn) {
	now := modesOf(r.cfg.Private)
	for _, path := range r.cfg.Private {
		was, known := r.modes[path]
		is, there := now[path]
		if !known || !there || was == is {
			continue
		}
		end := "has been put right."
		err := os.Chmod(path, was)
		if err != nil {
			end = fmt.Sprintf("cannot be put right; run: chmod %o %s.", was, path)
		}
		r.cfg.Log.ErrorContext(ctx, "a private file had another mode than at the start", "path", path, "was", was, "is", is, "error", err)
		t.events.add(Notice{Alarm: true, Text: fmt.Sprintf("%s had mode %04o, not %04o as at the start, and %s Commands of the agent can do that; "+
			"look at who has read it since.", path, is, was, end)})
	}
}
