// Package sshdtest runs a real OpenSSH server on 127.0.0.1 for a test: fresh host keys, keys with forced commands, an
// ssh(1) command line to match. It knows nothing of what runs behind it.
package sshdtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// startLimit is generous, since a test machine may be busy.
const startLimit = 10 * time.Second

// Options are what a server is like. The zero value has one ed25519 host key and one client key without options.
type Options struct {
	KeyOptions string   // of the client key's line in authorized_keys, such as ForcedCommand(…)
	ECDSA      bool     // offers an ecdsa host key besides, which Go's ssh client would prefer
	Principals []string // offers a host certificate for these names besides, signed by HostCA
	Config     []string // further lines of sshd_config
}

// Server is a running sshd. Its methods are for the test's own goroutine.
type Server struct {
	Address      string
	User         string // the user who runs the test; nobody else can log in
	HostKey      ssh.PublicKey
	HostCA       ssh.PublicKey // if Options.Principals
	ClientSigner ssh.Signer
	Client       Key // the same key for ssh(1)

	t       testing.TB
	options Options
	dir     string
	sshd    string
	port    int
	cmd     *exec.Cmd
	keys    int
}

// Key is a key that may log in.
type Key struct {
	Signer ssh.Signer
	File   string // the private key
}

// New starts a server that ends with the test. Without an sshd the test is skipped, or fails if CI is set.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	sshd, err := findSSHD()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("sshdtest: %v; install openssh-server", err)
		}
		t.Skipf("sshdtest: SKIPPED, NOTHING TESTED: %v; install openssh-server", err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal("sshdtest:", err)
	}
	s := &Server{t: t, options: o, dir: t.TempDir(), sshd: sshd, User: me.Username}
	if os.Geteuid() == 0 { // sshd's privilege separation wants it, and a container has not run the service's set-up
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal("sshdtest:", err)
		}
	}
	s.NewHostKey()
	s.Client = s.AddKey(o.KeyOptions)
	s.ClientSigner = s.Client.Signer
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// ForcedCommand is the options of a key that may run argv and nothing else. The words reach the program as they are,
// through both the quoting of authorized_keys and the login shell.
func ForcedCommand(argv ...string) string {
	var line strings.Builder
	for i, word := range argv {
		if i > 0 {
			line.WriteByte(' ')
		}
		line.WriteString("'" + strings.ReplaceAll(word, "'", `'\''`) + "'")
	}
	return `restrict,command="` + strings.ReplaceAll(line.String(), `"`, `\"`) + `"`
}

// AddKey lets one more key in, with options of its own.
func (s *Server) AddKey(options string) Key {
	s.t.Helper()
	s.keys++
	k := s.newKey(fmt.Sprintf("client%d", s.keys), "ed25519")
	line := strings.TrimSpace(options + " " + string(ssh.MarshalAuthorizedKey(k.Signer.PublicKey())))
	f, err := os.OpenFile(filepath.Join(s.dir, "authorized_keys"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal("sshdtest:", err)
	}
	if _, err := fmt.Fprintln(f, line); err != nil {
		s.t.Fatal("sshdtest:", err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal("sshdtest:", err)
	}
	return k
}

// NewHostKey gives the server another identity, from the next Start on.
func (s *Server) NewHostKey() {
	s.t.Helper()
	host := s.newKey("host_ed25519", "ed25519")
	s.HostKey = host.Signer.PublicKey()
	if s.options.ECDSA {
		s.newKey("host_ecdsa", "ecdsa")
	}
	if len(s.options.Principals) > 0 {
		s.HostCA = s.newKey("ca", "ed25519").Signer.PublicKey()
		s.command("ssh-keygen", "-q", "-s", filepath.Join(s.dir, "ca"), "-I", "sshdtest", "-h",
			"-n", strings.Join(s.options.Principals, ","), host.File+".pub")
	}
}

// Start starts a stopped server, on the port that it had before if it had one.
func (s *Server) Start() {
	s.t.Helper()
	for range 10 {
		if s.port == 0 {
			s.port = freePort(s.t)
		}
		s.Address = fmt.Sprintf("127.0.0.1:%d", s.port)
		s.write("sshd_config", s.config())
		s.write("known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", s.port, ssh.MarshalAuthorizedKey(s.HostKey)))
		if s.launch() {
			return
		}
		s.port = 0
	}
	log, _ := os.ReadFile(s.log())
	s.t.Fatalf("sshdtest: sshd does not come up; its log:\n%s", log)
}

// Stop ends the server and its connections. What the connections had started goes on, as on a real host.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	connections := children(s.cmd.Process.Pid)
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
	endSSHD(connections)
}

