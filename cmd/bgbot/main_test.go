package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"

	"bgbot/internal/lab"
)

// asBgbot makes the test binary run as bgbot itself: for the stories in which the process is killed.
const asBgbot = "BGBOT_TEST_AS_BGBOT"

func TestMain(m *testing.M) {
	if code, is := lab.Applet(os.Args); is {
		syscall.Exit(code) // os.Exit sleeps a second under the race detector
	}
	if os.Getenv(asBgbot) != "" {
		main()
	}
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", fmt.Sprint(3*runtime.GOMAXPROCS(0))) // a story mostly waits for other processes
	}
	os.Exit(m.Run())
}
