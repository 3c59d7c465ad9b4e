package bot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/internal/sshdtest"
	"bgbot/internal/store"
	"bgbot/pve"
)

// incident is a Bot between a phone and two real sshds: one answers verbs with what the test wrote down, as the Proxmox
// host does, the other is the VM.
type incident struct {
	*Bot
	t     *testing.T
	dir   string
	vm    *sshdtest.Server
	phone *phone
	said  int

	mu  sync.Mutex // guards pin
	pin ssh.PublicKey
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

var operator = auth.Person{Chat: "phone", ID: "U1"}

func newIncident(t *testing.T) *incident {
	t.Helper()
	i := &incident{t: t, dir: t.TempDir(), phone: &phone{more: make(chan struct{}, 1)}}
	host := sshdtest.New(t, sshdtest.Options{KeyOptions: i.script("gate", `
		echo "$SSH_ORIGINAL_COMMAND" >> ran
		while test -e "$SSH_ORIGINAL_COMMAND.held"; do sleep 0.02; done
		said=$(cat "$SSH_ORIGINAL_COMMAND.said"); printf '%s\n' "$said" | sed '$d'; exit $(printf '%s\n' "$said" | tail -n 1)`)})
	i.vm = sshdtest.New(t, sshdtest.Options{KeyOptions: i.script("vm", `
		case "$SSH_ORIGINAL_COMMAND" in *systemctl*) cat systemctl; test -e next && mv next systemctl;; esac; exit 0`)})
	gate := pve.NewClient(i.hostOf(host, "the Proxmox host"), 102, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = gate.Close() })
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(i.dir, "bgbot.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	agent := i.agent(log)
	i.Bot = New(Options{
		Runner: agent, Model: "sonnet", Prompts: []Prompt{{ID: "disk", Label: "Disk", Text: "Look at the disks."}},
		Chats: map[string]Chat{"phone": i.phone}, Policy: auth.NewPolicy(operator), VM: VM{Name: "devvm", ID: 102}, Power: Ask,
		Confirm: Confirm{TTL: time.Minute, By: auth.Requester}, Gate: gate, Store: db, Log: log,
		Guest: i.guest(),
	})
	t.Cleanup(func() {
		i.shutdown()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := agent.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("the phone shows:\n%s", i.phone)
	})
	return i
}

// agent is a claude that writes down what it is told (in the only place where its cage lets it) and answers each message with "I looked.", once nothing holds it.
func (i *incident) agent(log *slog.Logger) *agentrun.Runner {
	command := filepath.Join(i.dir, "claude")
	i.write("claude", `#!/bin/sh
		while test $# -gt 0; do case "$1" in --session-id|--resume) session=$2;; esac; shift; done
		read settings; echo '{"type":"control_response","response":{"subtype":"success","request_id":"settings","response":{"effective":{"permissions":{"ask":["Bash"]}}}}}'
		while read -r prompt; do
			printf '%s\n' "$prompt" >> "$TMPDIR/prompts"
			uuid=$(printf '%s' "$prompt" | sed 's/.*"uuid":"\([^"]*\)".*/\1/')
			echo "{\"type\":\"command_lifecycle\",\"command_uuid\":\"$uuid\",\"state\":\"started\"}"
			echo "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"$session\",\"tools\":[\"Read\",\"Bash\",\"Glob\",\"Grep\"],\"model\":\"m\",\"permissionMode\":\"default\",\"claude_code_version\":\"`+agentrun.Pinned+`\"}"
			while test -e `+i.dir+`/agent.held; do sleep 0.02; done
			echo '{"type":"result","subtype":"success","result":"I looked.","num_turns":1}'
		done
`)
	if err := os.Chmod(command, 0o700); err != nil {
		i.t.Fatal(err)
	}
	runner, err := agentrun.New(agentrun.Config{
		Command: command, Dir: filepath.Join(i.dir, "agent"), Agent: agentrun.Agent{Name: "breakglass", Description: "repairs", Prompt: "You repair."},
		Private: []string{filepath.Join(i.dir, "bgbot.db")},
		Model:   "sonnet", Live: 4, TurnTimeout: time.Minute, IdleTimeout: time.Minute, StallNotice: time.Minute, Steps: 60, BudgetUSD: 5, Log: log,
	})
	if err != nil {
		i.t.Fatal(err)
	}
	return runner
}

// prompts is what the agent was told.
func (i *incident) prompts() string {
	var all []byte
	files, err := filepath.Glob(filepath.Join(i.dir, "agent", "sessions", "*", "tmp", "prompts"))
	for _, file := range files {
		text, failed := os.ReadFile(file)
		all, err = append(all, text...), errors.Join(err, failed)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return string(all)
}

// looks is how often the host was asked for a status.
func (i *incident) looks() int {
	i.t.Helper()
	all, err := os.ReadFile(filepath.Join(i.dir, "ran"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		i.t.Fatal(err)
	}
	return len(slices.DeleteFunc(strings.Fields(string(all)), func(word string) bool { return word != string(pve.Status) }))
}

// guest reaches the VM with the key that is expected of it now.
func (i *incident) guest() Guest {
	i.pin = i.vm.HostKey
	host := func() pve.Host {
		i.mu.Lock()
		defer i.mu.Unlock()
		return pve.Host{Name: "devvm", Address: i.vm.Address, User: i.vm.User, Signer: i.vm.ClientSigner, HostKey: i.pin}
	}
	reach := func(ctx context.Context) error { return pve.Reach(ctx, host()) }
	return Guest{
		Reach: reach, Knock: reach,
		Look: func(ctx context.Context) (string, error) {
			out, err := i.vm.SSH(ctx, i.vm.Client, "systemctl").Output()
			return string(out), err
		},
		Accept: func(_ context.Context, key, by string) error {
			accepted, err := pve.ParseHostKey(key)
			if err != nil || by != operator.String() {
				return fmt.Errorf("%s accepts %q: %w", by, key, err)
			}
			i.mu.Lock()
			defer i.mu.Unlock()
			i.pin = accepted
			return nil
		},
	}
}

// rebuilt gives the VM another host key, and returns the old one and the new.
func (i *incident) rebuilt() (before, after string) {
	before = publicLine(i.vm.HostKey)
	i.vm.Stop()
	i.vm.NewHostKey()
	i.vm.Start()
	return before, publicLine(i.vm.HostKey)
}

func publicLine(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

// script is a forced command that runs a shell script in the incident's folder.
func (i *incident) script(name, text string) string {
	i.write(name, "cd "+i.dir+"\n"+text+"\n")
	return sshdtest.ForcedCommand("/bin/sh", filepath.Join(i.dir, name))
}

func (i *incident) hostOf(s *sshdtest.Server, name string) pve.Host {
	return pve.Host{Name: name, Address: s.Address, User: s.User, Signer: s.ClientSigner, HostKey: s.HostKey}
}

func (i *incident) write(name, text string) {
	i.t.Helper()
	if err := os.WriteFile(filepath.Join(i.dir, name), []byte(text), 0o600); err != nil {
		i.t.Fatal(err)
	}
}

func (i *incident) remove(name string) {
	i.t.Helper()
	if err := os.Remove(filepath.Join(i.dir, name)); err != nil {
		i.t.Fatal(err)
	}
}

// answers writes down what the host says to a verb.
func (i *incident) answers(r pve.Result, steps ...pve.Step) {
	i.t.Helper()
	var lines []string
	for _, s := range steps {
		line, err := json.Marshal(s)
		if err != nil {
			i.t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	line, err := json.Marshal(map[string]pve.Result{"result": r})
	if err != nil {
		i.t.Fatal(err)
	}
	i.write("next.said", strings.Join(append(lines, string(line), fmt.Sprint(int(r.Exit))), "\n")+"\n")
	if err := os.Rename(filepath.Join(i.dir, "next.said"), filepath.Join(i.dir, string(r.Verb)+".said")); err != nil {
		i.t.Fatal(err)
	}
}

var thread = Place{Chat: "phone", Channel: "C1", Thread: "t1"}

func (i *incident) types(text string)    { i.hears(Message{Text: text}) }
func (i *incident) presses(click string) { i.hears(Message{Click: click}) }

// outside is the channel without a thread: where a command is typed, and what the bot's own page belongs to.
var outside = Place{Chat: "phone", Channel: "C1"}

// hears takes a message in the thread, from the operator and new, where it does not say otherwise.
func (i *incident) hears(m Message) {
	i.t.Helper()
	i.said++
	m.ID = cmp.Or(m.ID, fmt.Sprint(i.said))
	if m.Place == (Place{}) {
		m.Place, m.Opens = thread, true
	}
	m.From, m.Name = cmp.Or(m.From, operator), cmp.Or(m.Name, "operator")
	m.At = cmp.Or(m.At, time.Now())
	if err := i.handle(i.t.Context(), m); err != nil {
		i.t.Fatal(err)
	}
}

// shows waits until a message, as it stands then, begins with pattern, and returns it.
func (i *incident) shows(pattern string) Text { i.t.Helper(); return i.finds(pattern).Text }

func (i *incident) finds(pattern string) post {
	i.t.Helper()
	re := regexp.MustCompile("^" + pattern)
	var found post
	i.waits("no message begins with "+pattern, func() (ok bool) {
		found, ok = i.phone.find(re)
		return ok
	})
	return found
}

// waits for what must come to be, and is looked at whenever the phone has changed; what is not to be seen there, often.
func (i *incident) waits(otherwise string, is func() bool) {
	i.t.Helper()
	late := time.After(patience)
	for !is() {
		select {
		case <-i.phone.more:
		case <-time.After(20 * time.Millisecond):
		case <-late:
			i.t.Fatalf("%s:\n%s", otherwise, i.phone)
		}
	}
}

// code is what a card wants to be typed.
func (i *incident) code(card Text) string {
	i.t.Helper()
	m := regexp.MustCompile("confirm ([2-9A-Z]{4})").FindStringSubmatch(card.Body)
	if m == nil {
		i.t.Fatalf("no code in %s", card.Body)
	}
	return m[1]
}
