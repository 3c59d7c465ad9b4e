package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"bgbot/auth"
	"bgbot/bot/console"
	"bgbot/internal/store"
)

func runConsole(ctx context.Context, e env, args []string) (int, error) {
	fs := flags(e, "console", `
Serves this terminal as the chat, for when the chat service is down. You act as the user of the operating system,
who has to be on the allowlist auth.console.`)
	path := fs.String("c", "", "the configuration `file`")
	plain := fs.Bool("plain", false, "lines instead of a full screen, also on a terminal")
	if _, err := parse(fs, args, 0); err != nil {
		return exitUsage, err
	}
	// A last way in: what it can do without may be wrong, and is told.
	cfg, ignored, err := loadWithout(*path, e.environ, "slack", "mattermost", "auth.slack", "auth.mattermost", "watch", "mirror", "http", "agent.api_key", "agent.oauth_token", "agent.workspace")
	if err != nil {
		return exitError, err
	}
	if strings.Contains(strings.Join(ignored, "\n"), "agent.workspace") {
		cfg.Agent.Workspace = ""
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
	dir, leave, err := s.settle(ctx)
	if err != nil {
		var moved error
		if dir, leave, moved = s.refuge(); moved != nil {
			return exitError, errors.Join(err, moved)
		}
		ignored = append(ignored, sentence(err)+"\nThis console keeps its own notes in a temporary folder and does not know what was before.")
	}
	defer leave()
	logFile, err := os.OpenFile(filepath.Join(dir, "console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return exitError, err
	}
	defer func() { _ = logFile.Close() }() // the log is not worth an error at the end
	greeting := "Say what is wrong with " + s.vm.Name + ". `help` says what else works, ^D leaves."
	if len(ignored) > 0 {
		greeting += "\n\n⚠️ " + strings.Join(ignored, "\n\n⚠️ ")
	}
	chat, err := console.Open(console.Options{
		In: e.in, Out: e.out, Person: person, Name: me.Username, Title: "bgbot · " + s.vm.Name, Plain: *plain,
		Dir: filepath.Join(dir, "files"), History: filepath.Join(dir, "history"), Environ: e.environ, Greeting: greeting,
	})
	if err != nil {
		return exitError, err
	}
	log := logger(logFile, cfg.Log.Level, cfg.Log.Format, mask(s.secrets))
	warnOfNotYet(ctx, cfg, log)
	err = serve(ctx, s, atConsole(chat), log)
	return exitOK, errors.Join(err, chat.Close())
}

// settle makes the state's folder and tries out the store in it.
func (s *settings) settle(ctx context.Context) (dir string, leave func(), err error) {
	if dir, err = makeStateDir(s.storeURL); err != nil {
		return "", nil, err
	}
	db, err := store.Open(ctx, s.storeURL, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", nil, err
	}
	return dir, func() {}, db.Close()
}

// refuge is a temporary folder in place of the state's: the store is broken, its disk is, or another bgbot has it, whose
// chat may be just what is down.
func (s *settings) refuge() (dir string, leave func(), err error) {
	dir, err = os.MkdirTemp("", "bgbot-console-")
	if err != nil {
		return "", nil, err
	}
	s.storeURL, s.agent.Dir = "sqlite://"+filepath.Join(dir, "bgbot.db"), filepath.Join(dir, "agent")
	return dir, func() { _ = os.RemoveAll(dir) }, nil // a folder of this run
}
