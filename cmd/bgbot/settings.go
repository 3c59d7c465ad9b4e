package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"bgbot/agentrun"
	"bgbot/agents"
	"bgbot/auth"
	"bgbot/bot"
	"bgbot/config"
	"bgbot/internal/sshagent"
	"bgbot/pve"
)

// settings are what the service is made of, from the configuration or from a drill.
type settings struct {
	vm       bot.VM
	gate     pve.Host
	ssh      pve.Host
	people   []auth.Person
	confirm  bot.Confirm
	power    bot.Power
	agent    agentrun.Config // without what the service adds
	model    string
	storeURL string
	secrets  []string
}

// loadWithout reads the configuration of a command. It does not insist on the spare keys, and returns what is wrong with them.
func loadWithout(path string, environ []string, spare ...string) (cfg *config.Config, ignored []string, err error) {
	none := ""
	if path == "" {
		if path, none, err = find(); err != nil {
			return nil, nil, err
		}
	}
	cfg, ignored, err = config.LoadWithout(path, environ, spare...)
	if err != nil && none != "" {
		err = &unfound{none, config.InEnviron(environ), err}
	}
	return cfg, ignored, err
}

// find looks for a configuration that nobody named. If there is none, the second result is a sentence about that.
func find() (path, none string, err error) {
	const here, usual = "bgbot.yaml", "/etc/bgbot/bgbot.yaml"
	var words []string
	for _, p := range []string{here, usual} {
		info, err := os.Stat(p)
		switch {
		case errors.Is(err, fs.ErrPermission): // the folder belongs to the user that serves
			words = append(words, p+" is in a folder that you may not read")
		case err != nil:
			words = append(words, "no "+p)
		case !ours(info): // it names programs to run: somebody else's folder must not choose them
			return "", "", fmt.Errorf("%s is not yours alone, so it is not read unasked; say -c %s if you trust it", p, p)
		default:
			return p, "", nil
		}
	}
	return "", fmt.Sprintf("N%s here, and %s; give yours with -c FILE.", strings.TrimPrefix(words[0], "n"), words[1]), nil
}

// unfound is that no file was found and that the variables are not the whole of a configuration. Somebody in the wrong
// folder is served with the first; the second is for whoever has set variables.
type unfound struct {
	none      string
	variables bool // there are some
	err       error
}

func (u *unfound) Error() string { return u.none + " " + u.err.Error() }

func (u *unfound) UserMessage() string {
	if !u.variables {
		return u.none
	}
	return u.none + " Your BGBOT_ variables alone do not do:\n" + sentence(u.err)
}

func (u *unfound) Unwrap() error { return u.err }

// ours says that only this user or root can write the file.
func ours(info os.FileInfo) bool {
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && (owner.Uid == 0 || int(owner.Uid) == os.Geteuid()) && info.Mode().Perm()&0o022 == 0
}

// warnOfNotYet tells the log what was asked for and will not happen.
func warnOfNotYet(ctx context.Context, cfg *config.Config, log *slog.Logger) {
	for key, missing := range cfg.NotYet() {
		log.WarnContext(ctx, "a setting that is not in this build yet", "key", key, "missing", missing)
	}
}

func fromConfig(c *config.Config) (settings, error) {
	gate, err := host("the Proxmox host", c.Gate)
	if err != nil {
		return settings{}, fmt.Errorf("gate: %w", err)
	}
	vm, err := host(c.VM.Name, c.SSH)
	if err != nil {
		return settings{}, fmt.Errorf("ssh: %w", err)
	}
	by, err := auth.ParseBy(c.Confirm.By)
	if err != nil {
		return settings{}, fmt.Errorf("confirm.by: %w", err)
	}
	s := settings{
		vm: bot.VM{Name: c.VM.Name, ID: c.VM.VMID}, gate: gate, ssh: vm,
		confirm: bot.Confirm{TTL: c.Confirm.TTL, By: by, Verbs: map[pve.Verb]auth.By{}},
		power:   bot.Power(c.Agent.Power), model: c.Agent.Model, storeURL: c.Store.URL.Reveal(),
	}
	for verb, word := range c.Confirm.Verbs {
		if s.confirm.Verbs[pve.Verb(verb)], err = auth.ParseBy(word); err != nil {
			return settings{}, fmt.Errorf("confirm.verbs: %s: %w", verb, err)
		}
	}
	for chat, id := range c.Auth.All() {
		s.people = append(s.people, auth.Person{Chat: chat, ID: id})
	}
	for _, secret := range []config.Secret{
		c.Slack.AppToken, c.Slack.BotToken, c.Mattermost.Token, c.Mattermost.CommandToken, c.Agent.APIKey, c.Agent.OAuthToken,
	} {
		if secret.Given() {
			s.secrets = append(s.secrets, secret.Reveal())
		}
	}
	s.agent, err = agent(c)
	return s, err
}

func host(name string, h config.Host) (pve.Host, error) {
	signer, err := sshagent.ReadKey(h.KeyFile)
	if err != nil {
		return pve.Host{}, err
	}
	out := pve.Host{Name: name, Address: h.Address, User: h.User, Signer: signer}
	if out.HostKey, err = publicKey(h.HostKey); err != nil {
		return pve.Host{}, err
	}
	out.HostCA, err = publicKey(h.HostCA)
	return out, err
}

