package install_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/internal/sshdtest"
	"bgbot/pve/install"
)

func TestLoginsThatAreNoLogin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	gate := sshdtest.New(t, sshdtest.Options{KeyOptions: sshdtest.ForcedCommand("sh", "-c", "echo rejected; exit 2")})
	stranger := sshdtest.New(t, sshdtest.Options{})
	at := func(s *sshdtest.Server) install.Login {
		a := r.host.login("pve")
		a.Address = netip.MustParseAddrPort(s.Address)
		return a
	}
	for _, c := range []struct {
		name, want string
		login      func() (install.Login, ssh.PublicKey)
	}{
		{"a forced command", `pve (ADDRESS) lets ME in but runs no commands for it (exit 2). It must be a login with a POSIX shell, not a forced command. It said: "rejected"`, func() (install.Login, ssh.PublicKey) {
			l := at(gate)
			l.Signers = []ssh.Signer{gate.ClientSigner}
			return l, gate.HostKey
		}},
		{"a key that is not let in", "pve (ADDRESS) refuses the login of ME with 1 key. `ssh ME@127.0.0.1` must work first; name the key with --identity.", func() (install.Login, ssh.PublicKey) {
			return at(stranger), stranger.HostKey
		}},
		{"another machine", "pve (ADDRESS) does not show the host key that is known of it (" + ssh.FingerprintSHA256(r.host.sshd.HostKey) + "). If it was reinstalled, compare its key at its console and mend known_hosts or bgbot.yaml; if not, someone may be in between. Nothing was sent.", func() (install.Login, ssh.PublicKey) {
			return at(stranger), r.host.sshd.HostKey
		}},
		{"sudo that asks", "pve (ADDRESS) wants a password for sudo of ME. Log in as root, or paste the printed commands there.", func() (install.Login, ssh.PublicKey) {
			l := r.host.login("pve")
			l.Sudo = true
			r.host.write("no-sudo", "")
			return l, r.host.sshd.HostKey
		}},
		{"nobody there", "pve (ADDRESS) cannot be reached from here: connect: connection refused.", func() (install.Login, ssh.PublicKey) {
			l := at(stranger)
			stranger.Stop()
			return l, stranger.HostKey
		}},
	} {
		l, key := c.login()
		_, err := install.Reach(r.context(), l, install.Trust{Pin: key}, nil, &r.out)
		want := strings.ReplaceAll(strings.ReplaceAll(c.want, "ADDRESS", l.Address.String()), "ME", l.User)
		t.Log(c.name)
		r.sentence(err, want)
	}
}

func TestALoginShellThatTalks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host = newMachine(t, r.host.root, "root/.ssh/authorized_keys")
	r.options.Host = r.host.address()
	r.host.noisy()
	r.apply(r.options)
	if good, said := r.check(r.options); !good {
		t.Errorf("check:\n%s", said)
	}
}

func TestAHangIsCutAndToldApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.work(r.options)
	fifo := r.host.at("stuck")
	r.host.shell("mkfifo " + fifo)
	r.host.program("stat", "read never <"+fifo)
	t.Cleanup(func() { _ = os.WriteFile(fifo, nil, 0) }) // lets go of what hangs there
	ctx, cancel := context.WithTimeoutCause(context.Background(), 2*time.Second, errors.New("you gave up"))
	defer cancel()
	r.host.must(os.MkdirAll(r.host.at("usr/local/sbin/pve-gate"), 0o755)) // something to look at
	_, _, err := w.Apply(ctx)
	r.sentence(err, "The connection to HOST ended in the middle (you gave up). What became of the last step is not known; run this again, it goes on from where things stand.")
}

func TestThroughTheHost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.work(r.options)
	l := r.vm.login("devvm")
	l.Through = w.Host
	m, err := install.Reach(r.context(), l, install.Trust{Accept: []string{r.vm.sshd.Address + "=" + ssh.FingerprintSHA256(r.vm.sshd.HostKey)}}, nil, &r.out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	w.VM = m
	good, _, err := w.Apply(r.context())
	if err != nil || !good {
		t.Fatalf("%v\n%s", err, r.out.String())
	}
	r.says(r.out.String(), "- skipped    login with the new key")

	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = r.vm.login("devvm")
	l.Address = netip.MustParseAddrPort(dead.Addr().String())
	_ = dead.Close()
	r.out.Reset()
	_, err = install.Reach(r.context(), l, install.Trust{}, w.Host, &r.out)
	if err == nil || !strings.Contains(r.out.String(), "devvm is not reached from here; going through the Proxmox host\n") {
		t.Errorf("%v\n%s", err, r.out.String())
	}
}
