package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/bot"
	"bgbot/internal/sshagent"
	"bgbot/pve"
	"bgbot/pve/relay"
)

// keyring gives each agent process its own ssh: keys that only sign, only for the VM and the relay, only while a turn
// of its session runs.
type keyring struct {
	vm      func() pve.Host
	relay   *relay.Server
	owns    func(session string, pid int) bool
	handler func(session string) func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error)
	log     *slog.Logger

	mu      sync.Mutex // guards what follows
	rings   map[string]*ring
	running map[string]bool
}

// ring is the ssh of one process.
type ring struct {
	session string
	dir     string
	pass    ssh.Signer      // to the relay
	agent   *sshagent.Agent // nil after a failure to make it anew
}

// prepare is agentrun's: the environment of one process, and what to undo when it has ended.
func (k *keyring) prepare(session, dir string) (map[string]string, func(), error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("a key for the relay: %w", err)
	}
	r := &ring{session: session, dir: filepath.Join(dir, "ssh")}
	if r.pass, err = ssh.NewSignerFromKey(private); err != nil {
		return nil, nil, fmt.Errorf("a key for the relay: %w", err)
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil { // ours, so that it stays when the agent in it is made anew
		return nil, nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.open(r); err != nil {
		return nil, nil, err
	}
	revoke := k.relay.Admit(session, r.pass.PublicKey(), relay.Handler(k.handler(session)))
	k.rings[session] = r
	return r.agent.Env("/usr/local/bin:/usr/bin:/bin"), func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		revoke()
		err := r.close()
		if k.rings[session] == r { // else the folder is the next process's
			delete(k.rings, session)
			err = errors.Join(err, os.RemoveAll(r.dir))
		}
		if err != nil {
			k.log.Warn("the agent's ssh did not close", "session", session, "err", err)
		}
	}, nil
}

// open makes the ssh of a ring with the host keys of now. The caller holds mu.
func (k *keyring) open(r *ring) error {
	vm := k.vm()
	a, err := sshagent.Open(r.dir, []sshagent.Alias{
		{Name: vm.Name, Address: vm.Address, User: vm.User, HostKey: vm.HostKey, HostCA: vm.HostCA, Signer: vm.Signer},
		{Name: "pve", Address: k.relay.Address(), User: "agent", HostKey: k.relay.HostKey(), Signer: r.pass, Timeout: bot.Limit() + time.Minute},
	}, k.log.With("session", r.session))
	if err != nil {
		return err
	}
	a.Admit(func(pid int) bool { return k.owns(r.session, pid) }) // the path of another session's socket can be guessed
	if k.running[r.session] {
		a.Activate()
	}
	r.agent = a
	return nil
}

func (r *ring) close() error {
	if r.agent == nil {
		return nil
	}
	return r.agent.Close()
}

// repin makes the ssh of all processes anew, in place, for the VM's host key has changed. The logins of theirs that are
// done stay.
func (k *keyring) repin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.rings {
		err := r.close()
		r.agent = nil
		if err = errors.Join(err, k.open(r)); err != nil {
			k.log.Error("an agent's ssh knows the old host key", "session", r.session, "err", err)
		}
	}
}

func (k *keyring) turning(session string, running bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if running {
		k.running[session] = true
	} else {
		delete(k.running, session)
	}
	r := k.rings[session]
	switch {
	case r == nil || r.agent == nil:
	case running:
		r.agent.Activate()
	default:
		r.agent.Deactivate()
	}
}
