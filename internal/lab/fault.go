package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	gatehost "bgbot/pve/gate/host"
	"bgbot/pve/qmp"
)

// The faults of the scenarios. Each is the real thing, and returns when it has had its effect.

// stallDisk gives the same QMP command to a real and a simulated QEMU: from then on it takes requests and does none.
func stallDisk(ctx context.Context, l *Lab) error {
	ctx, cancel := context.WithTimeout(ctx, l.checkLimit())
	defer cancel()
	m, err := qmp.Dial(ctx, l.state.runFile(vmid, "qmp"))
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	throttle := object{"id": "scsi0", "bps": 1, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}
	if err := m.Do(ctx, "block_set_io_throttle", throttle, nil); err != nil || !l.real() {
		return err
	}
	// The guest writes each second, if it can.
	return l.until(ctx, func() error {
		var disks []struct {
			Stats struct {
				Idle int64 `json:"idle_time_ns"`
			}
		}
		err := m.Do(ctx, "query-blockstats", nil, &disks)
		if err == nil && (len(disks) == 0 || time.Duration(disks[0].Stats.Idle) < 2*time.Second) {
			err = errors.New("blocks are still written")
		}
		return err
	})
}

// stopQEMU freezes the whole process: its main loop, its CPU, its I/O threads.
func stopQEMU(ctx context.Context, l *Lab) error {
	p := openVM(l.state, vmid)
	if p == nil {
		return errors.New("no QEMU runs")
	}
	defer p.close()
	p.signal(unix.SIGSTOP)
	return l.until(ctx, func() error {
		if stat, err := gatehost.ReadStat(p.pid); err != nil || stat.State != "T" {
			return errors.Join(fmt.Errorf("QEMU is in state %s", stat.State), err)
		}
		return nil
	})
}

// crashKernel has the guest's kernel panic, after the login that asks for it has ended.
func crashKernel(ctx context.Context, l *Lab) error {
	if err := l.untilInGuest(ctx, "(sleep 0.5; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &"); err != nil {
		return err
	}
	return l.until(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		a, err := qmp.DialAgent(ctx, l.state.runFile(vmid, "qga"))
		if err == nil {
			return errors.Join(errors.New("the guest still answers"), a.Close())
		}
		return nil
	})
}

// fillDisk leaves no byte free in /var. The simulated guest was given a full disk.
func fillDisk(ctx context.Context, l *Lab) error {
	if !l.real() {
		return nil
	}
	const fill = `sed -i 's/^trace = .*/trace = true   # to be switched off again/' /etc/t3-serve/config.toml
log=/var/log/t3-serve/trace.log
echo 'TRACE t3_serve::sync: poll fd=41 ready=0' >$log
fallocate -l "$(df --output=avail -B1 /var | tail -1)" $log
cat /dev/zero >>$log 2>/dev/null
sync
true`
	return l.breakService(ctx, fill)
}

// leakMemory starts what takes all memory, until the kernel kills t3-serve for it.
func leakMemory(ctx context.Context, l *Lab) error {
	return l.breakService(ctx, "systemctl start t3-indexer")
}

// breakConfig is a slip of the finger.
func breakConfig(ctx context.Context, l *Lab) error {
	return l.breakService(ctx, "sed -i 's/^listen/lisen/' /etc/t3-serve/config.toml; systemctl restart t3-serve; sync; true")
}

// lockForBackup is what a backup leaves that goes on for ever: the lock in the VM's configuration, and a service that was
// stopped for it.
func lockForBackup(ctx context.Context, l *Lab) error {
	err := l.breakService(ctx, `systemctl stop t3-serve
echo "$(date '+%b %e %H:%M:%S') devvm vzdump-hook[812]: t3-serve stopped until the backup is done" >>/run/log/journal/t3-serve`)
	if err != nil {
		return err
	}
	conf, err := os.ReadFile(l.state.confFile(vmid))
	if err != nil {
		return err
	}
	return os.WriteFile(l.state.confFile(vmid), slices.Concat([]byte("lock: backup\n"), conf), 0o600)
}

// breakService runs a command in the guest and waits until t3-serve is down.
func (l *Lab) breakService(ctx context.Context, command string) error {
	if err := l.untilInGuest(ctx, command); err != nil {
		return err
	}
	return l.until(ctx, func() error {
		return l.inGuest(ctx, "state=$(systemctl is-active t3-serve); [ $state = failed ] || [ $state = inactive ]")
	})
}
