package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
	"time"
)

// sshdConfig is that of a host as Debian sets it up, with nothing but forced commands. StrictModes is off because
// temporary folders are writable for others.
const sshdConfig = `ListenAddress 127.0.0.1
Port %d
HostKey %s
PidFile none
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin forced-commands-only
AcceptEnv LANG LC_*
ClientAliveInterval 15
LogLevel VERBOSE
`

// writeSSHD writes what the host's sshd reads: its configuration, and a line for each key with the gate behind it.
func (l *Lab) writeSSHD() error {
	s := l.state
	var lines strings.Builder
	for name, key := range map[string][]byte{botKey: authorized(l.keys.gateClient), readOnlyKey: authorized(l.keys.gateReadOnly)} {
		fmt.Fprintf(&lines, "restrict,from=\"127.0.0.1\",command=\"%s\" %s", quoted(s.gateCommand(name)), key)
	}
	if err := os.WriteFile(s.path("conf", "authorized_keys"), []byte(lines.String()), 0o600); err != nil {
		return err
	}
	config := fmt.Sprintf(sshdConfig, s.HostPort, s.path("keys", "gate_host"), s.path("conf", "authorized_keys"))
	return os.WriteFile(s.path("conf", "sshd_config"), []byte(config), 0o600)
}

// quoted are the words of a command through both the login shell and the quoting of authorized_keys.
func quoted(argv []string) string {
	var words []string
	for _, word := range argv {
		words = append(words, "'"+strings.ReplaceAll(word, "'", `'\''`)+"'")
	}
	return strings.ReplaceAll(strings.Join(words, " "), `"`, `\"`)
}

// hostUser is who logs in to the host: sshd lets only its own user in, unless it is root.
func hostUser() (string, error) {
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	return me.Username, nil
}

func (m *machine) startSSHD(ctx context.Context) error {
	if os.Geteuid() == 0 { // for the separation of privileges; a container has not run the service's set-up
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return err
		}
	}
	// All paths are absolute, because sshd executes itself anew for each connection. No context ends it: down does.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), m.SSHD, "-D", "-f", m.path("conf", "sshd_config"), "-E", m.path("log", "sshd.log"))
	cmd.Env = hostEnv
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	tick := time.NewTicker(hostPoll)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", m.HostPort))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			said, _ := os.ReadFile(m.path("log", "sshd.log"))
			return fmt.Errorf("sshd does not come up: %w: %s", err, said)
		case <-tick.C:
		}
	}
}
