package pve_test

import (
	"testing"
	"time"

	"bgbot/pve"
)

// BenchmarkStatusOverWarmLink compares a verb over the warm link with ssh(1) asking for the same, in one run, so that
// the ratio holds on any machine.
func BenchmarkStatusOverWarmLink(b *testing.B) {
	s := newScene(b, `echo '{"result":{"exit":0,"text":"VM 102 is running."}}'`)
	if _, err := s.Run(b.Context(), pve.Status, nil); err != nil {
		b.Fatal(err)
	}
	var warm, cold time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := s.Run(b.Context(), pve.Status, nil); err != nil {
			b.Fatal(err)
		}
		warm += time.Since(began)
		began = time.Now()
		if err := s.sshd.SSH(b.Context(), s.sshd.Client, "status").Run(); err != nil {
			b.Fatal(err)
		}
		cold += time.Since(began)
	}
	n := float64(b.N)
	b.ReportMetric(float64(warm.Microseconds())/n/1000, "warm-ms/op")
	b.ReportMetric(float64(cold.Microseconds())/n/1000, "ssh-ms/op")
	b.ReportMetric(float64(cold)/float64(warm), "ssh/warm")
}
