package main

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// tap is a wire to a host that tells when something goes to the host.
type tap struct {
	listener net.Listener
	host     string
	wg       sync.WaitGroup

	mu    sync.Mutex // guards what follows
	ends  []net.Conn
	first time.Time // when the first bytes since forget passed by
}

func newTap(t testing.TB, host string) *tap {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{listener: listener, host: host}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		for _, end := range p.ends {
			_ = end.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *tap) address() string { return p.listener.Addr().String() }

func (p *tap) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		host, err := net.Dial("tcp", p.host)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.ends = append(p.ends, client, host)
		p.mu.Unlock()
		p.wg.Go(func() { p.carry(host, io.TeeReader(client, p)); _ = client.Close() })
		p.wg.Go(func() { p.carry(client, host); _ = host.Close() })
	}
}

func (p *tap) carry(to net.Conn, from io.Reader) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

// Write sees what goes to the host.
func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first.IsZero() {
		p.first = time.Now()
	}
	return len(b), nil
}

func (p *tap) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.first = time.Time{}
}

func (p *tap) firstByte() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first
}
