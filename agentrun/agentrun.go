// Package agentrun runs the claude CLI: one long-lived process for each session, and one [Turn] for each prompt. It owns
// the start line and the environment, the decoding of what the CLI says into [Event]s, the permission [Gate] that every
// command passes, the waiting line for a free process, and stopping a turn with proof that nothing of it is left. It
// does not know chats, people or policy: who may ask, what may run and how a turn looks is the business of bot.
package agentrun

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pinned is the version of the claude CLI that this package was tested with. Releases come almost daily and change
// behaviour; other versions are refused.
const Pinned = "2.1.330"

// Config says how the CLI is run. The keys in the errors of [New] are those of bgbot.yaml.
type Config struct {
	Command string // the CLI: a name on the PATH or a path
	Version string // what it must be; Pinned if empty
	Dir     string // the private folder for sessions and transcripts; made with mode 0700
	Agent   Agent
	Model   string // for prompts that name none
	BaseURL string // the model's API; the CLI's default if empty

	// APIKey and OAuthToken are read at each start of the CLI and handed over by file descriptor, never by argument or
	// environment. At most one is set.
	APIKey, OAuthToken func() (string, error)

	Env map[string]string // more environment for the CLI and its commands; it is readable by the agent

	// Prepare makes what one process needs, such as its ssh-agent, and names it in env, PATH included. release is
	// called once, after the process and all its children have ended.
	Prepare func(session, dir string) (env map[string]string, release func(), err error)

	Workspace string // a folder of runbooks that the agent may read; none if empty

	Readable []string // more files and folders that commands may read and execute; see [Runner.Caged]
	Private  []string // files that they must never reach, such as keys; they are not opened, only looked for among the readable

	Live        int           // processes at once; more turns wait in line
	TurnTimeout time.Duration // a turn longer than this is stopped
	IdleTimeout time.Duration // a process idle for this long is closed; the next prompt resumes its session
	StallNotice time.Duration // silence after which a turn says so
	Steps       int           // of one turn
	BudgetUSD   float64       // of one process
	Log         *slog.Logger
}

// Agent is who the CLI is told to be.
type Agent struct {
	Name        string
	Description string
	Prompt      string // the system prompt, which replaces the CLI's own
}

// Question is a command that the agent wants to run.
type Question struct {
	Session string
	ID      string // of the tool call, as in [Tool]
	Tool    string // Bash: the CLI confines the other tools itself
	Command string
	Purpose string          // the agent's own description, may be empty
	Input   json.RawMessage // the whole input, as the agent wrote it
}

// Answer is what a [Gate] says. The zero Answer denies.
type Answer struct {
	Allow   bool
	Message string // what the agent reads when denied
}

// Gate decides whether a command runs. It may take as long as it likes, but must return soon after ctx is done, which
// happens when the question is withdrawn or the turn ends; its answer is then void. It is called from many goroutines at
// once. A nil Gate denies.
type Gate func(ctx context.Context, q Question) Answer

// Prompt is one message of a person.
type Prompt struct {
	Session string // a UUID; one conversation
	Resume  bool   // the session has run before, perhaps in an earlier life of the bot
	Model   string // Config.Model if empty
	ID      string // of the message; the same ID is never run twice in a session
	Text    string
}

var (
	modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*$`)
	agentName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
)

// validate returns the config with its defaults, or an error that names the key and the mend.
func (c Config) validate() (Config, error) {
	if c.Version == "" {
		c.Version = Pinned
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Command == "":
		return c, reject("agent.command is empty: name the claude CLI, such as claude")
	case c.Dir == "":
		return c, reject("the folder for agent sessions is not set")
	case !agentName.MatchString(c.Agent.Name) || c.Agent.Prompt == "":
		return c, reject("the agent has no name or no prompt")
	case !modelName.MatchString(c.Model):
		return c, reject("agent.model %q is not a model name, such as sonnet", c.Model)
	case c.APIKey != nil && c.OAuthToken != nil:
		return c, reject("agent.api_key_file and agent.oauth_token_file are both set: keep one")
	case c.Live < 1:
		return c, reject("agent.live is %d: at least 1 claude process must be allowed", c.Live)
	case c.TurnTimeout <= 0:
		return c, reject("agent.turn_timeout is %s: it must be longer than 0", c.TurnTimeout)
	case c.IdleTimeout <= 0:
		return c, reject("agent.idle_timeout is %s: it must be longer than 0", c.IdleTimeout)
	case c.Steps < 1:
		return c, reject("agent.limit.steps is %d: at least 1 step must be allowed", c.Steps)
	case c.BudgetUSD <= 0:
		return c, reject("agent.limit.budget_usd is %g: it must be more than 0", c.BudgetUSD)
	}
	if c.StallNotice <= 0 {
		c.StallNotice = time.Minute
	}
	for key := range c.Env {
		if reserved[key] {
			return c, reject("agent.env.%s is not allowed: bgbot sets it, or the agent could read a secret in it", key)
		}
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, reject("the folder %s for agent sessions has no absolute path: %v", c.Dir, err)
	}
	c.Dir = dir
	return c, c.checkWorkspace()
}

// checkWorkspace refuses a workspace that is not there or that the agent's own folder could reach. Links inside that
// lead outside need no check: the CLI does not follow them (measured with CLI 2.1.330; a contract test holds it).
func (c *Config) checkWorkspace() error {
	if c.Workspace == "" {
		return nil
	}
	path, err := filepath.Abs(c.Workspace)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return reject("agent.workspace cannot be read (%v): make the folder, or remove the key", err)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return reject("agent.workspace %s is not a folder", path)
	}
	if within(path, c.Dir) || within(c.Dir, path) {
		return reject("agent.workspace %s overlaps with the folder of the agent sessions %s: keep them apart", path, c.Dir)
	}
	if unix.Access(path, unix.W_OK) == nil {
		c.Log.Warn("the agent's commands can change the runbooks, because bgbot's user may write there", "workspace", path)
	}
	c.Workspace = path
	return nil
}

// within says whether path is dir or below it; both are absolute and clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func reject(format string, args ...any) error {
	return &Ended{Reason: fmt.Sprintf(format, args...)}
}
