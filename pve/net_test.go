package pve_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

func rsaKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// backlogOfOne listens without ever accepting; Go's own listeners always have a long queue.
func backlogOfOne(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// wire is a TCP proxy that a test can cut or freeze.
type wire struct {
	address string
	target  string

	wg    sync.WaitGroup
	mu    sync.Mutex // guards the rest
	lines []*line
	dials int
	open  int
}

// line is one connection through the wire.
type line struct {
	near, far net.Conn
	flows     chan struct{} // closed while bytes flow, and again when the line was cut
	end       sync.Once
}

func newWire(t testing.TB, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String(), target: target}
	w.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.carry(conn)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		w.wg.Wait()
	})
	return w
}

func (w *wire) carry(near net.Conn) {
	far, err := net.Dial("tcp", w.target)
	if err != nil {
		_ = near.Close()
		return
	}
	l := &line{near: near, far: far, flows: make(chan struct{})}
	close(l.flows)
	w.mu.Lock()
	w.lines = append(w.lines, l)
	w.dials++
	w.open++
	w.mu.Unlock()
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		w.wg.Go(func() {
			_, _ = io.Copy(gated{w, l, way[1]}, way[0])
			_, _ = near.Close(), far.Close()
			l.end.Do(func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.open--
			})
		})
	}
}

// gated writes only while its line flows.
type gated struct {
	w  *wire
	l  *line
	to net.Conn
}

func (g gated) Write(p []byte) (int, error) {
	g.w.mu.Lock()
	flows := g.l.flows
	g.w.mu.Unlock()
	<-flows
	return g.to.Write(p)
}

// cut ends all connections.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lines {
		_, _ = l.near.Close(), l.far.Close()
		select {
		case <-l.flows:
		default:
			close(l.flows)
		}
	}
	w.lines = nil
}

// freeze makes a black hole of the connections of now. New ones work.
func (w *wire) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lines {
		select {
		case <-l.flows:
			l.flows = make(chan struct{})
		default: // frozen already
		}
	}
}

func (w *wire) dialled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dials
}

// links counts the connections that are up.
func (w *wire) links() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}
