package sshagent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// signatures is how many logins the agent has signed, for all aliases.
func (a *Agent) signatures() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, of := range a.signed {
		n += of
	}
	return n
}

// host is a real sshd. A Go listener starts `sshd -i` for each connection, so there is no port to guess.
type host struct {
	t       *testing.T
	dir     string
	address string
	user    string
	wg      sync.WaitGroup

	mu  sync.Mutex
	key ssh.Signer // of the host
}

// newHost starts a host that lets login in as the user who runs the test.
func newHost(t *testing.T, login ssh.PublicKey) *host {
	t.Helper()
	sshd := needProgram(t, "sshd")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // its privilege separation wants this folder, which the package's init script makes
		_ = os.MkdirAll("/run/sshd", 0o755)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: t.TempDir(), address: l.Addr().String(), user: me.Username}
	h.write("authorized_keys", string(ssh.MarshalAuthorizedKey(login)))
	h.newHostKey()
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { h.serve(sshd, c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		h.wg.Wait()
	})
	return h
}

func (h *host) serve(sshd string, c *net.TCPConn) {
	f, err := c.File()
	_ = c.Close()
	if err != nil {
		return
	}
	defer f.Close()
	cmd := exec.CommandContext(h.t.Context(), sshd, "-i", "-e", "-f", filepath.Join(h.dir, "sshd_config"))
	cmd.Stdin, cmd.Stdout = f, f
	_ = cmd.Run()
}

// newHostKey gives the host another key, as a rebuild would.
func (h *host) newHostKey() {
	h.t.Helper()
	private, signer := newKeyPair(h.t)
	h.write("host_key", private)
	h.write("sshd_config", strings.Join([]string{
		"HostKey " + filepath.Join(h.dir, "host_key"),
		"AuthorizedKeysFile " + filepath.Join(h.dir, "authorized_keys"),
		"StrictModes no", "UsePAM no", "PasswordAuthentication no", "PermitRootLogin yes", "PidFile none", "LogLevel ERROR", "",
	}, "\n"))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.key = signer
}

// certify gives the host a certificate by ca for the principals.
func (h *host) certify(ca ssh.Signer, principals ...string) {
	h.t.Helper()
	cert := hostCert(h.t, h.key.PublicKey(), ca, principals...)
	h.write("host_key-cert.pub", string(ssh.MarshalAuthorizedKey(cert)))
	config, err := os.ReadFile(filepath.Join(h.dir, "sshd_config"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("sshd_config", string(config)+"HostCertificate "+filepath.Join(h.dir, "host_key-cert.pub")+"\n")
}

func (h *host) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) alias(name string, key ssh.Signer) Alias {
	return Alias{Name: name, Address: h.address, User: h.user, HostKey: h.key.PublicKey(), Signer: key}
}

func hostCert(t *testing.T, key ssh.PublicKey, ca ssh.Signer, principals ...string) *ssh.Certificate {
	t.Helper()
	cert := &ssh.Certificate{
		Key: key, CertType: ssh.HostCert, KeyId: "test", ValidPrincipals: principals,
		ValidAfter: 1, ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return cert
}

func newKeyPair(t *testing.T) (private string, signer ssh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), signer
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key := newKeyPair(t)
	return key
}

// needProgram finds a real program; where tests must be complete, a missing one is a failure.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing; install openssh-client and openssh-server", name)
	}
	t.Skipf("NOT TESTED: %s is missing", name)
	return ""
}

// journal is a log that a test can read.
type journal struct {
	t   *testing.T
	mu  sync.Mutex
	all bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all.Write(p)
	return j.t.Output().Write(p)
}

func (j *journal) want(text string) {
	j.t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !strings.Contains(j.all.String(), text) {
		j.t.Errorf("the log has no %q; it has:\n%s", text, j.all.String())
	}
}

// shell is a child of an agent, with nothing in its environment but what the agent gives it.
type shell struct {
	t     *testing.T
	agent *Agent
	log   *journal
	home  string
}

// open starts an active agent.
func open(t *testing.T, aliases ...Alias) *shell {
	t.Helper()
	log := &journal{t: t}
	a, err := Open(filepath.Join(t.TempDir(), "ssh"), aliases, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	a.Activate()
	return &shell{t: t, agent: a, log: log, home: t.TempDir()}
}

// command is a shell command that is not started yet.
func (s *shell) command(command string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), "/bin/sh", "-c", command)
	cmd.Dir = s.home
	cmd.Env = []string{"HOME=" + s.home}
	for k, v := range s.agent.Env("/usr/local/bin:/usr/bin:/bin:/usr/sbin") {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

// run runs a shell command and returns what it wrote and its exit code.
func (s *shell) run(command string) (stdout, stderr string, exit int) {
	s.t.Helper()
	cmd := s.command(command)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	_ = cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// wantRefused runs a command that must fail without a signature, for the reason that the log names.
func (s *shell) wantRefused(command, reason string) {
	s.t.Helper()
	before := s.agent.signatures()
	out, errs, exit := s.run(command)
	if exit == 0 {
		s.t.Errorf("%s worked: %s", command, out)
	}
	if n := s.agent.signatures() - before; n != 0 {
		s.t.Errorf("%s got %d signatures", command, n)
	}
	s.t.Logf("%s: %s", command, errs)
	if reason != "" {
		s.log.want(reason)
	}
}
