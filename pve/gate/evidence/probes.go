package evidence

import "time"

// The names of the probes that the code itself needs.
const (
	qmpProbe     = "QEMU (QMP)"
	agentProbe   = "guest agent"
	threadsProbe = "threads"
	screenProbe  = "screen"
	statusProbe  = "qm status"
	configProbe  = "qm config"
	tasksProbe   = "tasks"
	loadProbe    = "load"
	disksProbe   = "host disks"
	kernelProbe  = "kernel log"
)

// probes are the questions of a look, in the order of the report.
func (l *look) probes() (all []probe) {
	if l.QEMU.Pid > 0 {
		all = append(all,
			probe{qmpProbe, 8500 * time.Millisecond, l.machine},
			probe{agentProbe, 5500 * time.Millisecond, l.guest},
			probe{threadsProbe, 5 * time.Second, l.process},
		)
	}
	if l.glance {
		return all
	}
	if l.QEMU.Pid > 0 {
		all = append(all,
			probe{screenProbe, 8500 * time.Millisecond, l.screen},
			probe{"process", 2 * time.Second, l.processFiles},
		)
	}
	all = append(all, l.commands()...)
	return append(all,
		probe{tasksProbe, 3 * time.Second, l.tasks},
		probe{loadProbe, 2 * time.Second, l.load},
		probe{"memory", 2 * time.Second, l.memory},
		probe{disksProbe, 5 * time.Second, l.hostDisks},
		probe{kernelProbe, 2 * time.Second, l.kernelLog},
	)
}
