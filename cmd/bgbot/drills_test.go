package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"bgbot/internal/lab"
)

// TestDrillsOnARealVM plays each practice incident in a real QEMU with a real Linux in it, from the command line to the
// score.
func TestDrillsOnARealVM(t *testing.T) {
	cli := cliForTest(t)
	guest, err := lab.FindGuest("")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("THE DRILLS ON A REAL VM DID NOT RUN: ", err)
	}
	guests := make(chan struct{}, 2) // each takes a core
	testscript.Run(t, testscript.Params{
		Dir: "testdata/drills",
		Setup: func(e *testscript.Env) error {
			guests <- struct{}{}
			e.Defer(func() { <-guests })
			e.Setenv("CLAUDE", cli)
			e.Setenv("GUEST", guest)
			e.Setenv(asBgbot, "1")
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"bgbot": runBgbot},
	})
}
