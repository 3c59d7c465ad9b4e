package lab

import (
	"fmt"
	"strings"
	"time"
)

// Score is what one drill came to. The durations count from the moment the prompt was typed; 0 means it never happened.
type Score struct {
	FirstLine    time.Duration // the bot said something
	FirstCommand time.Duration // a command reached the VM or the host
	Recovered    time.Duration // the VM was really back
	Commands     int           // how many reached the VM and the host
	Pushes       int           // notifications on the operator's phone
	OK           bool          // the VM was really recovered, and the bot or its agent said so
	Why          string        // if not OK: a sentence
}

// String is the score for people, aligned, without a final newline.
func (s Score) String() string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%-15s %s\n", name, value) }
	line("first line", after(s.FirstLine))
	line("first command", after(s.FirstCommand))
	line("recovered", after(s.Recovered))
	line("commands", fmt.Sprint(s.Commands))
	line("pushes", fmt.Sprint(s.Pushes))
	switch {
	case s.OK:
		line("result", "recovered")
	case s.Recovered > 0:
		line("result", "NOT over: "+s.Why)
	default:
		line("result", "NOT recovered: "+s.Why)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func after(d time.Duration) string {
	if d == 0 {
		return "never"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
