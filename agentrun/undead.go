package agentrun

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"
)

// killLimit is how long a killed CLI is waited for. One that hangs in the kernel, as on a disk that is gone, dies when
// the disk answers, which may be never.
const killLimit = afterExit + time.Second

// kill ends the CLI at once, and shows its last lines to see, if any. If it does not die, it is undead from then on: it
// can do nothing any more, but holds its pid until the kernel lets it go.
func (p *process) kill(see func(any) bool) {
	p.signal(syscall.SIGKILL)
	p.undead = !p.drain(killLimit, see)
}

// bury does the last things for a CLI that was ended. An undead one is not waited for; that is the one goroutine that
// may outlive the runner.
func (r *Runner) bury(p *process) {
	if !p.undead {
		p.bury()
		return
	}
	pid := p.kin.root.pid
	p.log.Error("a claude CLI was killed and does not die: it hangs in the kernel, likely on a disk", "pid", pid)
	r.mu.Lock()
	r.undead[pid] = true
	r.mu.Unlock()
	p.finish()
	go func() {
		for range p.lines {
		}
		p.bury()
		p.log.Info("a claude CLI that did not die is gone", "pid", pid)
		r.mu.Lock()
		delete(r.undead, pid)
		r.mu.Unlock()
	}()
}

// left is the error of a Close after which something is left; nil if nothing is. r.mu is held.
func (r *Runner) left(ended bool, why error) error {
	pids := slices.Sorted(maps.Keys(r.undead))
	switch {
	case len(pids) > 0:
		return &Ended{Reason: fmt.Sprintf("Processes of the agent were killed and do not die: pids %v. "+
			"They hang in the kernel, likely on a disk; look at the machine where bgbot runs.", pids), Err: why}
	case !ended:
		return &Ended{Reason: fmt.Sprintf("The agent's turns did not end within %s; processes that are left: %v.",
			closeLimit, r.kinOf("").pids()), Err: why}
	}
	return why
}
