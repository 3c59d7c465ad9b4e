package console

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// outlet is a terminal that holds up nobody for long: not after ^S, and not when the ssh in front of it stalls. Who writes
// waits a moment, so that all is as if they wrote to it themselves; what the terminal has not taken by then, it gets later,
// and nobody waits until it has. It has one goroutine while there is something to write.
type outlet struct {
	file *os.File

	mu    sync.Mutex    // guards what follows
	rest  []byte        // what is not being written yet
	done  chan struct{} // closed when all is written; nil: it is
	late  bool          // the terminal is stuck: somebody has waited in vain
	moves func()        // called when it no longer is
	err   error         // it can be written no more
}

const (
	moment      = 100 * time.Millisecond
	lastMoment  = 2 * time.Second // at the end
	mostWaiting = 1 << 20         // bytes; of more, the newest are kept
)

var errStuck = errors.New("the terminal takes nothing")

// Outlet is out, or a writer to it that holds up nobody if that is a terminal which takes nothing. finish waits at the end
// until the terminal has taken all, but not for long. A write that it never takes ends with the process.
func Outlet(out io.Writer) (w io.Writer, finish func()) {
	f, ok := out.(*os.File)
	if !ok || !terminal(f) {
		return out, func() {}
	}
	o := &outlet{file: f, moves: func() {}}
	return o, o.finish
}

func (o *outlet) Write(p []byte) (int, error) {
	o.mu.Lock()
	if o.err != nil {
		defer o.mu.Unlock()
		return 0, o.err
	}
	o.rest = newest(append(o.rest, p...))
	if o.done == nil {
		o.done = make(chan struct{})
		go o.empty(o.done)
	}
	done, late := o.done, o.late
	o.mu.Unlock()
	took := !late && within(moment, done)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.late = o.late || !took && o.done == done
	if o.err != nil {
		return 0, o.err
	}
	return len(p), nil
}

// empty writes until nothing waits any more.
func (o *outlet) empty(done chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.rest) > 0 && o.err == nil {
		now := o.rest
		o.rest = nil
		o.mu.Unlock()
		_, err := o.file.Write(now)
		o.mu.Lock()
		if o.err == nil {
			o.err = err
		}
	}
	if o.late {
		o.moves()
	}
	o.done, o.late = nil, false
	close(done)
}

// tell has f called whenever the terminal has taken all after it was stuck. f may not block.
func (o *outlet) tell(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.moves = f
}

// stuck says that the terminal has not taken what was written some time ago.
func (o *outlet) stuck() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.late
}

func (o *outlet) finish() {
	o.mu.Lock()
	done := o.done
	o.mu.Unlock()
	if done != nil && !within(lastMoment, done) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.err = errStuck
	}
}

func within(d time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// newest shortens what waits, from whole line to whole line.
func newest(rest []byte) []byte {
	if len(rest) <= mostWaiting {
		return rest
	}
	rest = rest[len(rest)-mostWaiting/2:]
	_, rest, _ = bytes.Cut(rest, []byte("\n"))
	return append([]byte("\nnote   ▸ What stood here is lost: the terminal took nothing.\n"), rest...)
}

// Read, Close and Fd make it a terminal also for bubbletea, which asks for the size by Fd.
func (o *outlet) Read(p []byte) (int, error) { return o.file.Read(p) }

// Close leaves the terminal to whoever opened it.
func (o *outlet) Close() error { return nil }

// Fd is the terminal's.
func (o *outlet) Fd() uintptr { return o.file.Fd() }
