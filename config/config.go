// Package config reads the settings once, strictly, into one struct. It owns the names of the keys, their defaults,
// what makes a value acceptable and the sentence that says how to mend one that is not. It is the only package that
// knows viper. Nobody else reads the environment: main turns a Config into the arguments of constructors.
package config

import (
	"iter"
	"time"
)

// Config is everything that can be set. Every key also has an environment variable: BGBOT_ and the path in capitals,
// with _ for the dots. The tag default is a key's value when nobody set it; on a section
// it overrides the default of one key inside.
type Config struct {
	VM         VM         `mapstructure:"vm"`
	Gate       Host       `mapstructure:"gate" default:"user=root"`
	SSH        Host       `mapstructure:"ssh" default:"user=breakglass"`
	Auth       Auth       `mapstructure:"auth"`
	Slack      Slack      `mapstructure:"slack"`
	Mattermost Mattermost `mapstructure:"mattermost"`
	Confirm    Confirm    `mapstructure:"confirm"`
	Agent      Agent      `mapstructure:"agent"`
	Watch      Watch      `mapstructure:"watch"`
	Mirror     bool       `mapstructure:"mirror" default:"on"`
	Store      Store      `mapstructure:"store"`
	HTTP       HTTP       `mapstructure:"http"`
	Log        Log        `mapstructure:"log"`

	given  map[string]bool // the keys that somebody set
	holder string          // see Holder
}

// VM is the machine that is repaired.
type VM struct {
	Name string `mapstructure:"name" default:"devvm"` // also the agent's ssh alias for it
	VMID int    `mapstructure:"vmid" default:"0"`
}

// Host is the way into a machine by SSH: of the Proxmox host that the gate runs on, or of the VM itself.
type Host struct {
	Address string `mapstructure:"address" default:""` // IP:port; no names, there may be no DNS in an incident
	User    string `mapstructure:"user" default:""`
	KeyFile string `mapstructure:"key_file" default:""`
	HostKey string `mapstructure:"host_key" default:""` // "ssh-ed25519 AAAA…"; or
	HostCA  string `mapstructure:"host_ca" default:""`  // the key that signs the host's certificate
}

// Auth lists who may act, by the ID that each chat knows them by.
type Auth struct {
	Slack      []string `mapstructure:"slack" default:""`
	Mattermost []string `mapstructure:"mattermost" default:""`
	Console    []string `mapstructure:"console" default:""` // users of the operating system
}

// All yields every allowed person as chat and ID.
func (a Auth) All() iter.Seq2[string, string] {
	return func(yield func(chat, id string) bool) {
		for _, chat := range []string{"slack", "mattermost", "console"} {
			for _, id := range a.in(chat) {
				if !yield(chat, id) {
					return
				}
			}
		}
	}
}

func (a Auth) in(chat string) []string {
	switch chat {
	case "slack":
		return a.Slack
	case "mattermost":
		return a.Mattermost
	default:
		return a.Console
	}
}

// Slack is the connection to Slack. It is configured when a token or the channel is given.
type Slack struct {
	AppToken     Secret `mapstructure:"app_token" default:""`
	AppTokenFile string `mapstructure:"app_token_file" default:""`
	BotToken     Secret `mapstructure:"bot_token" default:""`
	BotTokenFile string `mapstructure:"bot_token_file" default:""`
	Channel      string `mapstructure:"channel" default:""`
	APIURL       string `mapstructure:"api_url" default:""` // "" is Slack itself; ends in /
}

func (s Slack) configured() bool { return s.AppToken.Given() || s.BotToken.Given() || s.Channel != "" }

// Mattermost is the connection to Mattermost. It is configured when url, token, team or channel is given.
type Mattermost struct {
	URL              string    `mapstructure:"url" default:""`
	Token            Secret    `mapstructure:"token" default:""`
	TokenFile        string    `mapstructure:"token_file" default:""`
	Team             string    `mapstructure:"team" default:""`
	Channel          string    `mapstructure:"channel" default:""`
	CommandToken     Secret    `mapstructure:"command_token" default:""`
	CommandTokenFile string    `mapstructure:"command_token_file" default:""`
	Callbacks        Callbacks `mapstructure:"callbacks"`
}

func (m Mattermost) configured() bool {
	return m.URL != "" || m.Token.Given() || m.Team != "" || m.Channel != ""
}

// Callbacks is where Mattermost reaches the bot for buttons and slash commands; without URL there are none, and typed
// confirmations do the same.
type Callbacks struct {
	Listen string `mapstructure:"listen" default:":8065"`
	URL    string `mapstructure:"url" default:""`
}

// Confirm says how a change of the VM is confirmed.
type Confirm struct {
	TTL   time.Duration     `mapstructure:"ttl" default:"2m"`
	By    string            `mapstructure:"by" default:"requester"` // requester, any, other
	Verbs map[string]string `mapstructure:"verbs" default:""`       // verb to by, where it differs
}

