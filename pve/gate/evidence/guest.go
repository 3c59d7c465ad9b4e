package evidence

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"bgbot/pve/qmp"
)

// Guest is what the guest's agent says, and so the guest's word.
type Guest struct {
	Absent   bool          `json:"absent,omitempty"` // no agent is configured
	Answered bool          `json:"answered,omitempty"`
	Mute     bool          `json:"mute,omitempty"`   // it was not waited for: no agent runs, or the guest does not
	Silent   time.Duration `json:"silent,omitempty"` // it did not answer, for so long
	Frozen   bool          `json:"frozen,omitempty"` // its file systems are, as for a backup

	First  []GuestDisk   `json:"first,omitempty"` // none: an agent before 7.1
	More   int           `json:"more,omitempty"`  // disks beyond the first 64, which nobody looks at: a guest may name any number
	Last   []GuestDisk   `json:"last,omitempty"`  // window later; none if one look was enough
	Window time.Duration `json:"window,omitempty"`
}

// GuestDisk is a disk as the guest's kernel sees it; see Documentation/admin-guide/iostats.rst.
type GuestDisk struct {
	Name    string        `json:"name"`
	Waiting int64         `json:"waiting"` // requests under way
	Done    int64         `json:"done"`    // requests since boot
	Busy    time.Duration `json:"busy"`    // of the time since boot
}

// waiting is the sum of all disks.
func waiting(disks []GuestDisk) (n int64) {
	for _, d := range disks {
		n += max(0, d.Waiting)
	}
	return n
}

// stalled are the disks that had requests under way at both readings and did none between.
func (g *Guest) stalled() (all []GuestDisk) {
	for _, d := range g.Last {
		i := slices.IndexFunc(g.First, func(f GuestDisk) bool { return f.Name == d.Name })
		if i >= 0 && d.Waiting > 0 && g.First[i].Waiting > 0 && g.First[i].Done == d.Done {
			all = append(all, d)
		}
	}
	return all
}

// guest asks the agent, and again while a disk of the guest seems to stand still.
func (l *look) guest(ctx context.Context) finding {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-l.mute:
			cancel(errMute)
		case <-ctx.Done():
		}
	})
	defer wg.Wait()
	defer cancel(nil)

	g := &Guest{}
	began := time.Now()
	disks, err := l.askAgent(ctx, g)
	switch {
	case errors.Is(err, qmp.ErrAbsent):
		g.Absent, err = true, nil
	case errors.Is(err, errMute):
		g.Mute, err = true, nil
	case err != nil:
		g.Silent = time.Since(began)
	default:
		g.Answered, g.First = true, disks
		if disks != nil && waiting(disks) == 0 {
			close(l.calm)
		} else if disks != nil {
			err = l.watchGuest(ctx, g, time.Now())
		}
	}
	return finding{err: err, put: func(c *Capture) { c.Guest = g }}
}

// errMute ends the wait for an agent that cannot answer.
var errMute = errors.New("no agent can answer")

func (l *look) watchGuest(ctx context.Context, g *Guest, began time.Time) error {
	for pause(ctx, sampleEvery) {
		disks, err := l.askAgent(ctx, g)
		if err != nil {
			return err
		}
		g.Last, g.Window = disks, time.Since(began)
		if len(g.stalled()) == 0 || g.Window >= l.most {
			return nil
		}
	}
	return ctx.Err()
}

// askAgent is one conversation. An agent that knows a command too little answers the others.
func (l *look) askAgent(ctx context.Context, g *Guest) ([]GuestDisk, error) {
	ctx, cancel := context.WithTimeout(ctx, talkLimit)
	defer cancel()
	agent, err := qmp.DialAgent(ctx, l.socket("qga"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = agent.Close() }()
	var frozen string
	err = agent.Do(ctx, "guest-fsfreeze-status", nil, &frozen)
	if _, no := errors.AsType[*qmp.CommandError](err); err != nil && !no {
		return nil, err
	}
	g.Frozen = frozen == "frozen"
	var raw []struct {
		Name  string
		Stats struct {
			Read     int64 `json:"read-ios"`
			Write    int64 `json:"write-ios"`
			Discard  int64 `json:"discard-ios"`
			Flush    int64 `json:"flush-ios"`
			Progress int64 `json:"ios-pgr"`
			Total    int64 `json:"total-ticks"`
		}
	}
	err = agent.Do(ctx, "guest-get-diskstats", nil, &raw)
	if _, no := errors.AsType[*qmp.CommandError](err); no {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	disks := []GuestDisk{}
	g.More = 0
	for _, r := range raw {
		switch s := r.Stats; {
		case !isDisk(r.Name):
		case len(disks) == maxDisks:
			g.More++
		default:
			disks = append(disks, GuestDisk{line(r.Name), s.Progress, s.Read + s.Write + s.Discard + s.Flush, milliseconds(s.Total)})
		}
	}
	return disks, nil
}

const maxDisks = 64 // of a guest, and of QEMU

// isDisk knows the disks that can be QEMU's; a network disk inside the guest that hangs is not the host's business.
func isDisk(name string) bool {
	return slices.ContainsFunc([]string{"sd", "vd", "xvd", "hd", "nvme"}, func(kind string) bool { return strings.HasPrefix(name, kind) })
}

// milliseconds tolerates what would not fit.
func milliseconds(n int64) time.Duration {
	return time.Duration(min(max(0, n), int64(never/time.Millisecond))) * time.Millisecond
}
