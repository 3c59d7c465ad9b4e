package evidence

import "time"

// probes are the questions of a look, in the order of the report.
func (l *look) probes() (all []probe) {
	if l.QEMU.Pid > 0 {
		all = append(all,
			probe{"QEMU (QMP)", 8500 * time.Millisecond, l.machine},
			probe{"guest agent", 5500 * time.Millisecond, l.guest},
			probe{"threads", 5 * time.Second, l.process},
		)
	}
	if l.glance {
		return all
	}
	if l.QEMU.Pid > 0 {
		all = append(all,
			probe{"screen", 8500 * time.Millisecond, l.screen},
			probe{"process", 2 * time.Second, l.processFiles},
		)
	}
	all = append(all, l.commands()...)
	return append(all,
		probe{"tasks", 3 * time.Second, l.tasks},
		probe{"load", 2 * time.Second, l.load},
		probe{"memory", 2 * time.Second, l.memory},
		probe{"host disks", 5 * time.Second, l.hostDisks},
		probe{"kernel log", 2 * time.Second, l.kernelLog},
	)
}
