package main

import (
	"context"
	"fmt"
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
