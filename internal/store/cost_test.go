package store

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAnIdleStoreIsSmall starts a process that does nothing but hold a store with a full memory.
func TestAnIdleStoreIsSmall(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	mustClose(t, s)
	seenBefore(t, s.path, "1710000000.", messagesHeld)
	_, said := child(t, "idle", addressOf(s.path))
	said.Scan()
	var before, after int
	if _, err := fmt.Sscan(said.Text(), &before, &after); err != nil {
		t.Fatalf("%q: %v", said.Text(), err)
	}
	t.Logf("anonymous memory: %d KiB without a store, %d KiB with one", before, after)
	if grown := after - before; grown > 4<<10 && !withRaceDetector() { // which makes all memory larger
		t.Errorf("the store costs %d KiB", grown)
	}
}

func withRaceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func idleMemory(address string) int {
	anonymous := func() (kib int) {
		debug.FreeOSMemory()
		rollup, _ := os.ReadFile("/proc/self/smaps_rollup")
		for line := range strings.Lines(string(rollup)) {
			if fields := strings.Fields(line); fields[0] == "Anonymous:" {
				fmt.Sscan(fields[1], &kib)
			}
		}
		return kib
	}
	before := anonymous()
	s, err := Open(bg, address, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	s.Seen(bg, "slack", "m", time.Now())
	fmt.Println(before, anonymous())
	s.Close()
	return 0
}

func benchStore(b *testing.B) *Store {
	s, err := Open(b.Context(), addressOf(filepath.Join(b.TempDir(), "bgbot.db")), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func BenchmarkSeenOneAfterTheOther(b *testing.B) {
	s := benchStore(b)
	n := 0
	for b.Loop() {
		s.Seen(b.Context(), "slack", fmt.Sprint(n), time.Now())
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "seen/s")
}

func BenchmarkSeenByFifty(b *testing.B) {
	s := benchStore(b)
	b.SetParallelism(25)
	b.RunParallel(func(pb *testing.PB) {
		me := time.Now().UnixNano()
		for n := 0; pb.Next(); n++ {
			s.Seen(b.Context(), "slack", fmt.Sprint(me, n), time.Now())
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "seen/s")
}

func BenchmarkSeenBefore(b *testing.B) {
	s := benchStore(b)
	for b.Loop() {
		s.Seen(b.Context(), "slack", "m", time.Now())
	}
}

func BenchmarkOpenAndClose(b *testing.B) {
	s := benchStore(b)
	s.Close()
	for b.Loop() {
		s, err := Open(b.Context(), addressOf(s.path), slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
