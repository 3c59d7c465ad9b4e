package main

import (
	"context"
	"fmt"

	"bgbot/bot/slack"
)

func runSlack(_ context.Context, e env, args []string) (int, error) {
	fs := flags(e, "slack manifest", `
Prints the Slack app that bgbot needs, for api.slack.com/apps: Create New App, From a manifest, YAML. It asks for no scope
that bgbot does not use; serving refuses a token that has more. docs/slack.md goes through it screen by screen.`)
	public := fs.Bool("public", false, "for a public channel; everybody in the workspace can read that, so a private one is better")
	if len(args) == 0 || args[0] != "manifest" {
		if len(args) > 0 && isHelp(args[0]) {
			fs.Usage()
			return exitOK, nil
		}
		return exitUsage, fmt.Errorf("say what of Slack: bgbot slack manifest")
	}
	if _, err := parse(fs, args[1:], 0); err != nil {
		return exitUsage, err
	}
	_, err := fmt.Fprint(e.out, slack.Manifest(*public))
	return exitOK, err
}

func isHelp(word string) bool { return word == "help" || word == "-h" || word == "--help" }
