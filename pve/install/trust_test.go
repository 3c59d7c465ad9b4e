package install_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"bgbot/internal/sshdtest"
	"bgbot/pve/install"
)

// A machine is known by the first of: the configuration, known_hosts, a fingerprint given, a person who is asked.
func TestWhoVouchesForAHostKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host = newMachine(t, r.host.root, "root/.ssh/authorized_keys")
	l, key := r.host.login("pve"), r.host.sshd.HostKey
	other := sshdtest.New(t, sshdtest.Options{}).HostKey
	shown, at := ssh.FingerprintSHA256(key), "pve ("+l.Address.String()+")"
	mine := l.Address.String() + "=" + shown
	where := knownhosts.Normalize(l.Address.String())
	file := func(lines ...string) []string {
		path := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{filepath.Join(t.TempDir(), "none"), path}
	}
	line := func(k ssh.PublicKey) string { return knownhosts.Line([]string{where}, k) }
	say := func(yes bool) func(string) bool {
		return func(question string) bool {
			if want := "Nobody here knows " + at + " yet. Its host key is\n  " + shown + "\nDoes its console say the same (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)?"; question != want {
				t.Errorf("asked %q, want %q", question, want)
			}
			return yes
		}
	}
	ecdsa := "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="
	const changed = " does not show the host key that is known of it ("
	for _, c := range []struct {
		name, want string // "known by …", or the error
		trust      install.Trust
	}{
		{"the configuration", "known by the configuration", install.Trust{Pin: key}},
		{"the configuration against known_hosts", changed, install.Trust{Pin: other, KnownHosts: file(line(key))}},
		{"known_hosts", "known by known_hosts", install.Trust{KnownHosts: file("", line(key))}},
		{"hashed", "known by known_hosts", install.Trust{KnownHosts: file(knownhosts.HashHostname(where) + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))}},
		{"a key of another kind first", "known by known_hosts", install.Trust{KnownHosts: file(where+" "+ecdsa, line(key))}},
		{"lines that nobody understands", "known by known_hosts", install.Trust{KnownHosts: file(where+" ssh-dss AAAAB3NzaC1kc3M= old", "@nonsense", "x", line(key)+"\r")}},
		{"known_hosts has another key", changed, install.Trust{KnownHosts: file(line(other)), Accept: []string{mine}, Ask: say(true)}},
		{"only another kind is known", " offers no host key of the kind that is known of it (ecdsa-sha2-nistp256).", install.Trust{KnownHosts: file(where + " " + ecdsa), Ask: say(true)}},
		{"a revoked key", "was not accepted. Nothing was done.", install.Trust{KnownHosts: file(line(key), "@revoked "+line(key)), Ask: say(false)}},
		{"another machine's line", "known by you", install.Trust{KnownHosts: file(knownhosts.Line([]string{"127.0.0.1"}, other)), Ask: say(true)}},
		{"a fingerprint", "known by --accept-host-key", install.Trust{Accept: []string{l.Address.String() + "=SHA256:no", mine}}},
		{"another fingerprint", "shows the host key " + shown + ", which --accept-host-key does not name. Nothing was sent.", install.Trust{Accept: []string{l.Address.String() + "=SHA256:no"}, Ask: say(true)}},
		{"a fingerprint of another machine", "known by you", install.Trust{Accept: []string{"127.0.0.1:1=" + shown, shown}, Ask: say(true)}},
		{"a certificate authority of known_hosts, which is no machine", "known by you", install.Trust{KnownHosts: file("@cert-authority " + line(key)), Ask: say(true)}},
		{"a person", "known by you", install.Trust{Ask: say(true)}},
		{"a person who says no", "The host key of " + at + " was not accepted. Nothing was done.", install.Trust{Ask: say(false)}},
		{"nobody", "Nobody here knows " + at + " yet. Its host key is " + shown + ". Compare it at its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then say --accept-host-key " + mine + ".", install.Trust{}},
	} {
		r.out.Reset()
		m, err := install.Reach(r.context(), l, c.trust, nil, &r.out)
		got := r.out.String()
		if err != nil {
			got = err.Error()
		} else {
			_ = m.Close()
		}
		if !strings.Contains(got, c.want) || (err == nil) != strings.HasPrefix(c.want, "known by") {
			t.Errorf("%s: %v, %q\nwant %q", c.name, err, got, c.want)
		}
	}
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	read := func(file string) (ssh.Signer, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		return ssh.ParsePrivateKey(text)
	}
	if _, _, err := install.Identities(t.Context(), "", home, read); err == nil || !strings.Contains(err.Error(), "There is no key to log in with") {
		t.Error(err)
	}
	s := sshdtest.New(t, sshdtest.Options{})
	text, err := os.ReadFile(s.Client.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(home+"/.ssh", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(home+"/.ssh/id_ed25519", text, 0o600); err != nil {
		t.Fatal(err)
	}
	signers, release, err := install.Identities(t.Context(), home+"/no-agent", home, read)
	if err != nil || len(signers) != 1 || ssh.FingerprintSHA256(signers[0].PublicKey()) != ssh.FingerprintSHA256(s.ClientSigner.PublicKey()) {
		t.Fatalf("%v, %v", signers, err)
	}
	release()
}
