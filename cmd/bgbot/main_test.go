package main

import (
	"os"
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
	os.Exit(m.Run())
}
