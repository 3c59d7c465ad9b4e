package guest

import (
	"context"
	"sync"
	"time"
)

// Drive is the virtual disk as QEMU presents it. It belongs to the QEMU process, so a stall outlives a reset of the
// guest and ends with the process. Its methods may be called from many goroutines at once.
type Drive struct {
	mu       sync.Mutex
	flow     chan struct{} // closed while requests complete
	since    time.Time     // of the stall
	writes   int64
	bytes    int64
	flushes  int64
	waiting  int64
	lastDone time.Time
}

// NewDrive is a drive that works.
func NewDrive() *Drive {
	d := &Drive{flow: make(chan struct{}), lastDone: time.Now()}
	close(d.flow)
	return d
}

// Stall makes every request hang from now on.
func (d *Drive) Stall() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stalled() {
		return
	}
	d.flow, d.since = make(chan struct{}), time.Now()
}

// Resume lets all requests complete.
func (d *Drive) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stalled() {
		close(d.flow)
		d.since = time.Time{}
	}
}

// Stalled says since when requests hang; the zero time means that they do not.
func (d *Drive) Stalled() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since
}

func (d *Drive) stalled() bool { return !d.since.IsZero() }

// Counters are QEMU's block statistics.
type Counters struct {
	Writes, Bytes, Flushes int64
	Waiting                int64         // requests under way
	Idle                   time.Duration // since the last request completed
}

// Counters reads the statistics.
func (d *Drive) Counters() Counters {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Counters{Writes: d.writes, Bytes: d.bytes, Flushes: d.flushes, Waiting: d.waiting, Idle: time.Since(d.lastDone)}
}

// write waits until a request of n bytes completes, or for the cause of ctx's end.
func (d *Drive) write(ctx context.Context, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.await(ctx); err != nil {
		return err
	}
	d.writes++
	d.flushes++
	d.bytes += n
	d.lastDone = time.Now()
	return nil
}

// await needs mu, and lets go of it while requests hang.
func (d *Drive) await(ctx context.Context) error {
	flow := d.flow
	d.waiting++
	d.mu.Unlock()
	defer func() { d.mu.Lock(); d.waiting-- }()
	select {
	case <-flow:
		return nil
	default:
	}
	select {
	case <-flow:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Beat writes a little every interval, as the journal of an idle Linux does, until ctx is done.
func (d *Drive) Beat(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if d.write(ctx, 16<<10) != nil {
				return
			}
		}
	}
}
