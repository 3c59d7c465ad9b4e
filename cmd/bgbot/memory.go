package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// giveBack returns to the kernel what work has left over, as soon as the process is quiet again, until ctx ends. The
// runtime by itself keeps about twice what is live for some minutes, for work that goes on; here none does (ADR 5).
func giveBack(ctx context.Context) {
	const quiet = 256 << 10 // bytes allocated from tick to tick: keepalives and a clock on a screen
	allocated := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for last, worked := uint64(0), false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(allocated)
		now := allocated[0].Value.Uint64()
		switch {
		case now-last > quiet:
			worked = true
		case worked:
			runtime.GC() // what lies in a sync.Pool, such as goose's buffers of 4 MiB, survives one collection
			debug.FreeOSMemory()
			unmapProgram("/proc/self/smaps")
			worked = false
		}
		last = now
	}
}

// unmapProgram lets go of the pages of the program's own file. Package inits have touched most of it once, such as every
// language that chroma knows; what is needed again comes back from the page cache at the next touch. Only mappings that
// nobody can have changed are let go: a changed page would be lost.
func unmapProgram(smaps string) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open(smaps)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }() // only read
	var from, to uintptr
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		var start, end uintptr
		var perms string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &start, &end, &perms); n == 3 {
			from, to = 0, 0
			if strings.HasSuffix(line, " "+self) && strings.HasPrefix(perms, "r") && perms[1] == '-' && strings.HasSuffix(perms, "p") {
				from, to = start, end
			}
			continue
		}
		if rest, is := strings.CutPrefix(line, "Anonymous:"); is && from < to && strings.TrimSpace(rest) == "0 kB" {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED) // a wish
		}
	}
}
