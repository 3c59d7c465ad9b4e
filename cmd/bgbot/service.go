package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/bot"
	"bgbot/internal/store"
	"bgbot/pve"
	"bgbot/pve/relay"
)

// opener opens the chats of a service, by name. The store keeps how far each was read.
type opener func(ctx context.Context, db *store.Store) (map[string]bot.Chat, error)

// atConsole is the opener of a terminal, which is open already.
func atConsole(chat bot.Chat) opener {
	return func(context.Context, *store.Store) (map[string]bot.Chat, error) {
		return map[string]bot.Chat{"console": chat}, nil
	}
}

// serve wires the service in order of dependency, runs it until ctx ends or a chat does, and takes it down in reverse.
func serve(ctx context.Context, s settings, open opener, log *slog.Logger) (err error) {
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

	vm := newGuest(ctx, db, s.vm.ID, s.ssh, log)
	keys := &keyring{vm: vm.host, relay: back, log: log, rings: map[string]*ring{}, running: map[string]bool{}}
	vm.changed = keys.repin
	s.agent.Prepare = keys.prepare
	s.agent.Log = log
	runner, err := agentrun.New(s.agent)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runner.Close(context.WithoutCancel(ctx))) }()
	keys.owns = runner.Owns

	chats, err := open(ctx, db)
	if err != nil {
		return err
	}
	b := bot.New(bot.Options{
		Chats: chats, Policy: auth.NewPolicy(s.people...), Confirm: s.confirm, Power: s.power, VM: s.vm,
		Gate: gate, Guest: bot.Guest{Reach: vm.reach, Look: vm.look, Knock: vm.knock, Accept: vm.accept},
		Runner: runner, Model: s.model, Store: db, Prompts: prompts(), Mask: mask(s.secrets), Turning: keys.turning, Log: log,
	})
	keys.handler = b.Relay
	return b.Run(ctx)
}
