package lab

import (
	"slices"
	"testing"
	"time"

	"bgbot/pve"
)

// BenchmarkOnARealVM measures the verbs on a real QEMU, from the client's first byte to the result: without KVM, so the
// guest's boot takes most of a cycle. of-reach is the median as a part of what it must not exceed.
func BenchmarkOnARealVM(b *testing.B) {
	fit(b)
	d := newDrill(b, "")
	b.Run("status", func(b *testing.B) { d.measure(b, 5, pve.Status, cardWaits) })
	b.Run("forensics-healthy", func(b *testing.B) { d.measure(b, 5, pve.Forensics, forensicsReach) })
	b.Run("cycle", func(b *testing.B) {
		boots := d.measure(b, 5, pve.Cycle, cycleReach)
		b.ReportMetric(boots, "guest-boot-p50-ms")
	})
	d.breaks(b, stallDisk)
	b.Run("forensics-wedged", func(b *testing.B) { d.measure(b, 5, pve.Forensics, forensicsReach) })
	b.Run("cycle-wedged", func(b *testing.B) { d.measure(b, 1, pve.Cycle, 2*cycleReach) })
}

const (
	cycleReach     = 6 * time.Second  // design.md 7
	forensicsReach = 10 * time.Second // the gate ends a capture then, whatever hangs
	cardWaits      = 3 * time.Second  // a card that asks for a change shows a status that comes in this time
)

// measure asks n times. It returns the median time, in milliseconds, from a QEMU that was started to the guest's SSH.
func (d *drill) measure(b *testing.B, n int, v pve.Verb, reach time.Duration) (boot float64) {
	var all, boots []time.Duration
	for b.Loop() {
		all, boots = nil, nil
		for range n {
			began := time.Now()
			a := d.client(b, v)
			all = append(all, time.Since(began))
			if a.exit != pve.Done {
				b.Fatalf("%s: %s", v, a.result.Text)
			}
			if v == pve.Cycle {
				boots = append(boots, a.at("ssh").Sub(a.at("start")))
			}
		}
	}
	slices.Sort(all)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(all[n/2]), "p50-ms")
	b.ReportMetric(ms(all[n-1]), "max-ms")
	b.ReportMetric(ms(reach), "reach-ms")
	b.ReportMetric(ms(all[n/2])/ms(reach), "of-reach")
	if boots == nil {
		return 0
	}
	slices.Sort(boots)
	return ms(boots[n/2])
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// at is when a step ended well.
func (a answer) at(name string) time.Time {
	for _, s := range a.steps {
		if s.Step == name && s.State == pve.StepOK {
			return s.At
		}
	}
	return time.Time{}
}