// Agent says how claude runs.
type Agent struct {
	Command        string            `mapstructure:"command" default:"claude"`
	Model          string            `mapstructure:"model" default:"sonnet"`
	Power          string            `mapstructure:"power" default:"auto"` // auto, confirm, readonly
	TurnTimeout    time.Duration     `mapstructure:"turn_timeout" default:"30m"`
	IdleTimeout    time.Duration     `mapstructure:"idle_timeout" default:"15m"`
	Live           int               `mapstructure:"live" default:"4"` // claude processes at once
	Limit          Limit             `mapstructure:"limit"`
	APIKey         Secret            `mapstructure:"api_key" default:""`
	APIKeyFile     string            `mapstructure:"api_key_file" default:""`
	OAuthToken     Secret            `mapstructure:"oauth_token" default:""`
	OAuthTokenFile string            `mapstructure:"oauth_token_file" default:""`
	Workspace      string            `mapstructure:"workspace" default:""` // folder of runbooks that the agent may read
	Env            map[string]string `mapstructure:"env" default:""`       // more variables for claude and its shell
	Runner         string            `mapstructure:"runner" default:""`    // where claude runs; "" is here
}

// Limit bounds one turn.
type Limit struct {
	Steps     int     `mapstructure:"steps" default:"60"`
	BudgetUSD float64 `mapstructure:"budget_usd" default:"5"`
}

// Watch says how often the VM is looked at unasked; an Interval of 0 is never.
type Watch struct {
	Interval time.Duration `mapstructure:"interval" default:"30s"`
	Failures int           `mapstructure:"failures" default:"3"`
}

// Store is where the bot keeps what must survive a restart. The URL may hold a password.
type Store struct {
	URL     Secret `mapstructure:"url" default:"sqlite:///var/lib/bgbot/bgbot.db"`
	URLFile string `mapstructure:"url_file" default:""`
}

// HTTP is the listener for health and metrics; an empty Listen is none.
type HTTP struct {
	Listen string `mapstructure:"listen" default:"127.0.0.1:9102"`
}

// Log is what is logged, and how. An empty Format leaves the choice to the command, which knows its terminal.
type Log struct {
	Level  string `mapstructure:"level" default:"info"` // debug, info, warn, error
	Format string `mapstructure:"format" default:""`    // json, text
}

// Load reads the YAML file at path, then environ, which wins. An empty path means environment and defaults only; an
// empty variable counts as unset. Any error is an [*Invalid], which lists everything that is wrong at once.
func Load(path string, environ []string) (*Config, error) {
	cfg, _, err := LoadWithout(path, environ)
	return cfg, err
}

// LoadWithout is Load for the ways in that must work when other things do not: what is wrong with a key that begins with
// one of spare is no error but comes back in ignored, a line each, and the key's value is not to be used.
func LoadWithout(path string, environ []string, spare ...string) (cfg *Config, ignored []string, err error) {
	cfg = new(Config)
	p := &problems{path: path}
	given := readFile(path, p)
	if err := p.err(); err != nil && given == nil {
		return nil, nil, err
	}
	fromEnv := readEnviron(environ, p)
	decode(cfg, given, fromEnv, p)
	cfg.given = make(map[string]bool)
	for _, keys := range []map[string]any{given, fromEnv} {
		for key := range keys {
			cfg.given[key] = true
		}
	}
	resolveSecrets(cfg, p)
	checkOwnFile(cfg, path, given, p)
	cfg.validate(p)
	ignored = p.spare(spare)
	if err := p.err(); err != nil {
		return nil, ignored, err
	}
	return cfg, ignored, nil
}

// Chats names the chat services that are configured.
func (c *Config) Chats() []string {
	var chats []string
	if c.Slack.configured() {
		chats = append(chats, "slack")
	}
	if c.Mattermost.configured() {
		chats = append(chats, "mattermost")
	}
	return chats
}

// NotYet lists what somebody has set and this build does nothing with: the key, and what is missing.
func (c *Config) NotYet() iter.Seq2[string, string] {
	return func(yield func(key, missing string) bool) {
		for _, n := range []struct {
			key     string
			is      bool
			missing string
		}{
			{"auth.mattermost", len(c.Auth.Mattermost) > 0, "nobody comes in by Mattermost"},
			{"http.listen", c.HTTP.Listen != "", "nothing listens there"},
			{"mirror", c.Mirror, "nothing is announced in a second chat"},
			{"watch.interval", c.Watch.Interval > 0, "nobody looks at the VM unasked"},
			{"watch.failures", c.Watch.Interval > 0 && !c.given["watch.interval"], "nobody looks at the VM unasked"},
		} {
			if c.given[n.key] && n.is && !yield(n.key, n.missing) {
				return
			}
		}
	}
}

// RequireChat is for the command that serves a chat: it returns an [*Invalid] if none is configured.
func (c *Config) RequireChat() error {
	if len(c.Chats()) > 0 {
		return nil
	}
	p := &problems{}
	p.add("slack", "no chat is configured; set slack.app_token_file, slack.bot_token_file and slack.channel, or run `bgbot console`")
	return p.err()
}
