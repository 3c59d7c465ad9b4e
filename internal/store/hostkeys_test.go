package store

import "testing"

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
