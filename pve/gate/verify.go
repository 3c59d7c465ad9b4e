package gate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/host"
	"bgbot/pve/qmp"
)

const (
	longestWait = 60 * time.Second // for all layers of a start together; the bot waits for SSH after that
	lookLimit   = 2 * time.Second  // for one look at one layer
	agentLimit  = 15 * time.Second // for the agent, once SSH has answered: many guests have none installed
)

// layer is one thing that has to be seen before a VM counts as up. Each says more than the one before it: a process may
// run nothing, a QEMU that answers may move no block, and a disk that works may hold no system.
type layer struct {
	name  string
	wants string                                // what is waited for
	look  func(context.Context) (string, error) // what was seen, or what is missing
	skip  string                                // why it is not looked at
	limit time.Duration                         // less than what is left; 0 is all of it
}

// lack is a layer that was not seen.
type lack struct{ layer, why string }

var errNoQEMU = errors.New("no new QEMU was seen")

// verify waits for each layer in turn and reports it. When ctx is done the rest is looked at once, so that the last word
// tells all that is missing.
func (g *gate) verify(ctx context.Context, layers ...layer) (missing []lack) {
	for _, l := range layers {
		if l.skip != "" {
			g.step(l.name, pve.StepSkip, "%s", l.skip)
			continue
		}
		g.step(l.name, pve.StepStart, "%s", l.wants)
		saw, err := l.wait(ctx)
		if err != nil {
			g.step(l.name, pve.StepFail, "%v", err)
			missing = append(missing, lack{l.name, err.Error()})
			continue
		}
		g.step(l.name, pve.StepOK, "%s", saw)
	}
	return missing
}

// wait looks until it sees the layer or the time is over, and at least once.
func (l layer) wait(ctx context.Context) (saw string, err error) {
	if l.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.limit)
		defer cancel()
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
		saw, err = l.look(one)
		cancel()
		if err == nil {
			return saw, nil
		}
		if _, ok := errors.AsType[knocked](err); ok && !pause(ctx, knockEvery) {
			return "", err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", err
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// qmpLayer: QEMU's main loop answers and calls the guest running.
func (g *gate) qmpLayer() layer {
	return layer{name: "qmp", wants: "QEMU answers and runs the guest", look: func(ctx context.Context) (string, error) {
		var state struct{ Status string }
		err := g.ask(ctx, "query-status", &state)
		if err == nil && state.Status != "running" {
			err = fmt.Errorf("QEMU calls the guest %q", state.Status)
		}
		return state.Status, err
	}}
}

// writesLayer: blocks were written, so the disk path works from the guest to the storage. A QEMU that is new has written
// nothing before.
func (g *gate) writesLayer() layer {
	from := int64(0)
	return g.writesSince(&from)
}

// writesAfterReset counts from the first reading: a counter that stands where it stood tells of a guest that is gone.
func (g *gate) writesAfterReset() layer { return g.writesSince(nil) }

func (g *gate) writesSince(from *int64) layer {
	return layer{name: "writes", wants: "the guest writes to its disk", look: func(ctx context.Context) (string, error) {
		now, err := g.written(ctx)
		switch {
		case err != nil:
			return "", err
		case from == nil:
			from = &now
			return "", errors.New("no block was written")
		case now <= *from:
			return "", errors.New("no block was written")
		}
		return fmt.Sprintf("the guest wrote %d bytes", now-*from), nil
	}}
}

// sshLayer: the guest's sshd says who it is. That takes its network, its user space and a fork.
func (g *gate) sshLayer() layer {
	l := layer{name: "ssh", wants: "the guest's sshd answers at " + g.ssh, look: func(ctx context.Context) (string, error) {
		return banner(ctx, g.ssh)
	}}
	if g.ssh == "" {
		l.skip = "no --ssh address is set"
	}
	return l
}

// agentLayer: the guest agent answers, where the VM's configuration has one.
func (g *gate) agentLayer(limit time.Duration) layer {
	l := layer{name: "agent", wants: "the guest agent answers", limit: limit, look: func(ctx context.Context) (string, error) {
		a, err := qmp.DialAgent(ctx, g.qemuFile("qga"))
		if err != nil {
			return "", errors.New("the guest agent is silent")
		}
		defer func() { _ = a.Close() }()
		return "it answers", a.Do(ctx, "guest-ping", nil, nil)
	}}
	if !g.hasAgent {
		l.skip = "the VM's configuration has no agent"
	}
	return l
}

// agentEnabled reads the line of qm config: "agent: 1", "agent: enabled=1,fstrim_cloned_disks=1" (qm.conf(5)).
func agentEnabled(config string) bool {
	for line := range strings.Lines(config) {
		if value, ok := strings.CutPrefix(line, "agent: "); ok {
			words := strings.Split(strings.TrimSpace(value), ",")
			return slices.Contains(words, "1") || slices.Contains(words, "enabled=1")
		}
	}
	return false
}

// ask puts one question to QEMU, on a connection that is as short as can be: QEMU serves one client at a time.
func (g *gate) ask(ctx context.Context, command string, result any) error {
	m, err := qmp.Dial(ctx, g.qemuFile("qmp"))
	switch {
	case errors.Is(err, qmp.ErrAbsent):
		return errors.New("QEMU has no control socket")
	case err != nil:
		return errors.New("QEMU does not answer on its control socket")
	}
	defer func() { _ = m.Close() }()
	return m.Do(ctx, command, nil, result)
}

// written is how many bytes the guest has written to all its disks since QEMU was started.
func (g *gate) written(ctx context.Context) (int64, error) {
	var disks []struct {
		Stats struct {
			Bytes int64 `json:"wr_bytes"`
		} `json:"stats"`
	}
	if err := g.ask(ctx, "query-blockstats", &disks); err != nil {
		return 0, err
	}
	var sum int64
	for _, d := range disks {
		sum += d.Stats.Bytes
	}
	return sum, nil
}

// banner reads the first line of an SSH server. An open port alone proves nothing: the kernel of a guest whose user space
// is gone still accepts connections.
func banner(ctx context.Context, address string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED): // it costs the guest nothing
		return "", errors.New("nobody listens at " + address)
	case err != nil:
		return "", knocked("nobody answers at " + address)
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	const most = 255 // RFC 4253, section 4.2
	line, err := bufio.NewReaderSize(conn, most).ReadSlice('\n')
	if words := strings.TrimSpace(string(line)); err == nil && strings.HasPrefix(words, "SSH-2.0-") {
		return host.Cut(printable(words), 60), nil
	}
	return "", knocked("no SSH banner from " + address)
}

// knockEvery is the time between two connections to the guest's sshd that may have got through to it. Since 9.8 OpenSSH
// counts each that ends without a login against its source and shuts that out for a while (PerSourcePenalties in
// sshd_config(5)): the bot itself, which looks next.
const knockEvery = 3 * time.Second

// knocked is a look that the other side may have noticed.
type knocked string

func (k knocked) Error() string { return string(k) }
