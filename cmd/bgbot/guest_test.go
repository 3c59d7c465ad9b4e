package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/internal/sshdtest"
	"bgbot/internal/store"
	"bgbot/pve"
)

func aKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	key, err := anotherKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAnAcceptedHostKeyCountsUntilAnotherOneIsConfigured(t *testing.T) {
	t.Parallel()
	log := logger(t.Output(), "error", "text", mask(nil))
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "bgbot.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, db.Close()) })
	configured, accepted, edited := aKey(t), aKey(t), aKey(t)
	known := func(vm pve.Host) string {
		t.Helper()
		return keyText(newGuest(t.Context(), db, 102, vm, log).host().HostKey)
	}
	g := newGuest(t.Context(), db, 102, pve.Host{HostKey: configured}, log)
	told := 0
	g.changed = func() { told++ }
	must(t, g.accept(t.Context(), keyText(accepted), "slack:U1"))
	if got := keyText(g.host().HostKey); got != keyText(accepted) || told != 1 {
		t.Errorf("at once it is %s, told %d times", got, told)
	}
	if known(pve.Host{HostKey: configured}) != keyText(accepted) {
		t.Error("after a restart the accepted key is forgotten")
	}
	if known(pve.Host{HostKey: edited}) != keyText(edited) {
		t.Error("an accepted key wins over a configuration that was edited since")
	}
	other := newGuest(t.Context(), db, 103, pve.Host{HostKey: configured}, log)
	if keyText(other.host().HostKey) != keyText(configured) {
		t.Error("another VM gets the key")
	}
	authority := newGuest(t.Context(), db, 102, pve.Host{HostCA: configured}, log)
	if err := authority.accept(t.Context(), keyText(accepted), "slack:U1"); err == nil || authority.host().HostKey != nil {
		t.Error("a key is accepted beside an authority")
	}
	if err := g.accept(t.Context(), "ssh-ed25519 nonsense", "slack:U1"); err == nil {
		t.Error("nonsense is accepted")
	}
}

// looks is what a look into a VM finds whose sshd answers every command with a script.
func looks(t *testing.T, script string, limit time.Duration) (string, error) {
	t.Helper()
	s := sshdtest.New(t, sshdtest.Options{KeyOptions: sshdtest.ForcedCommand("/bin/sh", "-c", script)})
	vm := pve.Host{Name: "devvm", Address: s.Address, User: s.User, Signer: s.ClientSigner, HostKey: s.HostKey}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return (&guest{vm: vm}).look(ctx)
}

func TestALookIntoTheVM(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		`echo degraded; echo "t3.service loaded failed failed T3"; exit 1`: "degraded\nt3.service loaded failed failed T3\n",
		`echo "$SSH_ORIGINAL_COMMAND"`:                                     "systemctl is-system-running; systemctl --failed --no-legend --plain\n",
		`echo "sh: systemctl: not found" >&2; exit 127`:                    "",
	} {
		if got, err := looks(t, script, patience); got != want || err != nil {
			t.Errorf("%s: got %q, %v", script, got, err)
		}
	}
	if got, err := looks(t, `while :; do echo 0123456789012345678901234567890123456789; done`, patience); len(got) != mostLook || err != nil {
		t.Errorf("of a VM that never ends %d bytes are read, %v", len(got), err)
	}
	var lost *pve.Unreachable
	if got, err := looks(t, `exec sleep 5`, time.Second); got != "" || !errors.As(err, &lost) || lost.Why != pve.Stuck {
		t.Errorf("of a VM that hangs it is %q, %v", got, err)
	}
}
