package agentrun

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// tools is all that the agent has. Grep and Glob appear only when --tools names them (measured with CLI 2.1.330).
func tools() []string { return []string{"Bash", "Read", "Grep", "Glob"} }

// markKey is the variable by which the processes of a session are known.
const markKey = "BGBOT_TURN"

// reserved may not be set by agent.env: they are ours, or secrets that every command of the agent could read.
var reserved = map[string]bool{
	markKey: true, "HOME": true, "CLAUDE_CONFIG_DIR": true, "ANTHROPIC_BASE_URL": true,
	"ANTHROPIC_API_KEY": true, "ANTHROPIC_AUTH_TOKEN": true, "CLAUDE_CODE_OAUTH_TOKEN": true,
	keyVariable: true, tokenVariable: true,
	"CLAUDE_CODE_DISABLE_FILE_MENTIONS": true, "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": true,
	"CLAUDE_CODE_SHELL": true, "CLAUDE_CODE_SHELL_PREFIX": true, "BASH_ENV": true, "ENV": true,
}

// The CLI drains and closes the descriptor, so the secret is in no environment (undocumented; measured with CLI 2.1.330).
const (
	keyVariable   = "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR"
	tokenVariable = "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR" //nolint:gosec // the name of a variable
)

// place is the folder of one session.
type place struct{ root string }

func (c *Config) place(session string) place { return place{filepath.Join(c.Dir, "sessions", session)} }

func (p place) work() string   { return filepath.Join(p.root, "work") } // the fixed cwd
func (p place) home() string   { return filepath.Join(p.root, "home") } // empty: the shell sources what is in it
func (p place) tmp() string    { return filepath.Join(p.root, "tmp") }
func (p place) agents() string { return filepath.Join(p.root, "agents.json") }
func (p place) shell() string  { return filepath.Join(p.root, "cage", shellName) }
func (p place) rules() string  { return filepath.Join(p.root, "cage", rulesName) }

// rulesName is the file with the rules of the cage, beside the shell.
const rulesName = "rules.json"

// transcripts is where the CLI keeps the conversations of all sessions.
func (c *Config) transcripts() string { return filepath.Join(c.Dir, "claude") }

// furnish makes the folders, empties the home and the temporary folder, and writes the agent anew: on a kernel that knows no
// cage the agent's own commands could have changed them.
func (c *Config) furnish(p place) error {
	if err := os.RemoveAll(p.home()); err != nil {
		return err
	}
	if err := os.RemoveAll(p.tmp()); err != nil { // a command can make what cannot be removed; that must not end its thread
		c.Log.Warn("the temporary files of a session stay", "path", p.tmp(), "error", err)
	}
	for _, dir := range []string{c.Dir, p.root, p.work(), p.home(), p.tmp(), c.transcripts()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := os.Chmod(c.Dir, 0o700); err != nil { //nolint:gosec // a folder needs its x bit; nobody else may enter
		return err
	}
	data, err := json.Marshal(map[string]any{c.Agent.Name: map[string]any{
		"description": c.Agent.Description, "prompt": c.Agent.Prompt, "tools": tools(),
	}})
	if err != nil {
		return err
	}
	next := p.agents() + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, p.agents())
}

// arguments is the start line. It never carries a prompt: arguments can be read by everybody, the agent too.
func (c *Config) arguments(p place, session, model string, resume bool) []string {
	args := []string{
		"-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose", "--include-partial-messages",
		"--model", model, "--agents", p.agents(), "--agent", c.Agent.Name, "--tools", strings.Join(tools(), ","),
		"--restricted", "--strict-mcp-config", "--disable-slash-commands", "--permission-prompt-tool", "stdio",
		// A thread can be resumed for as long as its folder stays. Never 0: that stops the writing of transcripts.
		"--settings", fmt.Sprintf(`{"permissions":{"ask":["Bash"]},"cleanupPeriodDays":%d}`, keptDays),
		// Without it a resumed session keeps the system prompt of its first day.
		"--system-prompt-snapshot", "off",
		"--max-turns", strconv.Itoa(c.Steps), "--max-budget-usd", strconv.FormatFloat(c.BudgetUSD, 'f', -1, 64),
	}
	if c.Workspace != "" {
		args = append(args, "--add-dir", c.Workspace)
	}
	if resume {
		return append(args, "--resume", session)
	}
	return append(args, "--session-id", session)
}

// environment is built from nothing: the agent's commands inherit all of it.
func (c *Config) environment(p place, mark string, more map[string]string) []string {
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG": "C.UTF-8",

		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
		"CLAUDE_CODE_DISABLE_AUTO_MEMORY":          "1", // it is shared by all sessions of a folder
		"CLAUDE_CODE_DISABLE_BACKGROUND_TASKS":     "1", // a time-out would else move the command to the background
		"CLAUDE_CODE_DISABLE_FILE_MENTIONS":        "1", // @/etc/passwd in a message would be read without a question
		"CLAUDE_CODE_MAX_RETRIES":                  "4", // 9 s until a refused connection is an error, not 181 s
		"CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS":       "60000",
		"API_TIMEOUT_MS":                           "120000", // until the headers of one try, not 600 s
		"BASH_DEFAULT_TIMEOUT_MS":                  "600000", // above the longest power verb with its looking for SSH
		"BASH_MAX_TIMEOUT_MS":                      "600000",
	}
	maps.Copy(env, c.Env)
	maps.Copy(env, more)
	env[markKey] = mark
	env["HOME"], env["CLAUDE_CONFIG_DIR"] = p.home(), c.transcripts()
	env["CLAUDE_CODE_SHELL"] = p.shell()
	env["TMPDIR"], env["CLAUDE_CODE_TMPDIR"] = p.tmp(), p.tmp()
	if c.BaseURL != "" {
		env["ANTHROPIC_BASE_URL"] = c.BaseURL
	}
	switch {
	case c.APIKey != nil:
		env[keyVariable] = "3"
	case c.OAuthToken != nil:
		env[tokenVariable] = "3"
	}
	list := make([]string, 0, len(env))
	for key, value := range env {
		list = append(list, key+"="+value)
	}
	slices.Sort(list)
	return list
}

// secret reads the key or the token; it is empty if the CLI gets none.
func (c *Config) secret() (string, error) {
	read, key := c.APIKey, "agent.api_key_file"
	if c.OAuthToken != nil {
		read, key = c.OAuthToken, "agent.oauth_token_file"
	}
	if read == nil {
		return "", nil
	}
	text, err := read()
	if err != nil {
		return "", fmt.Errorf("%s cannot be read: %w", key, err)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", fmt.Errorf("%s is empty", key)
	}
	return text, nil
}
