package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"bgbot/bot"
	"bgbot/bot/slack"
	"bgbot/config"
	"bgbot/internal/store"
)

func runServe(ctx context.Context, e env, args []string) (int, error) {
	fs := flags(e, "serve", "Serves the configured chats until it is told to stop (SIGTERM, ^C).")
	path := fs.String("c", "", "the configuration `file`")
	if _, err := parse(fs, args, 0); err != nil {
		return exitUsage, err
	}
	cfg, mattermost, err := loadServed(*path, e.environ)
	if err != nil {
		return exitError, err
	}
	if err := servable(cfg, mattermost); err != nil {
		return exitError, err
	}
	s, err := fromConfig(cfg)
	if err != nil {
		return exitError, err
	}
	if _, err := makeStateDir(s.storeURL); err != nil {
		return exitError, err
	}
	log := logger(e.err, cfg.Log.Level, cfg.Log.Format, mask(s.secrets))
	log.InfoContext(ctx, "bgbot begins", "version", version, "vm", s.vm.Name, "chats", cfg.Chats())
	warnOfNotYet(ctx, cfg, log)
	err = serve(ctx, s, slackOf(cfg, log), log)
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		log.InfoContext(ctx, "bgbot ends", "why", fmt.Sprint(context.Cause(ctx)))
		return exitOK, nil
	}
	return exitError, err
}

// loadServed reads a configuration for serving, and whether it has anything of Mattermost. What is wrong there is no matter:
// nobody should mend a section that is refused.
func loadServed(path string, environ []string) (cfg *config.Config, mattermost bool, err error) {
	cfg, ignored, err := loadWithout(path, environ, "mattermost", "auth.mattermost")
	if err != nil {
		return nil, false, err
	}
	return cfg, len(ignored) > 0 || slices.Contains(cfg.Chats(), "mattermost"), nil
}

// servable wants a chat, and none that this build cannot serve: half of what was asked for must not pass for all of it.
func servable(cfg *config.Config, mattermost bool) error {
	if mattermost {
		return errors.New("mattermost: this build has no adapter for it yet; remove the section, and auth.mattermost")
	}
	return cfg.RequireChat()
}

// slackOf opens Slack as configured.
func slackOf(cfg *config.Config, log *slog.Logger) opener {
	return func(ctx context.Context, db *store.Store) (map[string]bot.Chat, error) {
		o := slackOptions(cfg, log)
		o.Cursor = func(ctx context.Context, key string) string { return db.Cursor(ctx, "slack", key) }
		o.SetCursor = func(ctx context.Context, key, value string) { db.SetCursor(ctx, "slack", key, value) }
		chat, err := slack.Open(ctx, o)
		if err != nil {
			return nil, err
		}
		return map[string]bot.Chat{"slack": chat}, nil
	}
}

func slackOptions(cfg *config.Config, log *slog.Logger) slack.Options {
	return slack.Options{
		AppToken: cfg.Slack.AppToken.Reveal(), BotToken: cfg.Slack.BotToken.Reveal(), Channel: cfg.Slack.Channel,
		APIURL: cfg.Slack.APIURL, People: cfg.Auth.Slack, Log: log,
	}
}
