package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Reach learns a machine's host key and logs in. A machine that is not reached from here is reached through another one,
// if there is one. Out hears who vouches for the host key. Its errors are [*Problem]s.
func Reach(ctx context.Context, l Login, t Trust, through *Machine, out io.Writer) (*Machine, error) {
	m, err := reach(ctx, l, t, out)
	if _, apart := errors.AsType[*unreached](err); !apart || through == nil {
		return m, err
	}
	_, _ = fmt.Fprintf(out, "%s is not reached from here; going through %s\n", l.Name, through.Name)
	l.Through = through
	return reach(ctx, l, t, out)
}

func reach(ctx context.Context, l Login, t Trust, out io.Writer) (*Machine, error) {
	key, by, err := t.hostKey(ctx, l)
	if err != nil {
		return nil, err
	}
	l.HostKey = key
	_, _ = fmt.Fprintf(out, "%s, %s: host key %s, known by %s\n", l.Name, l.Address, ssh.FingerprintSHA256(key), by)
	return l.open(ctx)
}

// agentLimit is for the agent's list of keys. A signature may take a touch, and is bounded by the login.
const agentLimit = 10 * time.Second

// Identities finds the keys of the person who installs: those of the SSH agent at the socket, else ~/.ssh/id_* without a
// passphrase, read by read. Release is to be called when no login is wanted any more.
func Identities(ctx context.Context, socket, home string, read func(file string) (ssh.Signer, error)) (signers []ssh.Signer, release func(), err error) {
	if signers, release = agentKeys(ctx, socket); len(signers) > 0 {
		return signers, release, nil
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		if signer, err := read(filepath.Join(home, ".ssh", name)); err == nil {
			signers = append(signers, signer)
		}
	}
	if len(signers) == 0 {
		return nil, nil, problem("There is no key to log in with: neither in an SSH agent nor in ~/.ssh/id_* without a passphrase. Name yours with --identity, or ssh-add it.")
	}
	return signers, func() {}, nil
}

// agentKeys are the keys of an SSH agent, if it has any.
func agentKeys(ctx context.Context, socket string) ([]ssh.Signer, func()) {
	if socket == "" {
		return nil, nil
	}
	dialer := net.Dialer{Timeout: agentLimit}
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil
	}
	_ = conn.SetDeadline(time.Now().Add(agentLimit)) // a dead agent shows at the next step
	signers, err := agent.NewClient(conn).Signers()
	_ = conn.SetDeadline(time.Time{})
	if err != nil || len(signers) == 0 {
		_ = conn.Close()
		return nil, nil
	}
	return signers, func() { _ = conn.Close() }
}
