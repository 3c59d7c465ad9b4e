package agentrun

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// cage lists what the CLI and its commands can touch; all else is out of their reach, whoever bgbot runs as. There are
// two, one in the other: the commands are the model's, and may not have what the CLI needs for itself: its memory, where
// the model's key is, the transcripts of all sessions, and the snippets that it runs in each shell.
type cage struct {
	Read  []string // and execute
	Write []string // and read and execute
	CLI   []string // the same, for the CLI alone
	Bash  string   // the real one
}

// system is what programs need of a machine. Of /etc, /dev and /sys only parts: the rest has keys, disks and settings.
func system() (read, write []string) {
	read = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/proc", "/sys/devices/system", "/sys/fs/cgroup"}
	for _, name := range []string{
		"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "alternatives", "passwd", "group", "nsswitch.conf", "resolv.conf",
		"hosts", "host.conf", "hostname", "gai.conf", "services", "protocols", "networks", "localtime", "timezone", "locale.alias",
		"ssl/certs", "ssl/cert.pem", "ssl/openssl.cnf", "ca-certificates", "ca-certificates.conf", "pki/tls/certs",
		"pki/ca-trust/extracted", "crypto-policies", "ssh/ssh_config", "ssh/ssh_config.d", "ssh/moduli", "bash.bashrc", "bashrc",
		"profile", "profile.d", "inputrc", "terminfo", "mime.types", "os-release", "debian_version", "alpine-release", "claude-code",
		"gitconfig", "wgetrc", "login.defs", "shells", "lsb-release", "machine-id", "python3", "perl", "vim", "magic", "rpc",
	} {
		read = append(read, filepath.Join("/etc", name))
	}
	// systemd-resolved and others write it anew, as another file, so the folder is granted.
	if at, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil && within(at, "/run") {
		read = append(read, filepath.Dir(at))
	}
	// No terminals: the others of bgbot's user are among them, with what is typed there. It has none of its own.
	return read, []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
}

// cage is what a session may touch.
func (c *Config) cage(p place, cli string) (cage, error) {
	bash, err := findBash()
	if err != nil {
		return cage{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return cage{}, err
	}
	read, write := system()
	read = append(read, p.root, self, bash, program(cli))
	read = append(read, c.Readable...)
	if c.Workspace != "" {
		read = append(read, c.Workspace)
	}
	for _, key := range []string{"NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if path := c.Env[key]; filepath.IsAbs(path) {
			read = append(read, path)
		}
	}
	return cage{Read: read, Write: append(write, p.work(), p.tmp()), CLI: []string{c.transcripts()}, Bash: bash}, nil
}

func findBash() (string, error) {
	for _, path := range []string{"/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash", "bash"} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", errors.New("bash is missing: install it")
}

// program is what must be readable to run a program: its file, or the folder of packages if npm has installed it.
func program(path string) string {
	if at, err := filepath.EvalSymlinks(path); err == nil {
		path = at
	}
	const packages = "/node_modules/"
	if i := strings.Index(path, packages); i >= 0 {
		name, _, _ := strings.Cut(path[i+len(packages):], "/") // a scope has the parts of one program
		return filepath.Join(path[:i], packages, name)
	}
	return path
}

// build writes what the shim reads, and the shell that locks itself in.
func (c *Config) build(p place, cli string) error {
	cg, err := c.cage(p, cli)
	if err != nil {
		return err
	}
	rules, err := json.Marshal(cg)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Dir(p.shell())); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(p.shell()), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(p.rules(), rules, 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.Symlink(self, p.shell())
}

// enter locks the calling thread into the cage written in a file; it must exec next.
func enter(rules string, isCLI bool) (cage, error) {
	data, err := os.ReadFile(rules) //nolint:gosec // named by bgbot, or beside the link that was called
	if err != nil {
		return cage{}, err
	}
	var c cage
	if err := json.Unmarshal(data, &c); err != nil {
		return cage{}, err
	}
	write := c.Write
	if isCLI {
		write = slices.Concat(write, c.CLI)
	}
	return c, restrict(landlockABI(), c.Read, write)
}

// Caged says whether the agent's commands are kept away from bgbot's memory, from its processes and from files that are not
// theirs, and are found when they hide. Its error is for a person, and names all that is missing; the agent works without.
func (r *Runner) Caged() error {
	var missing []string
	for _, err := range []error{cageable(landlockABI()), filterable(runtime.GOARCH), brandable(), r.apart()} {
		if err, ok := errors.AsType[*Ended](err); ok {
			missing = append(missing, err.Reason)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &Ended{Reason: strings.Join(missing, " ")}
}

// apart says whether no secret lies where the commands may read.
func (r *Runner) apart() error {
	if landlockABI() == 0 {
		return nil // they may read all
	}
	read, write := system()
	for _, secret := range r.cfg.Private {
		if secret == "" {
			continue
		}
		if at, err := filepath.EvalSymlinks(secret); err == nil {
			secret = at
		}
		if at, err := filepath.Abs(secret); err == nil {
			secret = at
		}
		for _, open := range slices.Concat(read, write, r.cfg.Readable, []string{r.cfg.Workspace}) {
			if open != "" && within(secret, open) {
				return &Ended{Reason: fmt.Sprintf("%s lies in %s, where the agent's commands may read: move it, for example to /etc/bgbot.", secret, open)}
			}
		}
	}
	return nil
}

func cageable(abi int) error {
	switch {
	case abi == 0:
		return &Ended{Reason: "This kernel has no Landlock (5.13 or later, with landlock among lsm=): the agent's commands can read what " +
			"bgbot's user can, the keys included. Run bgbot on a kernel that has it."}
	case abi < 3:
		return &Ended{Reason: "This kernel's Landlock is of before 6.2: the agent's commands can read nothing that is not theirs, but they can " +
			"empty files that bgbot's user may write. Run bgbot on a newer kernel."}
	case abi < 6:
		return &Ended{Reason: "This kernel's Landlock is of before 6.12: the agent's commands can read nothing that is not theirs, but they can " +
			"end bgbot and other processes of its user. Run bgbot on a newer kernel."}
	}
	return nil
}
