package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gatehost "bgbot/pve/gate/host"
)

// When the drill is killed nothing of the host is left: no QEMU, no sshd, no gate and no qm in the middle of a change, no
// folder.
func TestTheHostEndsWithItsOwnerOnARealVM(t *testing.T) {
	fit(t)
	for _, step := range []string{"", "stop start", "start ok"} {
		t.Run("at "+step, func(t *testing.T) {
			if step != "stop start" { // two at a time
				t.Parallel()
			}
			l, err := begin(t.Context(), Options{VM: QEMU, Fast: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, Scenario{Name: "orphan"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }() // complains, since all is gone already
			d := &drill{Lab: l, known: l.state.path("keys", "known_hosts")}
			d.writeKnownHosts(t)
			if step != "" {
				d.call(t, "cycle").sees(step)
			}
			if err := l.owner.Close(); err != nil { // what the kernel does when the drill is killed
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), gateGrace+hostDownLimit+10*time.Second)
			defer cancel()
			if err := l.until(ctx, func() error { return nothingOf(l.Dir()) }); err != nil {
				t.Error(err)
			}
		})
	}
}

// nothingOf says what is left of a lab.
func nothingOf(dir string) error {
	for _, pid := range gatehost.Processes() {
		words, _ := gatehost.Arguments(pid)
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, dir+"/") }) {
			return fmt.Errorf("process %d is left: %s", pid, strings.Join(words, " "))
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is left: %w", dir, err)
	}
	return nil
}
