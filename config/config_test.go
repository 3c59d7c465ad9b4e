package config

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// lab is a folder with good key files, and what a good configuration says about them.
type lab struct {
	dir       string
	publicKey string
	good      map[string]string // path of the key to value
}

func newLab(t *testing.T) lab {
	t.Helper()
	dir := t.TempDir()
	private, public := newKey(t)
	vmPrivate, _ := newKey(t)
	l := lab{dir: dir, publicKey: public}
	l.write(t, "key", private, 0o600)
	l.write(t, "vm_key", vmPrivate, 0o600)
	l.good = map[string]string{
		"vm.vmid":      "102",
		"gate.address": "192.168.1.127:22", "gate.key_file": l.path("key"), "gate.host_key": l.publicKey,
		"ssh.address": "10.0.10.10:22", "ssh.key_file": l.path("vm_key"), "ssh.host_key": l.publicKey,
		"auth.console": "alice",
	}
	return l
}

// newKey makes a pair, each half as a file of ssh has it.
func newKey(t *testing.T) (private, public string) {
	t.Helper()
	half, whole, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(whole, "test")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(half)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func (l lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l lab) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(l.path(name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.path(name), mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

// environ is the good configuration with changes, as variables. $DIR and $KEY stand for the lab's folder and key.
func (l lab) environ(changes map[string]string) []string {
	all := maps.Clone(l.good)
	for path, value := range changes {
		all[path] = l.expand(value)
	}
	var environ []string
	for path, value := range all {
		environ = append(environ, envName(path)+"="+value)
	}
	return environ
}

func (l lab) expand(s string) string {
	return strings.NewReplacer("$DIR", l.dir, "$KEY", l.publicKey).Replace(s)
}

func TestEveryKeyHasADefault(t *testing.T) {
	t.Parallel()
	var walk func(prefix string, section reflect.Type)
	walk = func(prefix string, section reflect.Type) {
		for f := range section.Fields() {
			name := f.Tag.Get("mapstructure")
			if !f.IsExported() {
				continue
			}
			if name == "" {
				t.Errorf("%s%s has no tag mapstructure", prefix, f.Name)
			}
			if isSection(f.Type) {
				walk(prefix+name+".", f.Type)
				continue
			}
			if _, ok := f.Tag.Lookup("default"); !ok {
				t.Errorf("%s%s has no tag default: a variable alone would not set it", prefix, name)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}

func TestEverySecretCanBeAFile(t *testing.T) {
	t.Parallel()
	var paths, secrets []string
	for _, f := range fieldsOf(new(Config)) {
		paths = append(paths, f.path)
		if f.value.Type() == reflect.TypeFor[Secret]() {
			secrets = append(secrets, f.path)
		}
	}
	if len(secrets) == 0 {
		t.Fatal("no secrets found")
	}
	for _, s := range secrets {
		if !slices.Contains(paths, s+"_file") {
			t.Errorf("%s has no %s_file", s, s)
		}
	}
}

func TestDefaultsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	cfg, err := Load("", newLab(t).environ(nil))
	if err != nil {
		t.Fatal(err)
	}
	type defaults struct {
		name, gateUser, sshUser, by, command, model, power, store, listen, level, format string
		ttl, turn, idle, interval                                                        time.Duration
		live, steps, failures                                                            int
		budget                                                                           float64
		mirror                                                                           bool
	}
	got := defaults{
		cfg.VM.Name, cfg.Gate.User, cfg.SSH.User, cfg.Confirm.By, cfg.Agent.Command, cfg.Agent.Model, cfg.Agent.Power,
		cfg.Store.URL.Reveal(), cfg.HTTP.Listen, cfg.Log.Level, cfg.Log.Format,
		cfg.Confirm.TTL, cfg.Agent.TurnTimeout, cfg.Agent.IdleTimeout, cfg.Watch.Interval,
		cfg.Agent.Live, cfg.Agent.Limit.Steps, cfg.Watch.Failures, cfg.Agent.Limit.BudgetUSD, cfg.Mirror,
	}
	want := defaults{
		"devvm", "root", "breakglass", "requester", "claude", "sonnet", "auto",
		"sqlite:///var/lib/bgbot/bgbot.db", "127.0.0.1:9102", "info", "",
		2 * time.Minute, 30 * time.Minute, 15 * time.Minute, 30 * time.Second,
		4, 60, 3, 5, true,
	}
	if got != want {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestEveryKeyIsTakenFromTheEnvironment(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	changes := map[string]string{
		"auth.console": "alice, bob", "agent.env": "LANG=C, HTTPS_PROXY=http://10.0.0.1:3128", "confirm.verbs": "cycle=other,stop=any",
		"agent.power": "confirm", "mirror": "off", "agent.limit.budget_usd": "2.5", "confirm.ttl": "90s", "agent.live": "2", "slack.bot_token": "",
	}
	cfg, err := Load("", append(l.environ(changes), "PATH=/bin", "BGBOT_TURN=1", "BGBOT_HTTP_SERVICE_HOST=10.0.0.1", "BGBOT_HTTP_PORT_9102_TCP=x", "BGBOT_PORT=x"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"alice", "bob"}; !slices.Equal(cfg.Auth.Console, want) {
		t.Errorf("auth.console: got %q, want %q", cfg.Auth.Console, want)
	}
	if want := map[string]string{"LANG": "C", "HTTPS_PROXY": "http://10.0.0.1:3128"}; !maps.Equal(cfg.Agent.Env, want) {
		t.Errorf("agent.env: got %q, want %q", cfg.Agent.Env, want)
	}
	if want := map[string]string{"cycle": "other", "stop": "any"}; !maps.Equal(cfg.Confirm.Verbs, want) {
		t.Errorf("confirm.verbs: got %q, want %q", cfg.Confirm.Verbs, want)
	}
	if cfg.Mirror || cfg.Agent.Limit.BudgetUSD != 2.5 || cfg.Confirm.TTL != 90*time.Second || cfg.Agent.Live != 2 {
		t.Errorf("got %v %v %v %v, want false 2.5 1m30s 2", cfg.Mirror, cfg.Agent.Limit.BudgetUSD, cfg.Confirm.TTL, cfg.Agent.Live)
	}
}

func TestTheEnvironmentWinsOverTheFile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.write(t, "bgbot.yaml", "agent: {model: opus, live: 7, env: {Https_Proxy: x}}\nauth: {console: [carol]}\n", 0o644)
	cfg, err := Load(l.path("bgbot.yaml"), l.environ(map[string]string{"agent.model": "haiku"}))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Agent.Model != "haiku" || cfg.Agent.Live != 7 || !slices.Equal(cfg.Auth.Console, []string{"alice"}) {
		t.Errorf("got %q %d %q, want haiku 7 [alice]", cfg.Agent.Model, cfg.Agent.Live, cfg.Auth.Console)
	}
	if cfg.Agent.Env["Https_Proxy"] != "x" {
		t.Errorf("agent.env lost the case of its names: %q", cfg.Agent.Env)
	}
}

func TestTheExampleLoads(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	example, err := os.ReadFile("bgbot.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fieldsOf(new(Config)) {
		key := f.path[strings.LastIndex(f.path, ".")+1:]
		key = strings.TrimSuffix(key, "_file")
		if !strings.Contains(string(example), key) {
			t.Errorf("the example does not show %s", f.path)
		}
	}
	gateKey, _ := newKey(t)
	l.write(t, "gate_key", gateKey, 0o600)
	l.write(t, "slack_app_token", "xapp-1\n", 0o600)
	l.write(t, "slack_bot_token", "xoxb-1\n", 0o600)
	l.write(t, "mattermost_token", "t\n", 0o600)
	l.write(t, "mattermost_command_token", "c\n", 0o600)
	l.write(t, "anthropic_key", "sk-1\n", 0o600)
	if err := os.Mkdir(l.path("runbooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	// What it leaves out is right as well: each line that is commented out alone, and the section that is.
	text := regexp.MustCompile(`(?m)^# (mattermost:|watch:|mirror:|http:|  +\w+:)`).ReplaceAllString(string(example), "$1")
	text = regexp.MustCompile(`(?m)^( +)# (host_key|workspace|mattermost|runner):`).ReplaceAllString(text, "$1$2:")
	text = strings.NewReplacer("/etc/bgbot", l.dir, "ssh-ed25519 AAAA…", l.publicKey).Replace(text)
	l.write(t, "bgbot.yaml", text, 0o644)
	cfg, err := Load(l.path("bgbot.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Chats(); !slices.Equal(got, []string{"slack", "mattermost"}) {
		t.Errorf("chats: got %q", got)
	}
	if got := cfg.Slack.AppToken.Reveal(); got != "xapp-1" {
		t.Errorf("slack.app_token from its file: got %q", got)
	}
	if err := cfg.RequireChat(); err != nil {
		t.Error(err)
	}
	var people []string
	for chat, id := range cfg.Auth.All() {
		people = append(people, chat+":"+id)
	}
	notYet := slices.Sorted(func(yield func(string) bool) { cfg.NotYet()(func(key, _ string) bool { return yield(key) }) })
	if want := []string{"auth.mattermost", "http.listen", "mirror", "watch.interval"}; !slices.Equal(notYet, want) {
		t.Errorf("not in this build: got %q, want %q", notYet, want)
	}
	if want := []string{"slack:U0123456789", "mattermost:abcdefghijklmnopqrstuvwxyz", "console:alice"}; !slices.Equal(people, want) {
		t.Errorf("people: got %q, want %q", people, want)
	}
}

func TestOnlyWhatSomebodyHasSetIsNotYetThere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for key, change := range map[string]map[string]string{
		"":               {"watch.interval": "0", "mirror": "off"},
		"mirror":         {"mirror": "on"},
		"watch.failures": {"watch.failures": "5"},
		"http.listen":    {"http.listen": "127.0.0.1:9102"},
	} {
		cfg, err := Load("", l.environ(change))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for k := range cfg.NotYet() {
			got += k
		}
		if got != key {
			t.Errorf("%v: got %q, want %q", change, got, key)
		}
	}
}

func TestServingWithoutAChatIsRefused(t *testing.T) {
	t.Parallel()
	cfg, err := Load("", newLab(t).environ(nil))
	if err != nil {
		t.Fatal(err)
	}
	invalid, ok := errors.AsType[*Invalid](cfg.RequireChat())
	if !ok {
		t.Fatal("want *Invalid")
	}
	want := "The configuration has a problem:\n" +
		"  slack: no chat is configured; set slack.app_token_file, slack.bot_token_file and slack.channel, or run `bgbot console`"
	if got := invalid.UserMessage(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTheFileThatHoldsASecretIsKnown(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.write(t, "token", "sk-ant-0123456789", 0o600)
	for text, want := range map[string]string{
		"agent: {api_key: sk-ant-0123456789}":          l.path("bgbot.yaml"),
		"agent: {api_key_file: $DIR/token}":            "",
		"store: {url: sqlite:///var/lib/bgbot/bot.db}": "",
	} {
		l.write(t, "bgbot.yaml", l.expand(text), 0o600)
		cfg, err := Load(l.path("bgbot.yaml"), l.environ(nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Holder(); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
