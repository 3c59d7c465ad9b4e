package agentrun

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAConfigWithAMistakeNamesTheKeyAndTheMend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	key := func() (string, error) { return "k", nil }
	for want, change := range map[string]func(*Config){
		"agent.command is empty: name the claude CLI, such as claude":                                                            func(c *Config) { c.Command = "" },
		"the folder for agent sessions is not set":                                                                               func(c *Config) { c.Dir = "" },
		"the agent has no name or no prompt":                                                                                     func(c *Config) { c.Agent.Name = "-x" },
		`agent.model "--help" is not a model name, such as sonnet`:                                                               func(c *Config) { c.Model = "--help" },
		"agent.api_key_file and agent.oauth_token_file are both set: keep one":                                                   func(c *Config) { c.OAuthToken = key },
		"agent.live is 0: at least 1 claude process must be allowed":                                                             func(c *Config) { c.Live = 0 },
		"agent.turn_timeout is 0s: it must be longer than 0":                                                                     func(c *Config) { c.TurnTimeout = 0 },
		"agent.idle_timeout is -1s: it must be longer than 0":                                                                    func(c *Config) { c.IdleTimeout = -time.Second },
		"agent.limit.steps is 0: at least 1 step must be allowed":                                                                func(c *Config) { c.Steps = 0 },
		"agent.limit.budget_usd is 0: it must be more than 0":                                                                    func(c *Config) { c.BudgetUSD = 0 },
		"agent.env.HOME is not allowed: bgbot sets it, or the agent could read a secret in it":                                   func(c *Config) { c.Env = map[string]string{"HOME": "/"} },
		"agent.workspace " + dir + "/file is not a folder":                                                                       func(c *Config) { c.Workspace = dir + "/file" },
		"agent.workspace " + dir + " overlaps with the folder of the agent sessions " + state + ": keep them apart":              func(c *Config) { c.Workspace = dir },
		"agent.workspace cannot be read (lstat " + dir + "/none: no such file or directory): make the folder, or remove the key": func(c *Config) { c.Workspace = dir + "/none" },
	} {
		cfg := Config{
			Command: "claude", Dir: state, Agent: Agent{Name: "breakglass", Prompt: "p"}, Model: "sonnet", APIKey: key,
			Live: 1, TurnTimeout: 1, IdleTimeout: 1, Steps: 1, BudgetUSD: 1,
		}
		if _, err := New(cfg); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		_, err := New(cfg)
		sentence(t, err, want)
	}
}

func TestWhatLooksLikeAKeyIsMasked(t *testing.T) {
	t.Parallel()
	if got, want := mask("my-secret sk-ant-api03-AbC_d-9 end", "my-secret", ""), "[secret] [secret] end"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := brief("Oh: sk-ant-x1\nsecond line"), "Oh: [secret]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
