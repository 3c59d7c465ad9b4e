package pve_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/pve"
)

// A VM reboots while it is asked: whatever the connection ends, everybody who asks hears of it. Without OpenSession, a few of
// those thousand wait for ever.
func TestAConnectionThatEndsLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	late := time.After(30 * time.Second)
	for range 100 {
		client, reboot := cutHost(t, key)
		var asking sync.WaitGroup
		for range 25 {
			asking.Go(func() {
				for { // until the end
					session, err := pve.OpenSession(client)
					if err != nil {
						return
					}
					_ = session.Close()
				}
			})
		}
		reboot()
		over := make(chan struct{})
		go func() { asking.Wait(); close(over) }()
		select {
		case <-over:
		case <-late:
			t.Fatal("somebody waits for an answer of a host that is gone")
		}
		_ = client.Close()
	}
}

// The link to the host is held for weeks, and asked each time that somebody opens a page.
func TestAWarmLinkDoesNotGrow(t *testing.T) { // not beside others, whose goroutines it would count
	s := newScene(t, wellDone)
	ask := func() {
		if _, err := s.Run(t.Context(), pve.Status, nil); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	before := runtime.NumGoroutine()
	const times = 12
	for range times {
		ask()
	}
	await(t, "the end of what was begun for one answer", func() bool { return runtime.NumGoroutine() < before+times/2 })
}

// cutHost is a client of a host that opens every channel until it is rebooted.
func cutHost(t *testing.T, key ssh.Signer) (client *ssh.Client, reboot func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	far := make(chan net.Conn, 1)
	var host sync.WaitGroup
	host.Go(func() {
		conn, err := listener.Accept()
		far <- conn
		if err != nil {
			return
		}
		config := &ssh.ServerConfig{NoClientAuth: true}
		config.AddHostKey(key)
		_, channels, requests, err := ssh.NewServerConn(conn, config)
		if err != nil {
			return
		}
		host.Go(func() { ssh.DiscardRequests(requests) })
		for c := range channels {
			if _, asked, err := c.Accept(); err == nil {
				host.Go(func() { ssh.DiscardRequests(asked) })
			}
		}
	})
	t.Cleanup(host.Wait)
	client, err = ssh.Dial("tcp", listener.Addr().String(), &ssh.ClientConfig{User: "root", HostKeyCallback: ssh.FixedHostKey(key.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	conn := <-far
	return client, func() { _ = conn.Close() }
}
