package bot

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

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
		while test -e "$SSH_ORIGINAL_COMMAND.held"; do sleep 0.02; done
		cat "$SSH_ORIGINAL_COMMAND.jsonl"; exit $(cat "$SSH_ORIGINAL_COMMAND.exit")`)})
	i.vm = sshdtest.New(t, sshdtest.Options{KeyOptions: i.script("vm", `
		case "$SSH_ORIGINAL_COMMAND" in *systemctl*) cat systemctl; test -e next && mv next systemctl;; esac; exit 0`)})
	gate := pve.NewClient(i.hostOf(host, "the Proxmox host"), 102, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = gate.Close() })
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(i.dir, "bgbot.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	i.Bot = New(Options{
		Chats: map[string]Chat{"phone": i.phone}, Policy: auth.NewPolicy(operator), VM: VM{Name: "devvm", ID: 102}, Power: Ask,
		Confirm: Confirm{TTL: time.Minute, By: auth.Requester}, Gate: gate, Store: db, Log: log,
		Guest: i.guest(),
	})
	t.Cleanup(func() {
		i.shutdown()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("the phone shows:\n%s", i.phone)
	})
	return i
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
	i.write(string(r.Verb)+".exit", fmt.Sprint(int(r.Exit)))
	i.write(string(r.Verb)+".jsonl", strings.Join(append(lines, string(line)), "\n")+"\n")
}

var thread = Place{Chat: "phone", Channel: "C1", Thread: "t1"}

func (i *incident) types(text string)    { i.hears(Message{Text: text}) }
func (i *incident) presses(click string) { i.hears(Message{Click: click}) }

func (i *incident) hears(m Message) {
	i.t.Helper()
	i.said++
	m.ID, m.Place, m.From, m.Name, m.At = fmt.Sprint(i.said), thread, operator, "operator", time.Now()
	if err := i.handle(i.t.Context(), m); err != nil {
		i.t.Fatal(err)
	}
}

// shows waits until a message of the thread, as it stands then, begins with pattern, and returns it.
func (i *incident) shows(pattern string) Text {
	i.t.Helper()
	re := regexp.MustCompile("^" + pattern)
	late := time.After(patience)
	for {
		if t, ok := i.phone.find(re); ok {
			return t
		}
		select {
		case <-i.phone.more:
		case <-late:
			i.t.Fatalf("no message begins with %q:\n%s", pattern, i.phone)
		}
	}
}

// phone is a chat that takes everything and shows it.
type phone struct {
	mu     sync.Mutex // guards what follows
	thread []Text
	more   chan struct{}
}

func (p *phone) Limits() Limits {
	return Limits{EditGap: time.Millisecond, Tick: 50 * time.Millisecond}
}

func (p *phone) Run(ctx context.Context, _ func(context.Context, Message) error) error {
	<-ctx.Done()
	return nil
}

func (p *phone) Post(_ context.Context, _ Place, t Text) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.thread = append(p.thread, t)
	p.changed()
	return fmt.Sprint(len(p.thread) - 1), nil
}

func (p *phone) Edit(_ context.Context, _ Place, id string, t Text) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int
	_, _ = fmt.Sscan(id, &n)
	t.Files = p.thread[n].Files
	p.thread[n] = t
	p.changed()
	return nil
}

func (p *phone) changed() {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *phone) find(re *regexp.Regexp) (Text, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.thread {
		if re.MatchString(t.Body) {
			return t, true
		}
	}
	return Text{}, false
}

func (p *phone) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, t := range p.thread {
		all = append(all, fmt.Sprintf("%s\n%v", t.Body, t.Choices))
	}
	return strings.Join(all, "\n--\n")
}
