package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// validate adds every problem of c to p. It looks at files, never at the network.
func (c *Config) validate(p *problems) {
	c.VM.validate(p)
	c.Gate.validate("gate", "the Proxmox host", p)
	c.SSH.validate("ssh", "the VM", p)
	// root on the VM has its host key, and can have the agent's signature for the VM made good for a login elsewhere.
	if sameKey(c.Gate.KeyFile, c.SSH.KeyFile) {
		p.add("ssh.key_file", "%s is the same key as gate.key_file, and what signs for the VM's root could then open the Proxmox host's gate; "+
			"make a key of its own with `ssh-keygen -t ed25519 -N '' -f FILE` and put its public half on the VM", c.SSH.KeyFile)
	}
	c.Auth.validate(c.Chats(), p)
	if c.Slack.configured() {
		c.Slack.validate(p)
	}
	if c.Mattermost.configured() {
		c.Mattermost.validate(p)
	}
	c.Confirm.validate(c.Auth, c.Agent.Power, p)
	c.Agent.validate(p)
	c.Watch.validate(p)
	c.Store.validate(p)
	if c.HTTP.Listen != "" {
		checkListen("http.listen", c.HTTP.Listen, p)
	}
	oneOf("log.level", c.Log.Level, p, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, p, "", "json", "text")
}

var vmName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func (v VM) validate(p *problems) {
	switch {
	case v.Name == "pve":
		p.add("vm.name", "pve is taken: the agent reaches the power verbs by that name; choose another")
	case !vmName.MatchString(v.Name):
		p.add("vm.name", "%q is not a simple name; begin with a letter and use a-z, 0-9 and -, for it becomes an ssh alias", v.Name)
	}
	switch {
	case v.VMID == 0:
		p.add("vm.vmid", "missing; set it to the number of the VM on the Proxmox host, such as 102")
	case v.VMID < 0:
		p.add("vm.vmid", "%d is not the number of a VM; `qm list` on the Proxmox host shows it", v.VMID)
	}
}

var channelID = regexp.MustCompile(`^[CG][A-Z0-9]{6,}$`)

func (s Slack) validate(p *problems) {
	checkToken("slack.app_token", s.AppToken, "xapp-", "the app-level token (scope connections:write)", p)
	checkToken("slack.bot_token", s.BotToken, "xoxb-", "the bot user's OAuth token", p)
	switch {
	case s.Channel == "":
		p.add("slack.channel", "missing; set it to the ID of the incident channel, such as C0123456789")
	case !channelID.MatchString(s.Channel):
		p.add("slack.channel", "%q is not a channel ID; it begins with C or G and stands at the foot of the channel's details", s.Channel)
	}
	if s.APIURL != "" {
		checkURL("slack.api_url", s.APIURL, p)
		if !strings.HasSuffix(s.APIURL, "/") {
			p.add("slack.api_url", "%q must end in /", s.APIURL)
		}
		if u, err := url.Parse(s.APIURL); err == nil && u.Scheme == "http" && !net.ParseIP(u.Hostname()).IsLoopback() {
			p.add("slack.api_url", "%q would carry the tokens in the clear; write https://, or http:// with a loopback IP", s.APIURL)
		}
	}
}

// checkToken never shows the token: the wrong one may be a secret as well.
func checkToken(key string, token Secret, prefix, what string, p *problems) {
	switch {
	case !token.Given():
		p.add(key, "missing; put %s into a file of mode 0600 and give its path as %s_file", what, key)
	case prefix != "" && !strings.HasPrefix(token.Reveal(), prefix):
		p.add(key, "does not begin with %s; it must be %s", prefix, what)
	}
}

func (m Mattermost) validate(p *problems) {
	if m.URL == "" {
		p.add("mattermost.url", "missing; set it to the address of the server, such as https://chat.example.org")
	} else {
		checkURL("mattermost.url", m.URL, p)
	}
	checkToken("mattermost.token", m.Token, "", "the bot account's access token", p)
	if m.Team == "" {
		p.add("mattermost.team", "missing; set it to the team of the incident channel")
	}
	if m.Channel == "" {
		p.add("mattermost.channel", "missing; set it to the incident channel")
	}
	if m.Callbacks.URL != "" {
		checkURL("mattermost.callbacks.url", m.Callbacks.URL, p)
		checkListen("mattermost.callbacks.listen", m.Callbacks.Listen, p)
	}
}

// The words that bot, auth and agentrun know as well; a test at the root compares them.
var (
	changes   = []string{"start", "reset", "stop", "cycle"}
	confirmBy = []string{"requester", "any", "other"}
)