func publicKey(line string) (ssh.PublicKey, error) {
	if line == "" {
		return nil, nil
	}
	return pve.ParseHostKey(line)
}

// agent is the part of agentrun's configuration that the settings decide.
func agent(c *config.Config) (agentrun.Config, error) {
	dir, err := stateDir(c.Store.URL.Reveal())
	if err != nil {
		return agentrun.Config{}, err
	}
	books, err := runbooks(c.Agent.Workspace)
	if err != nil {
		return agentrun.Config{}, fmt.Errorf("agent.workspace: %w", err)
	}
	environ := maps.Clone(c.Agent.Env)
	delete(environ, "ANTHROPIC_BASE_URL") // a field of its own
	a := agentrun.Config{
		Command: c.Agent.Command, Dir: filepath.Join(dir, "agent"), Model: c.Agent.Model,
		BaseURL: c.Agent.Env["ANTHROPIC_BASE_URL"], Env: environ, Workspace: c.Agent.Workspace,
		Private: []string{
			c.Gate.KeyFile, c.SSH.KeyFile, c.Agent.APIKeyFile, c.Agent.OAuthTokenFile, c.Slack.AppTokenFile, c.Slack.BotTokenFile,
			c.Mattermost.TokenFile, c.Mattermost.CommandTokenFile, c.Holder(), dir, strings.TrimPrefix(c.Store.URL.Reveal(), "sqlite://"),
		},
		StallNotice: 20 * time.Second,
		Live:        c.Agent.Live, TurnTimeout: c.Agent.TurnTimeout, IdleTimeout: c.Agent.IdleTimeout,
		Steps: c.Agent.Limit.Steps, BudgetUSD: c.Agent.Limit.BudgetUSD,
	}
	a.Agent, err = breakglass(c.VM.Name, c.SSH.Address, c.VM.VMID, c.Agent.Power, books)
	a.APIKey, a.OAuthToken = reveal(c.Agent.APIKey), reveal(c.Agent.OAuthToken)
	return a, err
}

func reveal(s config.Secret) func() (string, error) {
	if !s.Given() {
		return nil
	}
	return func() (string, error) { return s.Reveal(), nil }
}

func breakglass(vm, address string, id int, power string, books []string) (agentrun.Agent, error) {
	a, err := agents.Breakglass(agents.Params{VM: vm, Address: address, VMID: id, Power: power, Runbooks: books})
	return agentrun.Agent{Name: a.Name, Description: a.Description, Prompt: a.Prompt}, err
}

// stateDir is where the process keeps what is not in the store: beside it.
func stateDir(storeURL string) (string, error) {
	u, err := url.Parse(storeURL)
	if err != nil || u.Scheme != "sqlite" {
		return "", errors.New("store.url: this build keeps its store in SQLite only; write sqlite:///absolute/path/bgbot.db")
	}
	return filepath.Dir(u.Path), nil
}

// makeStateDir makes it, for nobody but who runs this. Its error names the key.
func makeStateDir(storeURL string) (string, error) {
	dir, err := stateDir(storeURL)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("store.url: %w", err)
	}
	return dir, nil
}

// runbooks lists the files of the workspace that the prompt may name; there may be none.
func runbooks(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	var books []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && len(books) < 200 {
			books = append(books, path)
		}
		return nil
	})
	slices.Sort(books)
	return books, err
}

// mask hides the secrets by their exact value: a pattern misses what it does not know. A text that ends in the middle of
// one is hidden too, because an answer is shown while it grows.
func mask(secrets []string) func(string) string {
	const shortest, begun = 6, 4
	var pairs, known []string
	for _, s := range secrets {
		if len(s) >= shortest {
			pairs = append(pairs, s, "[secret]", url.QueryEscape(s), "[secret]")
			known = append(known, s)
		}
	}
	whole := strings.NewReplacer(pairs...)
	return func(text string) string {
		text = whole.Replace(text)
		for _, s := range known {
			for n := len(s) - 1; n >= begun; n-- {
				if before, is := strings.CutSuffix(text, s[:n]); is {
					return before + "[secret]"
				}
			}
		}
		return text
	}
}

func prompts() []bot.Prompt {
	var out []bot.Prompt
	for _, p := range agents.Prompts() {
		out = append(out, bot.Prompt{ID: p.ID, Label: p.Label, Text: p.Text})
	}
	return out
}

// logger writes text to a terminal and JSON elsewhere, unless format says otherwise.
func logger(w io.Writer, level, format string, hide func(string) string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // config has checked it
	f, isFile := w.(*os.File)
	if format == "" && isFile && term.IsTerminal(int(f.Fd())) {
		format = "text"
	}
	o := &slog.HandlerOptions{Level: l, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch v := a.Value.Any().(type) {
		case string:
			a.Value = slog.StringValue(hide(v))
		case error:
			a.Value = slog.StringValue(hide(v.Error()))
		}
		return a
	}}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
