package sshagent

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/agent"
)

// A process of another session can wait for the socket, and connect before the agent knows whom to admit.
func TestWhoCameBeforeTheQuestionIsSentAway(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	a, err := Open(t.TempDir(), []Alias{{Name: "devvm", Address: "127.0.0.1:1", User: "u", HostKey: key.PublicKey(), Signer: key}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	early, err := net.Dial("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	if err := early.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	client := agent.NewClient(early)
	if _, err := client.List(); err != nil {
		t.Fatal(err)
	}
	a.Admit(func(int) bool { return false })
	if _, err := client.List(); err == nil {
		t.Error("it is served though it would not be admitted")
	}
}
