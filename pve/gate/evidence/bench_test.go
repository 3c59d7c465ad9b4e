package evidence_test

import (
	"context"
	"strings"
	"testing"

	"bgbot/pve"
	"bgbot/pve/gate/evidence"
)

func benchmark(b *testing.B, look func(evidence.Subject), set func(*stage)) {
	s := newStage(b)
	set(s)
	for b.Loop() {
		look(s.Subject)
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/op")
}

func takeIt(s evidence.Subject)   { evidence.Take(context.Background(), s, "c81f", pve.Cycle) }
func glanceIt(s evidence.Subject) { evidence.Glance(context.Background(), s) }

func wedge(s *stage) {
	s.freeze()
	s.socket("qmp", silent)
	s.socket("qga", silent)
	s.qm("exec sleep 600")
}

func BenchmarkTakeHealthy(b *testing.B)   { benchmark(b, takeIt, func(s *stage) { s.well() }) }
func BenchmarkTakeWedged(b *testing.B)    { benchmark(b, takeIt, wedge) }
func BenchmarkGlanceHealthy(b *testing.B) { benchmark(b, glanceIt, func(s *stage) { s.well() }) }
func BenchmarkGlanceWedged(b *testing.B)  { benchmark(b, glanceIt, wedge) }

func BenchmarkClean(b *testing.B) {
	text := strings.Repeat("Nov 22 20:33:48 pve1 pvedaemon[1234]: <root@pam> starting task UPID:pve1:0000A1B2:01C3D4E5:69123456:qmstart:102:root@pam:\n", 200)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		evidence.Clean(text)
	}
}
