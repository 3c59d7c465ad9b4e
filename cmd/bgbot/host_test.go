package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"bgbot/internal/anthropictest"
)

// storyHost is what the VM and the Proxmox host were asked, and what is wrong with them.
func storyHost(ts *testscript.TestScript, _ bool, args []string) {
	w := the(ts)
	switch {
	case len(args) == 1:
		ts.Check(w.hostIs(args[0]))
	case args[0] == "ran" && len(args) == 3:
		if n := number(ts, args[1]); !soon(func() bool { return w.ran(args[2]) == n }) {
			ts.Fatalf("%q did not run %d times; what reached the machines:\n%s", args[2], n, w.commands())
		}
	case args[0] == "ran" && len(args) == 2:
		if !soon(func() bool { return w.ran(args[1]) > 0 }) {
			ts.Fatalf("%q did not run; what reached the machines:\n%s", args[1], w.commands())
		}
	case args[0] == "never" && len(args) == 2:
		if w.ran(args[1]) > 0 {
			ts.Fatalf("%q ran; what reached the machines:\n%s", args[1], w.commands())
		}
	case args[0] == "breaks" && len(args) == 2:
		ts.Check(w.fault(args[1], true))
	case args[0] == "mends" && len(args) == 2:
		ts.Check(w.fault(args[1], false))
	default:
		ts.Fatalf("usage: host ran [N] TEXT | never TEXT | breaks|mends FAULT | refuses | silent | hole | impostor")
	}
}

// storyVM gives the VM another host key than is configured, as a rebuilt one has.
func storyVM(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 || args[0] != "rebuilt" {
		ts.Fatalf("usage: vm rebuilt")
	}
	key, err := anotherKey()
	ts.Check(err)
	the(ts).settings.ssh.HostKey = key
}

func (w *world) commands() string {
	var all []string
	for _, c := range w.lab.Commands() {
		all = append(all, c.Where+": "+c.Text)
	}
	return strings.Join(all, "\n")
}

func (w *world) ran(text string) (n int) {
	for _, c := range w.lab.Commands() {
		if strings.Contains(c.Where+": "+c.Text, text) {
			n++
		}
	}
	return n
}

// fault makes the lab's qm misbehave, by a file in the lab's folder; lock is a line in the VM's configuration.
func (w *world) fault(name string, on bool) error {
	key, _ := w.lab.KeyFiles()
	return labFault(filepath.Dir(filepath.Dir(key)), name, on)
}

func labFault(dir, name string, on bool) error {
	switch {
	case name == "lock" && on:
		path := filepath.Join(dir, "conf", "102.conf")
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, append(old, "lock: backup\n"...), 0o600)
	case name == "lock":
		return fmt.Errorf("the lock stays; only a person on the host takes it away")
	case on:
		return os.WriteFile(filepath.Join(dir, "fault", name), nil, 0o600)
	default:
		return os.Remove(filepath.Join(dir, "fault", name))
	}
}

// hostIs puts something else where the Proxmox host should be.
func (w *world) hostIs(what string) (err error) {
	switch what {
	case "refuses":
		url, release, err := anthropictest.Refuse()
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { must(w.t, release()) })
		w.settings.gate.Address = strings.TrimPrefix(url, "http://")
	case "silent":
		w.settings.gate.Address = silentPort(w.t)
	case "hole":
		w.settings.gate.Address, err = blackHole(w.t)
	case "impostor":
		w.settings.gate.HostKey, err = anotherKey()
	default:
		err = fmt.Errorf("host %s: unknown", what)
	}
	return err
}

// silentPort accepts and says nothing, as a hung machine does.
func silentPort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	over, end := context.WithCancel(context.Background())
	t.Cleanup(func() {
		end()
		_ = l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { <-over.Done(); _ = c.Close() })
		}
	})
	return l.Addr().String()
}

// blackHole is a port that answers no connect: its queue holds one connection, which is taken, and nobody accepts.
func blackHole(t testing.TB) (string, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	if err := syscall.Listen(fd, 0); err != nil {
		return "", err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return "", err
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	c, err := net.Dial("tcp", address)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return address, err
}

func anotherKey() (ssh.PublicKey, error) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(public)
}
