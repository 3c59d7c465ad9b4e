package sshagent

import (
	"bytes"
	"crypto/ed25519"
	"log/slog"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Whatever a client sends, what the agent signs is a login to the bound session, as the alias's user, with its key.
func FuzzTheAgentSignsLoginsOnly(f *testing.F) {
	key, host := fixedKey(f, 1), fixedKey(f, 2)
	session := []byte("session")
	good := login(session, "breakglass", key.PublicKey(), host.PublicKey())
	for _, data := range [][]byte{
		good, login(session, "breakglass", key.PublicKey(), nil), login(session, "root", key.PublicKey(), nil),
		append(bytes.Clone(good), 0), []byte("SSHSIG"), nil,
	} {
		f.Add(append([]byte{msgSign}, ssh.Marshal(struct {
			Key, Data []byte
			Flags     uint32
		}{key.PublicKey().Marshal(), data, 0})...))
	}
	sig, err := host.Sign(nil, session)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte{msgExtension}, ssh.Marshal(struct {
		Name string
		Rest []byte `ssh:"rest"`
	}{sessionBind, ssh.Marshal(binding{host.PublicKey().Marshal(), session, ssh.Marshal(sig), false})})...))
	f.Add([]byte{msgListKeys})
	f.Add([]byte{17, 0, 0, 0, 1})

	f.Fuzz(func(t *testing.T, msg []byte) {
		if len(msg) == 0 {
			return // readMessage lets none through
		}
		a := &Agent{
			aliases: []Alias{{Name: "devvm", User: "breakglass", HostKey: host.PublicKey(), Signer: key}},
			log:     slog.New(slog.DiscardHandler), active: true, signed: map[string]int{},
		}
		c := &conn{agent: a, host: host.PublicKey(), session: session}
		reply := c.answer(msg)
		if reply[0] != msgSignature {
			return
		}
		var req struct {
			Key, Data []byte
			Flags     uint32
		}
		if err := ssh.Unmarshal(msg[1:], &req); err != nil {
			t.Fatal(err)
		}
		for _, method := range []ssh.PublicKey{nil, host.PublicKey()} {
			if bytes.Equal(req.Data, login(session, "breakglass", key.PublicKey(), method)) {
				return
			}
		}
		t.Errorf("signed: %q", req.Data)
	})
}

func FuzzABindingIsProven(f *testing.F) {
	host := fixedKey(f, 2)
	sig, err := host.Sign(nil, []byte("session"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ssh.Marshal(binding{host.PublicKey().Marshal(), []byte("session"), ssh.Marshal(sig), false}))
	f.Add(ssh.Marshal(binding{host.PublicKey().Marshal(), []byte("another"), ssh.Marshal(sig), false}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, contents []byte) {
		key, session, err := parseBinding(contents)
		if err == nil && bytes.Equal(key.Marshal(), host.PublicKey().Marshal()) && string(session) != "session" {
			t.Errorf("the host never signed for session %q", session)
		}
	})
}

// fixedKey is the same in each of the fuzzer's processes.
func fixedKey(f *testing.F, seed byte) ssh.Signer {
	f.Helper()
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	return s
}
