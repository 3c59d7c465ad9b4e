package store

import (
	"testing"
	"time"
)

func TestAnAcceptedHostKeySurvivesARestart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	if k, ok := s.HostKey(ctx, 102); ok {
		t.Errorf("a key that nobody accepted: %v", k)
	}
	newest := HostKey{VMID: 102, Pin: "ssh-ed25519 AAAA", Key: "ssh-ed25519 CCCC", By: "slack:U2", At: at(2)}
	s.AcceptHostKey(ctx, HostKey{VMID: 102, Pin: "ssh-ed25519 AAAA", Key: "ssh-ed25519 BBBB", By: "slack:U1", At: at(1)})
	s.AcceptHostKey(ctx, newest)
	for name, s := range map[string]*Store{"before": s, "after": restart(t, s)} {
		got, ok := s.HostKey(ctx, 102)
		same(t, name, []any{got, ok}, []any{newest, true})
		if _, ok := s.HostKey(ctx, 103); ok {
			t.Errorf("%s: another VM has it too", name)
		}
	}
}

// A store from before host keys were accepted keeps what it has.
func TestAStoreOfAnOlderBgbotIsTakenOver(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	open := confirmation("n1")
	open.Made, open.Expires = time.Now().UTC().Round(0), time.Now().UTC().Add(time.Hour).Round(0)
	s.AddConfirmation(ctx, open)
	mustClose(t, s)
	db := directly(t, s.path)
	for _, undo := range []string{
		"alter table confirmations drop column subject", "drop table host_keys", "alter table turns drop column shown",
		"alter table operations drop column live", "alter table operations drop column name", "delete from goose_db_version where version_id >= 2",
	} {
		if _, err := db.Exec(undo); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	s = mustOpen(t, addressOf(s.path))
	got, err := s.Confirmation(ctx, "n1")
	same(t, "confirmation", []any{got, err}, []any{open, nil})
	s.AcceptHostKey(ctx, HostKey{VMID: 102, Key: "ssh-ed25519 BBBB", At: at(1)})
	written(t, s)
	if _, ok := restart(t, s).HostKey(ctx, 102); !ok {
		t.Error("an older store does not keep host keys")
	}
}
