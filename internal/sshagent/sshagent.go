// Package sshagent keeps the private keys: it signs logins for child processes and gives no key away. It owns an
// ssh-agent on a private socket, which signs only for the hosts and users it was opened for and only while a turn runs,
// and the files through which children reach those hosts by name: a config, known_hosts and a wrapper called ssh.
// The agent is the boundary; the wrapper is a guide, since whoever runs it could call another ssh. Who may run what is
// not decided here, and the user's own ~/.ssh is neither read nor written.
package sshagent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/internal/seldom"
)

// Alias is a host that children reach as `ssh NAME`.
type Alias struct {
	Name    string // a bare word; also the principal that a certificate of the host must carry
	Address string // host:port
	User    string
	HostKey ssh.PublicKey // the pin; this or HostCA is needed, and with both either will do
	HostCA  ssh.PublicKey // signs the host's certificates
	Signer  ssh.Signer    // the key to log in with; ed25519, ecdsa or rsa
	Limit   int           // signatures while the agent lives; 0 is 1000
	Timeout time.Duration // of one run of the wrapper, in whole seconds; 0 is 280 s
}

const (
	defaultLimit   = 1000
	defaultTimeout = 280 * time.Second // under the 300 s after which a person at a phone gives up
)

// Agent signs for its aliases while it is active. Its methods may be called from many goroutines at once.
type Agent struct {
	dir      string
	made     []string // files and folders to remove, the newest first
	socket   string
	aliases  []Alias
	log      *slog.Logger
	warned   seldom.Pace // of refusals
	listener *net.UnixListener
	closing  chan struct{}
	wg       sync.WaitGroup

	mu      sync.Mutex // guards what follows
	active  bool
	closed  bool
	may     func(pid int) bool
	conns   map[*conn]struct{}
	signed  map[string]int // by alias
	refused int
}

// Open writes the files for aliases into dir, which it makes with mode 0700, and starts an agent that signs nothing
// until [Agent.Activate]. Two agents must not share a dir. What a former process left in dir is overwritten.
func Open(dir string, aliases []Alias, log *slog.Logger) (*Agent, error) {
	for i, al := range aliases {
		if err := al.check(aliases[:i]); err != nil {
			return nil, fmt.Errorf("ssh alias %q: %w", al.Name, err)
		}
	}
	if len(aliases) == 0 {
		return nil, errors.New("an ssh agent without aliases could reach nothing")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("ssh agent in %s: %w", dir, err)
	}
	a := &Agent{
		dir: abs, aliases: slices.Clone(aliases), log: log,
		closing: make(chan struct{}), conns: map[*conn]struct{}{}, signed: map[string]int{},
	}
	if err := a.open(); err != nil {
		if a.listener != nil {
			_ = a.listener.Close()
		}
		a.remove()
		return nil, fmt.Errorf("ssh agent in %s: %w", abs, err)
	}
	a.wg.Go(a.accept)
	return a, nil
}

func (a *Agent) open() error {
	if err := a.makeDir(a.dir); err != nil {
		return err
	}
	if err := a.listen(); err != nil {
		return err
	}
	return a.writeFiles()
}

// maxSocketPath is sun_path without its NUL (unix(7)).
const maxSocketPath = 107

func (a *Agent) listen() error {
	a.socket = filepath.Join(a.dir, "agent.sock")
	if len(a.socket) > maxSocketPath {
		short, err := os.MkdirTemp("", "bgbot-ssh-")
		if err != nil {
			return err
		}
		a.made = append(a.made, short)
		a.socket = filepath.Join(short, "agent.sock")
	}
	if err := os.Remove(a.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.socket, Net: "unix"})
	if err != nil {
		return err
	}
	a.listener = l // it removes the socket when it is closed
	return os.Chmod(a.socket, 0o600)
}

// Env is what a child needs, beside its other variables: SSH_AUTH_SOCK, and PATH with the wrapper in front of path.
func (a *Agent) Env(path string) map[string]string {
	return map[string]string{"SSH_AUTH_SOCK": a.socket, "PATH": filepath.Join(a.dir, "bin") + ":" + path}
}

// Admit makes the agent serve only processes for which may says yes, beside being of our user: the path of the socket is
// no secret. may is asked at each connection, from any goroutine, and must not call the agent. Who has come before is sent
// away: a process of another session may wait for the socket to be there.
func (a *Agent) Admit(may func(pid int) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.may = may
	for c := range a.conns {
		_ = c.link.Close()
	}
}

// Activate lets the agent sign, until [Agent.Deactivate].
func (a *Agent) Activate() { a.setActive(true) }

// Deactivate makes the agent refuse every signature from now on. Logins that are done stay.
func (a *Agent) Deactivate() { a.setActive(false) }

func (a *Agent) setActive(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active = on
}

// Close ends all connections, waits for them and removes the agent's files. It may be called twice.
func (a *Agent) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	a.active = false
	close(a.closing)
	for c := range a.conns {
		_ = c.link.Close()
	}
	a.mu.Unlock()
	err := a.listener.Close()
	a.wg.Wait()
	a.remove()
	if err != nil {
		return fmt.Errorf("ssh agent in %s: %w", a.dir, err)
	}
	return nil
}

// take counts one signature for al, or says why there is none.
func (a *Agent) take(al *Alias) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	limit := al.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	switch {
	case !a.active:
		return errors.New("no turn is running")
	case a.signed[al.Name] >= limit:
		return fmt.Errorf("the limit of %d signatures is reached", limit)
	}
	a.signed[al.Name]++
	return nil
}

func (a *Agent) countRefusal() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused++
	return a.refused
}