func (c Confirm) validate(a Auth, power string, p *problems) {
	if c.TTL < 10*time.Second || c.TTL > time.Hour {
		p.add("confirm.ttl", "%s is too short or too long to read a card and press a button; use 10s to 1h", c.TTL)
	}
	people := make(map[[2]string]bool)
	for chat, id := range a.All() {
		people[[2]string{chat, id}] = true
	}
	check := func(key, by string) {
		oneOf(key, by, p, confirmBy...)
		switch {
		case by != "other":
		case len(people) == 1:
			p.add(key, "other needs a second person, but auth lists only one; add somebody, or use requester")
		case power == "auto" && len(people) > 1:
			p.add(key, "other needs a second person, but agent.power auto lets one person's agent change the VM unasked; set agent.power to confirm or readonly")
		}
	}
	check("confirm.by", c.By)
	for _, verb := range slices.Sorted(maps.Keys(c.Verbs)) {
		key := "confirm.verbs." + verb
		if !slices.Contains(changes, verb) {
			p.add(key, "%q is not a verb that changes the VM; use one of: %s", verb, strings.Join(changes, " "))
			continue
		}
		check(key, c.Verbs[verb])
	}
}

var modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*$`)

var envVar = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (a Agent) validate(p *problems) {
	if a.Command == "" {
		p.add("agent.command", "empty; set it to the claude program, such as claude or /usr/local/bin/claude")
	}
	switch {
	case a.Model == "":
		p.add("agent.model", "empty; set it to a model, such as sonnet")
	case !modelName.MatchString(a.Model):
		p.add("agent.model", "%q is not the name of a model, such as sonnet", a.Model)
	}
	oneOf("agent.power", a.Power, p, "auto", "confirm", "readonly")
	positive("agent.turn_timeout", a.TurnTimeout, "30m", p)
	positive("agent.idle_timeout", a.IdleTimeout, "15m", p)
	positive("agent.live", a.Live, "4", p)
	positive("agent.limit.steps", a.Limit.Steps, "60", p)
	positive("agent.limit.budget_usd", a.Limit.BudgetUSD, "5", p)
	if a.APIKey.Given() && a.OAuthToken.Given() {
		p.add("agent.oauth_token", "given together with agent.api_key; keep one")
	}
	if a.Workspace != "" {
		checkFolder("agent.workspace", a.Workspace, p)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Env)) {
		checkVariable(name, p)
	}
	if a.Runner != "" {
		p.add("agent.runner", "%q is not known to this version; leave it empty, claude then runs here", a.Runner)
	}
}

// checkVariable refuses the variables that would hand a credential to every command of the agent: its shell inherits
// the whole environment of the CLI (measured with CLI 2.1.330).
func checkVariable(name string, p *problems) {
	key := "agent.env." + name
	switch name {
	case "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN":
		p.add(key, "every command of the agent could read it; give agent.api_key_file instead")
	case "CLAUDE_CODE_OAUTH_TOKEN":
		p.add(key, "every command of the agent could read it; give agent.oauth_token_file instead")
	default:
		if !envVar.MatchString(name) {
			p.add(key, "%q is not the name of a variable", name)
		}
	}
}

func (w Watch) validate(p *problems) {
	if w.Interval != 0 && w.Interval < time.Second {
		p.add("watch.interval", "%s is too short; use 1s or more, or 0 for never", w.Interval)
	}
	positive("watch.failures", w.Failures, "3", p)
}

// validate shows nothing of the URL, which may hold a password.
func (s Store) validate(p *problems) {
	at := s.URL.Reveal()
	if path, ok := strings.CutPrefix(at, "sqlite://"); ok {
		if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") {
			p.add("store.url", "sqlite:// needs the absolute path of a file, such as sqlite:///var/lib/bgbot/bgbot.db")
		}
		return
	}
	u, err := url.Parse(at)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Host == "" {
		p.add("store.url", "neither sqlite:///path/of/a/file nor postgres://user@host/database")
	}
}

func oneOf(key, value string, p *problems, words ...string) {
	if slices.Contains(words, value) {
		return
	}
	known := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" })
	p.add(key, "%q is not known; use one of: %s", value, strings.Join(known, " "))
}

func positive[N int | float64 | time.Duration](key string, n N, example string, p *problems) {
	if n <= 0 {
		p.add(key, "%v must be more than nothing, such as %s", n, example)
	}
}

func checkFolder(key, path string, p *problems) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		p.add(key, "%s", unreadable(path, err))
	case !info.IsDir():
		p.add(key, "%s is not a folder", path)
	}
}

func checkURL(key, value string, p *problems) {
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		p.add(key, "%q is not an address such as https://chat.example.org", value)
		return
	}
	if u.User != nil {
		p.add(key, "must not hold a user or password; there are keys of their own for that")
	}
}

func checkListen(key, value string, p *problems) {
	if err := listenable(value); err != nil {
		p.add(key, "%q %s; write IP:port, or :port for all addresses", value, err)
	}
}

func listenable(value string) error {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return fmt.Errorf("is not an address and a port")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("has no port from 0 to 65535")
	}
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("names no IP")
	}
	return nil
}
