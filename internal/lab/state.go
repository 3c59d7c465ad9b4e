package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// state is the lab's folder and what the processes in it must know. Its layout is that of a Proxmox host:
//
//	bin/      qm, ha-manager, pve-gate, qemu-system-x86_64: links to our own binary
//	run/      /run, with qemu-server/102.pid and 102.qmp, and what the gate keeps there
//	gate/     the gate's own state
//	conf/ lock/ disk/ log/
//	fault/    files whose presence makes qm misbehave: qm-hang, start-fail, ha
//	owner     locked while the lab lives
type state struct {
	dir string

	GuestPort int           `json:"guest_port"`
	Boot      time.Duration `json:"boot"` // how long the guest takes to come up
	Template  string        `json:"template"`
	Temporary bool          `json:"temporary"` // the last one out removes the folder
	VMClient  string        `json:"vm_client"` // keys that may log in to the guest, as in authorized_keys
	Watcher   string        `json:"watcher"`   // the lab's own logins, which are not counted as commands

	// Of a real VM only.
	HostPort int    `json:"host_port"` // of the host's sshd
	SSHD     string `json:"sshd"`
	QEMU     string `json:"qemu"` // empty if the VM is simulated
	Kernel   string `json:"kernel"`
}

func (s *state) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *state) runFile(vm int, ext string) string {
	return s.path("run", "qemu-server", fmt.Sprintf("%d.%s", vm, ext))
}

func (s *state) confFile(vm int) string { return s.path("conf", fmt.Sprintf("%d.conf", vm)) }

func (s *state) bin(name string) string { return s.path("bin", name) }

// fault tells whether the named misbehaviour is asked for.
func (s *state) fault(name string) bool {
	_, err := os.Stat(s.path("fault", name))
	return err == nil
}

func (s *state) save() error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(s.path("lab.json"), data, 0o600)
}

func loadState(dir string) (*state, error) {
	s := &state{dir: dir}
	data, err := os.ReadFile(s.path("lab.json"))
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err != nil {
		return nil, fmt.Errorf("not a lab: %w", err)
	}
	return s, nil
}

// sweepAfter is longer than a lab takes to lock its folder, or to end after its owner.
const sweepAfter = 10 * time.Minute

// longestDir keeps the sockets in it below the 107 bytes that a unix socket path may have.
const longestDir = 80

// newState makes the folder. own says that it is a temporary one of ours.
func newState(dir, executable string) (s *state, own bool, err error) {
	if executable == "" {
		if executable, err = os.Executable(); err != nil {
			return nil, false, err
		}
	}
	if own = dir == ""; own {
		base := os.TempDir()
		if len(base) > longestDir-20 {
			base = "/tmp"
		}
		sweep(base)
		dir, err = os.MkdirTemp(base, "bgbot-lab-")
	} else if dir, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, own, err
	}
	s = &state{dir: dir}
	if len(dir) > longestDir {
		return s, own, fmt.Errorf("the path %s is too long for sockets; choose one of at most %d bytes", dir, longestDir)
	}
	for _, d := range []string{"bin", "run/qemu-server", "gate", "conf", "lock", "disk", "log", "fault", "keys"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return s, own, err
		}
	}
	for name := range applets {
		if err := os.Symlink(executable, s.bin(name)); err != nil && !os.IsExist(err) {
			return s, own, err
		}
	}
	return s, own, nil
}

// sweep removes the folders of labs that were killed when no process was there to do it.
func sweep(base string) {
	old, _ := filepath.Glob(filepath.Join(base, "bgbot-lab-*"))
	for _, dir := range old {
		info, err := os.Stat(dir)
		if err == nil && time.Since(info.ModTime()) > sweepAfter && !ownerAlive(&state{dir: dir}) {
			_ = os.RemoveAll(dir)
		}
	}
}

// prepare makes the folder and the keys, and takes the port of the guest.
func (l *Lab) prepare(context.Context) error {
	s, own, err := newState(l.opts.Dir, l.opts.Executable)
	if s != nil && own {
		l.onClose(func() error { return os.RemoveAll(s.dir) })
	}
	if err != nil {
		return err
	}
	l.state, s.Temporary = s, own
	if l.owner, err = lockOwner(s); err != nil {
		return err
	}
	l.onClose(l.letGo)
	if l.port, err = reservePort(); err != nil {
		return err
	}
	l.onClose(l.port.release)
	if l.keys, err = newKeys(s); err != nil {
		return err
	}
	s.GuestPort, s.Template, s.Boot = l.port.number, l.scenario.image, time.Second
	if l.opts.Fast {
		s.Boot = 200 * time.Millisecond
	}
	s.VMClient, s.Watcher = string(authorized(l.keys.vmClient)), string(authorized(l.keys.watcher))
	return nil
}

// writeVM writes the configuration of a simulated VM.
func (l *Lab) writeVM(context.Context) error {
	return l.state.write("agent: 1\ncores: 4\nmemory: 16384\nname: %s\nnet0: user,hostfwd=tcp:127.0.0.1:%d-:22\nscsi0: lab:vm-%d-disk-0,size=300G\n",
		vmName, l.state.GuestPort, vmid)
}

func (s *state) write(format string, args ...any) error {
	return errors.Join(os.WriteFile(s.confFile(vmid), fmt.Appendf(nil, format, args...), 0o600), s.save())
}

// lockOwner takes the lock that the kernel releases when this process ends, however it ends.
func lockOwner(s *state) (*os.File, error) {
	f, err := os.OpenFile(s.path("owner"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another drill uses %s", s.dir), f.Close())
	}
	return f, nil
}

// letGo tells the other processes that the lab has ended.
func (l *Lab) letGo() error {
	if err := l.owner.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// ownerGone blocks until the lab that owns s has ended.
func ownerGone(s *state) error { return flockOwner(s, unix.LOCK_SH) }

// ownerAlive tells whether the lab that owns s still runs.
func ownerAlive(s *state) bool {
	return errors.Is(flockOwner(s, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func flockOwner(s *state, how int) error {
	f, err := os.Open(s.path("owner"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func authorized(key ssh.Signer) []byte { return ssh.MarshalAuthorizedKey(key.PublicKey()) }

// keys of the lab; all are new for each lab. Those that another process needs, the simulated guest or a bgbot that is
// practised with, are also on disk.
type keys struct{ gateClient, gateReadOnly, gateHost, vmClient, vmHost, watcher ssh.Signer }

// vmHostKey is the guest's, for the process that plays it.
func (s *state) vmHostKey() (ssh.Signer, error) {
	data, err := os.ReadFile(s.path("keys", "vm_host"))
	if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(data)
}

func newKeys(s *state) (keys, error) {
	var k keys
	for _, to := range []struct {
		signer *ssh.Signer
		file   string
	}{{&k.gateClient, "gate_client"}, {&k.gateReadOnly, ""}, {&k.gateHost, "gate_host"}, {&k.vmClient, "vm_client"}, {&k.vmHost, "vm_host"}, {&k.watcher, ""}} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return k, err
		}
		if *to.signer, err = ssh.NewSignerFromKey(private); err != nil {
			return k, err
		}
		if to.file == "" {
			continue
		}
		block, err := ssh.MarshalPrivateKey(private, "")
		if err != nil {
			return k, err
		}
		if err := os.WriteFile(s.path("keys", to.file), pem.EncodeToMemory(block), 0o600); err != nil {
			return k, err
		}
	}
	return k, nil
}
