package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bgbot/agentrun"
	"bgbot/bot/slack"
	"bgbot/config"
	"bgbot/internal/store"
	"bgbot/pve"
)

func runDoctor(ctx context.Context, e env, args []string) (int, error) {
	fs := flags(e, "doctor", `
Checks everything that bgbot needs and says for each failing piece how to mend it. The gate is only asked for its
status. A bgbot that is serving is not disturbed. Exits 1 if a check failed.`)
	path := fs.String("c", "", "the configuration `file`")
	if _, err := parse(fs, args, 0); err != nil {
		return exitUsage, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d := &doctor{e: e}
	cfg, mattermost, err := loadServed(*path, e.environ)
	if !d.check("configuration", "every key is known and every value is fit", err) {
		return exitError, nil
	}
	for key, missing := range cfg.NotYet() {
		if mattermost && key == "auth.mattermost" { // told with the chat
			continue
		}
		d.doubt(key, "is not in this build yet: "+missing+"; leave it out")
	}
	d.chat(cfg, mattermost)
	address := cfg.Store.URL.Reveal()
	if _, err := stateDir(address); err != nil { // told as the store's; the rest goes on as if there were one
		cfg.Store.URL = config.NewSecret("sqlite:///var/lib/bgbot/bgbot.db")
	}
	s, err := fromConfig(cfg)
	if !d.check("keys", "both private keys are readable by you alone, both hosts are pinned", err) {
		return exitError, nil
	}
	d.gate(ctx, s)
	err = pve.Reach(ctx, s.ssh)
	d.check(s.vm.Name, "SSH answered, the host key is the pinned one, the login works", err)
	d.slack(ctx, s, cfg)
	d.claude(ctx, s, cfg)
	d.store(ctx, address)
	if d.failed > 0 {
		fmt.Fprintf(e.out, "\n%d of %d checks failed.\n", d.failed, d.checks)
		return exitError, nil
	}
	if d.doubts > 0 {
		fmt.Fprintf(e.out, "\n%d of %d checks passed, %d should be looked at.\n", d.checks-d.doubts, d.checks, d.doubts)
		return exitOK, nil
	}
	fmt.Fprintf(e.out, "\nAll %d checks passed.\n", d.checks)
	return exitOK, nil
}

type doctor struct {
	e                      env
	checks, doubts, failed int
}

func (d *doctor) check(name, good string, err error) bool {
	d.checks++
	if err != nil {
		d.failed++
		fmt.Fprintf(d.e.out, "✗ %-14s %s\n", name, strings.ReplaceAll(sentence(err), "\n", "\n"+strings.Repeat(" ", 17)))
		return false
	}
	fmt.Fprintf(d.e.out, "✓ %-14s %s\n", name, good)
	return true
}

// gate asks the host for a status, and compares the clocks: a confirmation's time and a log's are read together.
func (d *doctor) gate(ctx context.Context, s settings) {
	gate := pve.NewClient(s.gate, s.vm.ID, logger(d.e.err, "error", "text", mask(s.secrets)))
	defer func() { _ = gate.Close() }() // nothing is pending
	began := time.Now()
	report, err := gate.Run(ctx, pve.Status, func(pve.Step) {})
	if err == nil && report.Result.Exit != pve.Done {
		err = fmt.Errorf("the gate answered with exit %d: %s", report.Result.Exit, report.Result.Text)
	}
	first, _, _ := strings.Cut(report.Result.Text, "\n")
	if !d.check("gate", fmt.Sprintf("answered in %d ms: %s", time.Since(began).Milliseconds(), first), err) {
		return
	}
	if at := report.Result.At; !at.IsZero() {
		var err error
		off := time.Since(at).Round(time.Second)
		if off.Abs() > 30*time.Second {
			err = fmt.Errorf("the Proxmox host's clock is %s off from mine; set up NTP on both", off)
		}
		d.check("clock", "the Proxmox host's clock agrees with mine", err)
	}
}

// chat says what `bgbot serve` would of the chats that are configured.
func (d *doctor) chat(cfg *config.Config, mattermost bool) {
	if chats := cfg.Chats(); len(chats) > 0 || mattermost || len(cfg.Auth.Console) == 0 {
		d.check("chat", strings.Join(chats, ", ")+" is configured", servable(cfg, mattermost))
		return
	}
	d.doubt("chat", "none is configured: only `bgbot console` works, and `bgbot serve` refuses. "+
		"Set slack.app_token_file, slack.bot_token_file and slack.channel")
}

// slack looks at what serving needs there, if it is configured.
func (d *doctor) slack(ctx context.Context, s settings, cfg *config.Config) {
	if !slices.Contains(cfg.Chats(), "slack") {
		return
	}
	for _, f := range slack.Check(ctx, slackOptions(cfg, logger(d.e.err, "error", "text", mask(s.secrets)))) {
		name := strings.TrimPrefix(f.What, "slack.")
		if name == "configuration" || name == "clock" { // there are others of that name
			name = "slack " + name
		}
		switch f.Level {
		case slack.Wrong:
			d.check(name, "", errors.New(f.Text))
		case slack.Doubtful:
			d.doubt(name, f.Text)
		case slack.Good:
			d.check(name, f.Text, nil)
		}
	}
	if len(cfg.Auth.Console) == 0 {
		d.doubt("auth.console", "it is empty: when Slack is down, `bgbot console` will take nobody. Add your user name on this machine")
	}
}

// doubt is something that serves, and that somebody should look at.
func (d *doctor) doubt(name, text string) {
	d.checks++
	d.doubts++
	fmt.Fprintf(d.e.out, "⚠ %-14s %s\n", name, text)
}

func (d *doctor) claude(ctx context.Context, s settings, cfg *config.Config) {
	a := s.agent
	a.Log = logger(d.e.err, "error", "text", mask(s.secrets))
	runner, err := agentrun.New(a)
	if err == nil {
		d.check("cage", "the agent's commands cannot reach the keys, the configuration or bgbot itself", runner.Caged())
		err = runner.Check(ctx)
		_ = runner.Close(ctx) // nothing runs
	}
	d.check("claude", "version "+agentrun.Pinned+" is there", err)
	err = nil
	if !cfg.Agent.APIKey.Given() && !cfg.Agent.OAuthToken.Given() && a.BaseURL == "" {
		err = fmt.Errorf("agent.api_key_file: no key for the model; set it, or agent.oauth_token_file (from `claude setup-token`)")
	}
	d.check("model login", "a key or token is configured (not tried out: that would cost money)", err)
}

// store opens the store. One that is not there yet is not made: what root made here, the user that serves could not write.
func (d *doctor) store(ctx context.Context, address string) {
	good, err := tryStore(ctx, address)
	if used, ok := errors.AsType[*store.Unusable](err); ok && used.By != "" {
		good, err = "in use by the bgbot that is serving ("+used.By+")", nil
	}
	d.check("store", good, err)
}

func tryStore(ctx context.Context, address string) (good string, err error) {
	dir, err := stateDir(address)
	if err != nil {
		return "", err
	}
	file := strings.TrimPrefix(address, "sqlite://")
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		trial, err := os.MkdirTemp(nearest(dir), ".bgbot-doctor-")
		if err != nil {
			return "", fmt.Errorf("store.url: there is no %s, and I may not make it: `install -d -m 700 -o USER %s` as root, for the user that runs bgbot", file, dir)
		}
		defer func() { _ = os.RemoveAll(trial) }() // a folder of this check
		return "there is none yet; it can be made in " + dir, open(ctx, "sqlite://"+filepath.Join(trial, "bgbot.db"))
	}
	if _, err := os.Lstat(file + ".lock"); errors.Is(err, fs.ErrNotExist) {
		defer func() { _ = os.Remove(file + ".lock") }() // made by this check
	}
	return "opens and closes in " + dir, open(ctx, address)
}

// nearest is the folder itself, or what there is above it.
func nearest(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func open(ctx context.Context, address string) error {
	db, err := store.Open(ctx, address, slog.New(slog.DiscardHandler)) // its errors are told by the caller
	if err != nil {
		return err
	}
	if trouble := db.Trouble(); trouble != "" { // it would work from memory
		err = errors.New("store.url: " + trouble)
	}
	return errors.Join(err, db.Close())
}
