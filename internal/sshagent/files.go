package sshagent

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"golang.org/x/crypto/ssh"
)

//go:embed *.tmpl
var templateFS embed.FS

var templates = template.Must(template.ParseFS(templateFS, "*.tmpl"))

// page is what the templates are filled with. Every word in it has passed [Alias.check] or barePath.
type page struct {
	Aliases     []entry
	Hosts       string
	Config      string
	KnownHosts  string
	Socket      string
	SSHPath     string
	TimeoutPath string
}

type entry struct {
	Name, User, Host, Port, KeyFile string
	Seconds                         int
}

// makeDir makes dir for this user alone, or takes an existing one over.
func (a *Agent) makeDir(dir string) error {
	if !barePath.MatchString(dir) {
		return errors.New("the folder's name has characters that ssh would read as something else; use letters, digits and ._-")
	}
	_, err := os.Lstat(dir)
	if errors.Is(err, os.ErrNotExist) {
		a.made = append(a.made, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // a folder needs its x bit
}

func (a *Agent) writeFiles() error {
	p, err := a.page()
	if err != nil {
		return err
	}
	if err := a.makeDir(filepath.Join(a.dir, "bin")); err != nil {
		return err
	}
	if err := a.write("known_hosts", 0o600, a.knownHosts()); err != nil {
		return err
	}
	for _, al := range a.aliases {
		line := bytes.TrimSpace(ssh.MarshalAuthorizedKey(al.Signer.PublicKey()))
		if err := a.write(al.Name+".pub", 0o600, fmt.Appendf(line, " %s\n", al.Name)); err != nil {
			return err
		}
	}
	if err := a.render("ssh_config.tmpl", "config", 0o600, p); err != nil {
		return err
	}
	for _, name := range []string{"scp", "sftp", "rsync"} {
		if err := a.render("other.sh.tmpl", "bin/"+name, 0o700, p); err != nil {
			return err
		}
	}
	return a.render("ssh.sh.tmpl", "bin/ssh", 0o700, p)
}

func (a *Agent) page() (page, error) {
	p := page{
		Hosts: a.names(), Socket: a.socket,
		Config: filepath.Join(a.dir, "config"), KnownHosts: filepath.Join(a.dir, "known_hosts"),
	}
	for name, path := range map[string]*string{"ssh": &p.SSHPath, "timeout": &p.TimeoutPath} {
		found, err := exec.LookPath(name)
		if err != nil {
			return page{}, fmt.Errorf("the program %s is missing; install openssh-client and coreutils", name)
		}
		if *path, err = filepath.Abs(found); err != nil {
			return page{}, err
		}
	}
	for _, path := range []string{p.SSHPath, p.TimeoutPath, p.Socket} {
		if !barePath.MatchString(path) {
			return page{}, fmt.Errorf("the path %q has characters that a shell would read as something else", path)
		}
	}
	for _, al := range a.aliases {
		host, port, err := net.SplitHostPort(al.Address)
		if err != nil {
			return page{}, err
		}
		limit := al.Timeout
		if limit == 0 {
			limit = defaultTimeout
		}
		p.Aliases = append(p.Aliases, entry{
			Name: al.Name, User: al.User, Host: host, Port: port,
			KeyFile: filepath.Join(a.dir, al.Name+".pub"), Seconds: int(limit / time.Second),
		})
	}
	return p, nil
}

// knownHosts pins the aliases by name: with HostKeyAlias ssh looks for that, and for no address and port.
func (a *Agent) knownHosts() []byte {
	var b bytes.Buffer
	for _, al := range a.aliases {
		if al.HostKey != nil {
			fmt.Fprintf(&b, "%s %s", al.Name, ssh.MarshalAuthorizedKey(al.HostKey))
		}
		if al.HostCA != nil {
			fmt.Fprintf(&b, "@cert-authority %s %s", al.Name, ssh.MarshalAuthorizedKey(al.HostCA))
		}
	}
	return b.Bytes()
}

func (a *Agent) render(tmpl, name string, mode os.FileMode, p page) error {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, tmpl, p); err != nil {
		return err
	}
	return a.write(name, mode, b.Bytes())
}

// write replaces the file name in the agent's folder. It removes what is there first, so that no link is followed and
// no former mode stays.
func (a *Agent) write(name string, mode os.FileMode, text []byte) error {
	path := filepath.Join(a.dir, filepath.FromSlash(name))
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	a.made = append(a.made, path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// remove takes back what Open has made, the newest first, so that folders are empty when their turn comes. A folder
// into which somebody else has put something stays.
func (a *Agent) remove() {
	for _, path := range slices.Backward(a.made) {
		_ = os.Remove(path)
	}
	a.made = nil
}

// names lists the aliases as a person reads them: "devvm, pve".
func (a *Agent) names() string {
	var names []string
	for _, al := range a.aliases {
		names = append(names, al.Name)
	}
	return strings.Join(names, ", ")
}
