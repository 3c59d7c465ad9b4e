package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/bot"
	"bgbot/internal/sshagent"
	"bgbot/internal/store"
	"bgbot/pve"
	"bgbot/pve/relay"
)

// serve wires the service in order of dependency, runs it until ctx ends or a chat does, and takes it down in reverse.
func serve(ctx context.Context, s settings, chats map[string]bot.Chat, log *slog.Logger) (err error) {
	db, err := store.Open(ctx, s.storeURL, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	gate := pve.NewClient(s.gate, s.vm.ID, log)
	defer func() { _ = gate.Close() }() // a link that is closed already is no news

	back, err := relay.Listen(log)
	if err != nil {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	relayCtx, stopRelay := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRelay()
	background.Go(func() {
		if err := back.Serve(relayCtx); err != nil {
			log.ErrorContext(relayCtx, "relay", "err", err)
		}
	})

	keys := &keyring{vm: s.ssh, relay: back, log: log, agents: map[string]*sshagent.Agent{}, running: map[string]bool{}}
	s.agent.Prepare = keys.prepare
	s.agent.Log = log
	runner, err := agentrun.New(s.agent)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runner.Close(context.WithoutCancel(ctx))) }()
	keys.owns = runner.Owns

	b := bot.New(bot.Options{
		Chats: chats, Policy: auth.NewPolicy(s.people...), Confirm: s.confirm, Power: s.power, VM: s.vm,
		Gate: gate, Reach: func(ctx context.Context) error { return pve.Reach(ctx, s.ssh) },
		Look:   func(ctx context.Context) (string, error) { return look(ctx, s.ssh) },
		Runner: runner, Model: s.model, Store: db, Prompts: prompts(), Mask: mask(s.secrets), Turning: keys.turning, Log: log,
	})
	keys.handler = b.Relay
	return b.Run(ctx)
}

// keyring gives each agent process its own ssh: keys that only sign, only for the VM and the relay, only while a turn
// of its session runs.
type keyring struct {
	vm      pve.Host
	relay   *relay.Server
	owns    func(session string, pid int) bool
	handler func(session string) func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error)
	log     *slog.Logger

	mu      sync.Mutex // guards what follows
	agents  map[string]*sshagent.Agent
	running map[string]bool
}

// prepare is agentrun's: the environment of one process, and what to undo when it has ended.
func (k *keyring) prepare(session, dir string) (map[string]string, func(), error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("a key for the relay: %w", err)
	}
	pass, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("a key for the relay: %w", err)
	}
	a, err := sshagent.Open(filepath.Join(dir, "ssh"), []sshagent.Alias{
		{Name: k.vm.Name, Address: k.vm.Address, User: k.vm.User, HostKey: k.vm.HostKey, HostCA: k.vm.HostCA, Signer: k.vm.Signer},
		{Name: "pve", Address: k.relay.Address(), User: "agent", HostKey: k.relay.HostKey(), Signer: pass, Timeout: bot.Limit() + time.Minute},
	}, k.log.With("session", session))
	if err != nil {
		return nil, nil, err
	}
	a.Admit(func(pid int) bool { return k.owns(session, pid) }) // the path of another session's socket can be guessed
	revoke := k.relay.Admit(session, pass.PublicKey(), relay.Handler(k.handler(session)))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.agents[session] = a
	if k.running[session] {
		a.Activate()
	}
	return a.Env("/usr/local/bin:/usr/bin:/bin"), func() {
		k.mu.Lock()
		if k.agents[session] == a {
			delete(k.agents, session)
		}
		k.mu.Unlock()
		revoke()
		if err := a.Close(); err != nil {
			k.log.Warn("the agent's ssh did not close", "session", session, "err", err)
		}
	}, nil
}

func (k *keyring) turning(session string, running bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if running {
		k.running[session] = true
	} else {
		delete(k.running, session)
	}
	a := k.agents[session]
	switch {
	case a == nil:
	case running:
		a.Activate()
	default:
		a.Deactivate()
	}
}