// Drop ends the connections and keeps the server.
func (s *Server) Drop() { endSSHD(children(s.cmd.Process.Pid)) }

// SSH is an ssh(1) command line for the key, which reads no configuration of the machine. args are the words behind the
// destination; options go into SSHOptions.
func (s *Server) SSH(ctx context.Context, k Key, args ...string) *exec.Cmd {
	return s.SSHOptions(ctx, k, nil, args...)
}

// SSHOptions is SSH with further options before the destination.
func (s *Server) SSHOptions(ctx context.Context, k Key, options []string, args ...string) *exec.Cmd {
	argv := []string{
		"-F", "none", "-i", k.File, "-p", fmt.Sprint(s.port), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlgorithms=" + s.HostKey.Type(),
		"-o", "UserKnownHostsFile=" + filepath.Join(s.dir, "known_hosts"), "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR",
	}
	argv = append(append(append(argv, options...), s.User+"@127.0.0.1"), args...)
	return exec.CommandContext(ctx, "ssh", argv...)
}

func (s *Server) log() string { return filepath.Join(s.dir, "sshd.log") }

func (s *Server) config() string {
	lines := []string{
		"ListenAddress 127.0.0.1",
		fmt.Sprintf("Port %d", s.port),
		"HostKey " + filepath.Join(s.dir, "host_ed25519"),
		"PidFile none",
		"AuthorizedKeysFile " + filepath.Join(s.dir, "authorized_keys"),
		"StrictModes no",
		"UsePAM no",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password",
		"AcceptEnv LANG LC_*", // Debian's default, which a gate must withstand
		"LogLevel VERBOSE",
	}
	if s.options.ECDSA {
		lines = append(lines, "HostKey "+filepath.Join(s.dir, "host_ecdsa"))
	}
	if len(s.options.Principals) > 0 {
		lines = append(lines, "HostCertificate "+filepath.Join(s.dir, "host_ed25519-cert.pub"))
	}
	return strings.Join(append(lines, s.options.Config...), "\n") + "\n"
}

// launch starts sshd and waits until it speaks. False means that it ended, as it does when the port was taken meanwhile.
func (s *Server) launch() bool {
	// The path is absolute, because sshd executes itself anew for each connection. It outlives the test's context, and
	// is ended in Cleanup.
	s.cmd = exec.Command(s.sshd, "-D", "-f", filepath.Join(s.dir, "sshd_config"), "-E", s.log()) //nolint:noctx // see above
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal("sshdtest:", err)
	}
	deadline, tick := time.After(startLimit), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		if speaksSSH(s.t.Context(), s.Address) && alive(s.cmd.Process.Pid) {
			return true
		}
		select {
		case <-tick.C:
		case <-deadline:
			_ = s.cmd.Process.Kill()
		}
		if !alive(s.cmd.Process.Pid) {
			_ = s.cmd.Wait()
			s.cmd = nil
			return false
		}
	}
}

// newKey makes a key pair in the server's folder.
func (s *Server) newKey(name, kind string) Key {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	_, _ = os.Remove(file), os.Remove(file+".pub")
	s.command("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "sshdtest", "-f", file)
	pem, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal("sshdtest:", err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		s.t.Fatal("sshdtest:", err)
	}
	return Key{Signer: signer, File: file}
}

func (s *Server) command(name string, args ...string) {
	s.t.Helper()
	if out, err := exec.CommandContext(s.t.Context(), name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("sshdtest: %s: %v: %s", name, err, out)
	}
}

func (s *Server) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal("sshdtest:", err)
	}
}

func findSSHD() (string, error) {
	for _, path := range []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no sshd on this machine")
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal("sshdtest:", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func speaksSSH(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	banner := make([]byte, 4)
	_, err = conn.Read(banner)
	return err == nil && string(banner) == "SSH-"
}
