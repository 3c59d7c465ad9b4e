package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"bgbot/bot"
	"bgbot/bot/console"

	"bgbot/auth"
)

func runServe(_ context.Context, e env, args []string) (int, error) {
	fs := flags(e, "serve", "Serves the configured chats until it is told to stop (SIGTERM, ^C).")
	path := fs.String("c", "", "the configuration `file`")
	if _, err := parse(fs, args, 0); err != nil {
		return exitUsage, err
	}
	cfg, err := load(*path, e.environ)
	if err != nil {
		return exitError, err
	}
	if err := cfg.RequireChat(); err != nil {
		return exitError, err
	}
	return exitError, fmt.Errorf("this build has no adapter for %v yet; `bgbot console` serves this terminal", cfg.Chats())
}

func runConsole(ctx context.Context, e env, args []string) (int, error) {
	fs := flags(e, "console", `
Serves this terminal as the chat, for when the chat service is down. You act as the user of the operating system,
who has to be on the allowlist auth.console.`)
	path := fs.String("c", "", "the configuration `file`")
	plain := fs.Bool("plain", false, "lines instead of a full screen, also on a terminal")
	if _, err := parse(fs, args, 0); err != nil {
		return exitUsage, err
	}
	cfg, err := load(*path, e.environ)
	if err != nil {
		return exitError, err
	}
	s, err := fromConfig(cfg)
	if err != nil {
		return exitError, err
	}
	me, err := user.Current()
	if err != nil {
		return exitError, err
	}
	person := auth.Person{Chat: "console", ID: me.Username}
	if err := auth.NewPolicy(s.people...).Check(person, auth.Talk); err != nil {
		return exitError, fmt.Errorf("you are %s, who is not on the allowlist; add %q to auth.console", me.Username, me.Username)
	}
	dir, err := stateDir(s.storeURL)
	if err != nil {
		return exitError, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return exitError, fmt.Errorf("store.url: %w", err)
	}
	logFile, err := os.OpenFile(filepath.Join(dir, "console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return exitError, err
	}
	defer func() { _ = logFile.Close() }() // the log is not worth an error at the end
	chat, err := console.Open(console.Options{
		In: e.in, Out: e.out, Person: person, Name: me.Username, Title: "bgbot · " + s.vm.Name, Plain: *plain,
		Dir: filepath.Join(dir, "files"), History: filepath.Join(dir, "history"), Environ: e.environ,
		Greeting: "Say what is wrong with " + s.vm.Name + ". `help` says what else works, ^D leaves.",
	})
	if err != nil {
		return exitError, err
	}
	log := logger(logFile, cfg.Log.Level, cfg.Log.Format, mask(s.secrets))
	err = serve(ctx, s, map[string]bot.Chat{"console": chat}, log)
	return exitOK, errors.Join(err, chat.Close())
}
