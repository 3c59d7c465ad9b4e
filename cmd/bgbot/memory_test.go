package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// resident is how many kB of the program's own file are in memory.
func resident(t *testing.T) (kB int) {
	t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	ours := false
	for line := range strings.Lines(string(smaps)) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "-") && strings.Contains(line, " r") {
			ours = strings.HasSuffix(line, " "+self)
		}
		var n int
		if _, err := fmt.Sscanf(line, "Rss: %d kB", &n); err == nil && ours {
			kB += n
		}
	}
	return kB
}

// Not parallel: other tests would touch the pages again while it looks.
func TestAnIdleProgramLetsGoOfItsOwnPages(t *testing.T) {
	before := resident(t)
	unmapProgram("/proc/self/smaps")
	after := resident(t)
	t.Logf("%d kB of the program were resident, then %d", before, after)
	if before < 4<<10 || after > before/2 {
		t.Errorf("%d kB of %d are still resident", after, before)
	}
	usage(t.Output()) // and it goes on
}
