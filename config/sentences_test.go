package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// A change of one or two keys of a good configuration, and the words that the operator then reads. $DIR is a folder
// with good and bad files, $KEY a good public key.
var sentences = []struct {
	story  string
	change map[string]string
	want   []string
}{
	{"vm without a number", map[string]string{"vm.vmid": ""}, []string{`vm.vmid: missing; set it to the number of the VM on the Proxmox host, such as 102`}},
	{"vm with a negative number", map[string]string{"vm.vmid": "-1"}, []string{"vm.vmid: -1 is not the number of a VM; `qm list` on the Proxmox host shows it"}},
	{"vm with a number in words", map[string]string{"vm.vmid": "one"}, []string{`vm.vmid: "one" is not a whole number`}},
	{"vm with a fraction", map[string]string{"vm.vmid": "102.7"}, []string{`vm.vmid: "102.7" is not a whole number`}},
	{"vm name that is no ssh alias", map[string]string{"vm.name": "dev vm"}, []string{`vm.name: "dev vm" is not a simple name; begin with a letter and use a-z, 0-9 and -, for it becomes an ssh alias`}},
	{"vm name that is an option", map[string]string{"vm.name": "-oProxyCommand"}, []string{`vm.name: "-oProxyCommand" is not a simple name; begin with a letter and use a-z, 0-9 and -, for it becomes an ssh alias`}},
	{"vm name that the relay has", map[string]string{"vm.name": "pve"}, []string{`vm.name: pve is taken: the agent reaches the power verbs by that name; choose another`}},

	{"no address", map[string]string{"gate.address": ""}, []string{`gate.address: missing; set it to the IP and port of the Proxmox host, such as 192.168.1.127:22`}},
	{"no address of the VM", map[string]string{"ssh.address": ""}, []string{`ssh.address: missing; set it to the IP and port of the VM, such as 10.0.10.10:22`}},
	{"no address and no host key", map[string]string{"ssh.address": "", "ssh.host_key": ""}, []string{
		`ssh.address: missing; set it to the IP and port of the VM, such as 10.0.10.10:22`,
		"ssh.host_key: missing; run `ssh-keyscan -t ed25519 -p PORT IP` on a machine you trust, compare it with /etc/ssh/ssh_host_ed25519_key.pub on the VM, and paste it from \"ssh-ed25519\" on",
	}},
	{"a name", map[string]string{"gate.address": "pve.example.org:22"}, []string{`gate.address: "pve.example.org:22" is a name; give the IP, for there may be no DNS in an incident`}},
	{"localhost", map[string]string{"ssh.address": "localhost:22"}, []string{`ssh.address: "localhost:22" is a name; give the IP, for there may be no DNS in an incident`}},
	{"no port", map[string]string{"ssh.address": "10.0.10.10"}, []string{`ssh.address: "10.0.10.10" has no port; write 10.0.10.10:22`}},
	{"no port, IPv6", map[string]string{"ssh.address": "fd00::1"}, []string{`ssh.address: "fd00::1" has no port; write [fd00::1]:22`}},
	{"port 0", map[string]string{"ssh.address": "10.0.10.10:0"}, []string{`ssh.address: "10.0.10.10:0" is no address that one can connect to; write IP:port`}},
	{"port too big", map[string]string{"ssh.address": "10.0.10.10:70000"}, []string{`ssh.address: "10.0.10.10:70000" is not IP:port, such as 192.168.1.127:22`}},
	{"a URL", map[string]string{"ssh.address": "ssh://10.0.10.10"}, []string{`ssh.address: "ssh://10.0.10.10" is not IP:port, such as 192.168.1.127:22`}},
	{"user that is an option", map[string]string{"gate.user": "-oX"}, []string{`gate.user: "-oX" is not the name of a user`}},

	{"no key file", map[string]string{"gate.key_file": ""}, []string{"gate.key_file: missing; make a key with `ssh-keygen -t ed25519 -N '' -f FILE` and give its path"}},
	{"key file not there", map[string]string{"gate.key_file": "$DIR/none"}, []string{`gate.key_file: $DIR/none does not exist`}},
	{"key file of the world", map[string]string{"gate.key_file": "$DIR/world_key"}, []string{"gate.key_file: $DIR/world_key is open to everybody on this machine (mode 0644); run `chmod 600 $DIR/world_key`"}},
	{"key file of the group", map[string]string{"gate.key_file": "$DIR/group_key"}, []string{"gate.key_file: $DIR/group_key is open to its group (mode 0640); run `chmod 600 $DIR/group_key`"}},
	{"public half", map[string]string{"gate.key_file": "$DIR/key.pub"}, []string{`gate.key_file: $DIR/key.pub is the public key; give the private one, without .pub`}},
	{"not a key", map[string]string{"gate.key_file": "$DIR/token"}, []string{`gate.key_file: $DIR/token is not a private key that ssh can read`}},
	{"empty key", map[string]string{"gate.key_file": "$DIR/empty"}, []string{`gate.key_file: $DIR/empty is empty`}},
	{"folder as key", map[string]string{"gate.key_file": "$DIR"}, []string{`gate.key_file: $DIR is not a file`}},
	{"one key for both", map[string]string{"ssh.key_file": "$DIR/again_key"}, []string{"ssh.key_file: $DIR/again_key is the same key as gate.key_file, and what signs for the VM's root could then open the Proxmox host's gate; make a key of its own with `ssh-keygen -t ed25519 -N '' -f FILE` and put its public half on the VM"}},

	{"no host key", map[string]string{"gate.host_key": ""}, []string{"gate.host_key: missing; run `ssh-keyscan -t ed25519 192.168.1.127` on a machine you trust, compare it with /etc/ssh/ssh_host_ed25519_key.pub on the Proxmox host, and paste it from \"ssh-ed25519\" on"}},
	{"no host key, other port", map[string]string{"ssh.host_key": "", "ssh.address": "10.0.10.10:2222"}, []string{"ssh.host_key: missing; run `ssh-keyscan -t ed25519 -p 2222 10.0.10.10` on a machine you trust, compare it with /etc/ssh/ssh_host_ed25519_key.pub on the VM, and paste it from \"ssh-ed25519\" on"}},
	{"host key and CA", map[string]string{"gate.host_ca": "$KEY"}, []string{`gate.host_ca: given together with gate.host_key; keep one`}},
	{"CA alone is fine", map[string]string{"gate.host_key": "", "gate.host_ca": "$KEY"}, nil},
	{"bad CA", map[string]string{"gate.host_key": "", "gate.host_ca": "x"}, []string{`gate.host_ca: this is not a public key; write it as in a .pub file, "ssh-ed25519 AAAA…"`}},
	{"line of ssh-keyscan", map[string]string{"gate.host_key": "192.168.1.127 $KEY"}, []string{`gate.host_key: leave out "192.168.1.127" before the key; it begins with "ssh-ed25519"`}},
	{"placeholder", map[string]string{"gate.host_key": "ssh-ed25519 AAAA…"}, []string{`gate.host_key: this is not a public key; write it as in a .pub file, "ssh-ed25519 AAAA…"`}},
	{"fingerprint", map[string]string{"gate.host_key": "SHA256:abc"}, []string{`gate.host_key: this is a fingerprint; give the key itself, "ssh-ed25519 AAAA…"`}},
	{"private key", map[string]string{"gate.host_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, []string{`gate.host_key: this is a private key; give the public one, "ssh-ed25519 AAAA…", and make a new pair if others saw it`}},
	{"two keys", map[string]string{"gate.host_key": "$KEY\n$KEY"}, []string{`gate.host_key: these are several keys; keep one`}},

	{"nobody", map[string]string{"auth.console": ""}, []string{`auth: nobody may act; list at least one user ID under auth.slack, auth.mattermost or auth.console`}},
	{"empty entry", map[string]string{"auth.console": "alice,,"}, []string{`auth.console: has an empty entry; remove it`, `auth.console: has an empty entry; remove it`}},
	{"console user with a blank", map[string]string{"auth.console": "a b"}, []string{`auth.console: "a b" is not the name of a user of this machine`}},
	{"display name in slack", map[string]string{"auth.slack": "alice"}, []string{`auth.slack: "alice" is a display name, which anybody can take; give the member ID, such as U0123456789 (in the profile: More, Copy member ID)`}},
	{"two display names in slack", map[string]string{"auth.slack": "@alice,U0123456789,bob"}, []string{
		`auth.slack: "@alice" is a display name, which anybody can take; give the member ID, such as U0123456789 (in the profile: More, Copy member ID)`,
		`auth.slack: "bob" is a display name, which anybody can take; give the member ID, such as U0123456789 (in the profile: More, Copy member ID)`,
	}},
	{"member ID in small letters", map[string]string{"auth.slack": "u0123456789"}, []string{`auth.slack: "u0123456789" is not a member ID; write it in capitals, U0123456789`}},
	{"channel as member", map[string]string{"auth.slack": "C0123456789"}, []string{`auth.slack: "C0123456789" is the ID of something else; a member's begins with U or W`}},
	{"name in mattermost", map[string]string{"auth.mattermost": "alice"}, []string{"auth.mattermost: \"alice\" is not a user ID but a name, which can be changed; give the 26 letters and digits that `mmctl user search NAME` shows"}},

	{"slack by halves", map[string]string{"slack.channel": "C0123456789"}, []string{
		`auth.slack: nobody may act in slack; list at least one user ID`,
		`slack.app_token: missing; put the app-level token (scope connections:write) into a file of mode 0600 and give its path as slack.app_token_file`,
		`slack.bot_token: missing; put the bot user's OAuth token into a file of mode 0600 and give its path as slack.bot_token_file`,
	}},
	{"tokens exchanged", map[string]string{"auth.slack": "U0123456789", "slack.app_token": "xoxb-1", "slack.bot_token": "xapp-1", "slack.channel": "#incidents"}, []string{
		`slack.app_token: does not begin with xapp-; it must be the app-level token (scope connections:write)`,
		`slack.bot_token: does not begin with xoxb-; it must be the bot user's OAuth token`,
		`slack.channel: "#incidents" is not a channel ID; it begins with C or G and stands at the foot of the channel's details`,
	}},
	{"api_url without a slash", map[string]string{"auth.slack": "U0123456789", "slack.app_token": "xapp-1", "slack.bot_token": "xoxb-1", "slack.channel": "C0123456789", "slack.api_url": "http://127.0.0.1:1/api"}, []string{`slack.api_url: "http://127.0.0.1:1/api" must end in /`}},
	{"api_url in the clear", map[string]string{"auth.slack": "U0123456789", "slack.app_token": "xapp-1", "slack.bot_token": "xoxb-1", "slack.channel": "C0123456789", "slack.api_url": "http://10.0.0.1/api/"}, []string{`slack.api_url: "http://10.0.0.1/api/" would carry the tokens in the clear; write https://, or http:// with a loopback IP`}},
	{"mattermost by halves", map[string]string{"mattermost.url": "chat.example.org", "mattermost.callbacks.url": "https://u:p@bot.example.org", "mattermost.callbacks.listen": "8065", "auth.mattermost": "abcdefghijklmnopqrstuvwxyz"}, []string{
		`mattermost.callbacks.listen: "8065" is not an address and a port; write IP:port, or :port for all addresses`,
		`mattermost.callbacks.url: must not hold a user or password; there are keys of their own for that`,
		`mattermost.channel: missing; set it to the incident channel`,
		`mattermost.team: missing; set it to the team of the incident channel`,
		`mattermost.token: missing; put the bot account's access token into a file of mode 0600 and give its path as mattermost.token_file`,
		`mattermost.url: "chat.example.org" is not an address such as https://chat.example.org`,
	}},

	{"secret given twice", map[string]string{"agent.api_key": "sk-1", "agent.api_key_file": "$DIR/token"}, []string{`agent.api_key: given twice, as agent.api_key and as agent.api_key_file; keep one`}},
	{"secret file of the world", map[string]string{"agent.api_key_file": "$DIR/world_key"}, []string{"agent.api_key_file: $DIR/world_key is open to everybody on this machine (mode 0644); run `chmod 600 $DIR/world_key`"}},
	{"secret file not there", map[string]string{"agent.oauth_token_file": "$DIR/none"}, []string{`agent.oauth_token_file: $DIR/none does not exist`}},
	{"missing file is not also a missing token", map[string]string{"auth.slack": "U0123456789", "slack.app_token_file": "$DIR/none", "slack.bot_token": "xoxb-1", "slack.channel": "C0123456789"}, []string{`slack.app_token_file: $DIR/none does not exist`}},
	{"two logins", map[string]string{"agent.api_key": "sk-1", "agent.oauth_token": "t"}, []string{`agent.oauth_token: given together with agent.api_key; keep one`}},

	{"confirm by nobody we know", map[string]string{"confirm.by": "boss"}, []string{`confirm.by: "boss" is not known; use one of: requester any other`}},
	{"confirm by a second person who is not there", map[string]string{"confirm.by": "other"}, []string{`confirm.by: other needs a second person, but auth lists only one; add somebody, or use requester`}},
	{"the same person twice is one", map[string]string{"auth.console": "alice,alice", "confirm.verbs": "cycle=other"}, []string{`confirm.verbs.cycle: other needs a second person, but auth lists only one; add somebody, or use requester`}},
	{"two persons, and an agent that needs none", map[string]string{"auth.console": "alice,bob", "confirm.by": "other", "agent.power": "auto"}, []string{`confirm.by: other needs a second person, but agent.power auto lets one person's agent change the VM unasked; set agent.power to confirm or readonly`}},
	{"confirm a verb that changes nothing", map[string]string{"confirm.verbs": "status=any,cycle=nobody"}, []string{
		`confirm.verbs.cycle: "nobody" is not known; use one of: requester any other`,
		`confirm.verbs.status: "status" is not a verb that changes the VM; use one of: start reset stop cycle`,
	}},
	{"verbs without by", map[string]string{"confirm.verbs": "cycle"}, []string{`confirm.verbs: "cycle" is not name=value`}},
	{"ttl without a unit", map[string]string{"confirm.ttl": "120"}, []string{`confirm.ttl: "120" is not a duration; write 30s, 5m or 2h`}},
	{"several that cannot be read", map[string]string{"confirm.ttl": "120", "agent.turn_timeout": "30", "agent.idle_timeout": "15", "agent.live": "many"}, []string{
		`agent.idle_timeout: "15" is not a duration; write 30s, 5m or 2h`,
		`agent.live: "many" is not a whole number`,
		`agent.turn_timeout: "30" is not a duration; write 30s, 5m or 2h`,
		`confirm.ttl: "120" is not a duration; write 30s, 5m or 2h`,
	}},
	{"ttl too short", map[string]string{"confirm.ttl": "1s"}, []string{`confirm.ttl: 1s is too short or too long to read a card and press a button; use 10s to 1h`}},

	{"agent without limits", map[string]string{"agent.live": "0", "agent.turn_timeout": "0", "agent.idle_timeout": "-1m", "agent.limit.steps": "0", "agent.limit.budget_usd": "0"}, []string{
		`agent.idle_timeout: -1m0s must be more than nothing, such as 15m`,
		`agent.limit.budget_usd: 0 must be more than nothing, such as 5`,
		`agent.limit.steps: 0 must be more than nothing, such as 60`,
		`agent.live: 0 must be more than nothing, such as 4`,
		`agent.turn_timeout: 0s must be more than nothing, such as 30m`,
	}},
	{"budget that no sum reaches", map[string]string{"agent.limit.budget_usd": "NaN"}, []string{`agent.limit.budget_usd: "NaN" is not a number`}},
	{"model that is an option", map[string]string{"agent.model": "--help"}, []string{`agent.model: "--help" is not the name of a model, such as sonnet`}},
	{"power unknown", map[string]string{"agent.power": "full"}, []string{`agent.power: "full" is not known; use one of: auto confirm readonly`}},
	{"workspace not there", map[string]string{"agent.workspace": "$DIR/none"}, []string{`agent.workspace: $DIR/none does not exist`}},
	{"workspace is a file", map[string]string{"agent.workspace": "$DIR/token"}, []string{`agent.workspace: $DIR/token is not a folder`}},
	{"key in the agent's shell", map[string]string{"agent.env": "ANTHROPIC_API_KEY=x,a-b=1"}, []string{
		`agent.env.ANTHROPIC_API_KEY: every command of the agent could read it; give agent.api_key_file instead`,
		`agent.env.a-b: "a-b" is not the name of a variable`,
	}},
	{"runner of a later version", map[string]string{"agent.runner": "container"}, []string{`agent.runner: "container" is not known to this version; leave it empty, claude then runs here`}},

	{"watch too often", map[string]string{"watch.interval": "5ms", "watch.failures": "0"}, []string{
		`watch.failures: 0 must be more than nothing, such as 3`,
		`watch.interval: 5ms is too short; use 1s or more, or 0 for never`,
	}},
	{"watch never", map[string]string{"watch.interval": "0"}, nil},
	{"mirror perhaps", map[string]string{"mirror": "perhaps"}, []string{`mirror: "perhaps" is not a switch; write on or off`}},
	{"store in a relative file", map[string]string{"store.url": "sqlite://bgbot.db"}, []string{`store.url: sqlite:// needs the absolute path of a file, such as sqlite:///var/lib/bgbot/bgbot.db`}},
	{"store elsewhere", map[string]string{"store.url": "mysql://u:hunter2@db/x"}, []string{`store.url: neither sqlite:///path/of/a/file nor postgres://user@host/database`}},
	{"store in PostgreSQL", map[string]string{"store.url": "postgres://u:p@10.0.0.5/bgbot"}, nil},
	{"listener by name", map[string]string{"http.listen": "metrics:9102"}, []string{`http.listen: "metrics:9102" names no IP; write IP:port, or :port for all addresses`}},
	{"listener with a bad port", map[string]string{"http.listen": ":99999"}, []string{`http.listen: ":99999" has no port from 0 to 65535; write IP:port, or :port for all addresses`}},
	{"log", map[string]string{"log.level": "loud", "log.format": "xml"}, []string{
		`log.format: "xml" is not known; use one of: json text`,
		`log.level: "loud" is not known; use one of: debug info warn error`,
	}},
}

func TestEachProblemHasItsSentence(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	key, err := os.ReadFile(l.path("key"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "world_key", string(key), 0o644)
	l.write(t, "group_key", string(key), 0o640)
	l.write(t, "again_key", string(key), 0o600)
	l.write(t, "token", "t-1\n", 0o600)
	l.write(t, "empty", "\n", 0o600)
	for _, s := range sentences {
		t.Run(s.story, func(t *testing.T) {
			t.Parallel()
			_, err := Load("", l.environ(s.change))
			compare(t, l, err, s.want)
		})
	}
}

func compare(t *testing.T, l lab, err error, want []string) {
	t.Helper()
	var got []string
	if invalid, ok := errors.AsType[*Invalid](err); ok {
		got = invalid.Problems
	} else if err != nil {
		t.Fatalf("want *Invalid, got %v", err)
	}
	for i, line := range want {
		want[i] = l.expand(line)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestAVariableThatIsNoKeyIsNamed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, err := Load("", append(l.environ(nil), "BGBOT_AGENT_MODELL=opus"))
	compare(t, l, err, []string{"BGBOT_AGENT_MODELL: unknown variable; did you mean BGBOT_AGENT_MODEL?"})
}

// Each archive in testdata is a story: its comment, the files bgbot.yaml and want.
func TestFiles(t *testing.T) {
	t.Parallel()
	stories, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(stories) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range stories {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			l := newLab(t)
			mode, want := os.FileMode(0o600), ""
			for _, f := range archive.Files {
				switch f.Name {
				case "bgbot.yaml", "open/bgbot.yaml":
					if f.Name != "bgbot.yaml" {
						mode = 0o644
					}
					l.write(t, "bgbot.yaml", l.expand(string(f.Data)), mode)
				case "want":
					want = l.expand(string(f.Data))
				default:
					t.Fatalf("what is the file %s for?", f.Name)
				}
			}
			_, err = Load(l.path("bgbot.yaml"), l.environ(nil))
			got := ""
			if invalid, ok := errors.AsType[*Invalid](err); ok {
				got = invalid.UserMessage() + "\n"
			} else if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%sgot\n%swant\n%s", archive.Comment, got, want)
			}
		})
	}
}

func FuzzFile(f *testing.F) {
	for _, seed := range []string{"vm: {vmid: 1}", "vm:\n  - x", "a: &a {b: *a}", "? [x]\n: y", "auth: {console: !!binary x}", "---\n---\n", "# x", "\x00", "<<: {vm: 1}"} {
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), "bgbot.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, nil)
		invalid, ok := errors.AsType[*Invalid](err)
		if !ok {
			t.Fatalf("no file is a whole configuration without its keys; got %v", err)
		}
		if len(invalid.Problems) == 0 || !slices.IsSorted(invalid.Problems) {
			t.Errorf("got problems %q", invalid.Problems)
		}
	})
}
