package main

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/internal/store"
	"bgbot/pve"
)

// guest is the VM as bgbot reaches it: as configured, or with the host key that a person has accepted since.
type guest struct {
	db      *store.Store
	id      int
	pin     string // the configured key; "" with an authority
	changed func() // called after another key was accepted

	mu sync.Mutex // guards vm
	vm pve.Host
}

// newGuest takes the accepted key if it stands for the very key that is configured: whoever has edited the configuration
// since knows better.
func newGuest(ctx context.Context, db *store.Store, id int, vm pve.Host, log *slog.Logger) *guest {
	g := &guest{db: db, id: id, vm: vm}
	if vm.HostKey == nil {
		return g
	}
	g.pin = keyText(vm.HostKey)
	known, ok := db.HostKey(ctx, id)
	if !ok || known.Pin != g.pin {
		return g
	}
	accepted, err := pve.ParseHostKey(known.Key)
	if err != nil {
		log.ErrorContext(ctx, "the accepted host key cannot be read", "err", err)
		return g
	}
	log.InfoContext(ctx, "the VM has a host key that was accepted in chat", "by", known.By, "at", known.At, "key", known.Key)
	g.vm.HostKey = accepted
	return g
}

// keyText is a key as "TYPE BASE64".
func keyText(k ssh.PublicKey) string {
	return k.Type() + " " + base64.StdEncoding.EncodeToString(k.Marshal())
}

func (g *guest) host() pve.Host {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.vm
}

// accept makes key the VM's for bgbot and its agents, now and after a restart.
func (g *guest) accept(ctx context.Context, key, by string) error {
	accepted, err := pve.ParseHostKey(key)
	if err != nil {
		return err
	}
	if g.pin == "" {
		return errors.New("the VM's host keys are signed by an authority")
	}
	g.db.AcceptHostKey(ctx, store.HostKey{VMID: g.id, Pin: g.pin, Key: key, By: by, At: time.Now()})
	g.mu.Lock()
	g.vm.HostKey = accepted
	g.mu.Unlock()
	g.changed()
	return nil
}

func (g *guest) reach(ctx context.Context) error { return pve.Reach(ctx, g.host()) }

// knock logs in and leaves again.
func (g *guest) knock(ctx context.Context) error {
	client, err := g.host().Dial(ctx)
	if err == nil {
		_ = client.Close()
	}
	return err
}

// mostLook is the most that a look into the VM reads, in bytes.
const mostLook = 64 << 10

// look logs in to the VM and asks systemd what is not well there. A VM without systemd has nothing to say.
func (g *guest) look(ctx context.Context) (string, error) {
	vm := g.host()
	client, err := vm.Dial(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	release := context.AfterFunc(ctx, func() { _ = client.Close() }) // a session knows no context
	defer release()
	out, err := ask(client, "systemctl is-system-running; systemctl --failed --no-legend --plain")
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", &pve.Unreachable{Host: vm.Name, Why: pve.Stuck, Err: err}
	}
	return out, nil
}

// ask runs a command and reads what it prints until its end, whatever its exit code.
func ask(client *ssh.Client, command string) (string, error) {
	session, err := pve.OpenSession(client)
	if err != nil {
		return "", err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := session.Start(command); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(out, mostLook))
	if err != nil || len(text) == mostLook {
		return string(text), err
	}
	if end := session.Wait(); end != nil {
		if _, exited := errors.AsType[*ssh.ExitError](end); !exited {
			return "", end
		}
	}
	return string(text), nil
}
