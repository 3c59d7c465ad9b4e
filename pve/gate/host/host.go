// Package host asks the machine that it runs on: its commands, files and processes. Nothing in it waits longer than a bound,
// because on a wedged host any of these can hang in the kernel for ever; what does not come back is left behind and said
// to be missing. It knows no VM and decides nothing.
package host

import (
	"fmt"
	"time"
)

// Within calls f and gives up after limit. What does not come back is left behind: nothing in user space can end a
// thread that waits for a stuck disk.
func Within[T any](limit time.Duration, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	back := make(chan answer, 1)
	go func() {
		value, err := f()
		back <- answer{value, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case a := <-back:
		return a.value, a.err
	case <-timer.C:
		var none T
		return none, fmt.Errorf("no answer within %s", limit)
	}
}
