package install

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// fields reads lines of name=value up to the first empty line, and returns what follows it.
func fields(out []byte) (map[string][]string, []byte) {
	head, rest, _ := bytes.Cut(out, []byte("\n\n"))
	all := map[string][]string{}
	for line := range strings.Lines(string(head)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			all[name] = append(all[name], printable(value))
		}
	}
	return all, rest
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// tools are the programs that the scripts need everywhere.
var tools = []string{"mktemp", "sha256sum", "stat", "readlink", "chmod", "chown", "mv", "cat"}

// survey asks the machine who it is, and whether we are root there.
func (m *Machine) survey(ctx context.Context) error {
	plain := *m
	plain.Sudo = false // which would hide where we come from
	s, err := plain.script(ctx, "survey", nil, slices.Concat(tools, []string{"qm", "visudo", "useradd", "getent"})...)
	if err != nil {
		return err
	}
	f, _ := fields(s.out)
	m.Arch, m.missing = first(f["arch"]), f["missing"]
	m.OpenSSH = strings.TrimPrefix(first(f["openssh"]), "OpenSSH_")
	client, _, _ := strings.Cut(first(f["client"]), " ")
	m.Client, _ = netip.ParseAddr(client) // the zero value is nobody's
	if kernel := first(f["kernel"]); kernel != "Linux" {
		return problem("%s is no Linux machine (%q).", m.at(), kernel)
	}
	for _, tool := range tools {
		if slices.Contains(m.missing, tool) {
			return problem("%s has no program %s; install it there, or paste the printed commands.", m.at(), tool)
		}
	}
	uid := first(f["uid"])
	if m.Sudo {
		if s, err = m.script(ctx, "survey", nil); err != nil {
			return err
		}
		f, _ = fields(s.out)
		uid = first(f["uid"])
	}
	if uid != "0" && m.Root == "" {
		return problem("%s is not root on %s (uid %s). Log in as root, such as root@%s.", m.User, m.at(), uid, m.Address.Addr())
	}
	return nil
}

// has says whether the machine has a program that was asked for.
func (m *Machine) has(program string) bool { return !slices.Contains(m.missing, program) }

// sight is what stands at a path.
type sight struct {
	kind    string // absent, file, folder, other, or dangling
	link    string // what the path says if it is a symlink
	at      string // the path behind all symlinks
	mode    string // 600
	owner   string // root:root
	sum     string
	content []byte
}

func (m *Machine) look(ctx context.Context, path string, content bool) (sight, error) {
	what := "sum"
	if content {
		what = "content"
	}
	s, err := m.script(ctx, "look", nil, path, what)
	if err == nil && s.exit != 0 {
		err = m.wrong(path, s)
	}
	if err != nil {
		return sight{}, err
	}
	f, rest := fields(s.out)
	seen := sight{
		kind: first(f["kind"]), link: first(f["link"]), at: first(f["at"]), mode: first(f["mode"]),
		owner: first(f["owner"]), sum: first(f["sum"]), content: rest,
	}
	if content && seen.kind == "file" && checksum(seen.content) != seen.sum {
		return sight{}, problem("%s on %s changes while it is read; run this again.", path, m.at())
	}
	return seen, nil
}

// is is what [put] may replace.
func (s sight) is() string {
	if s.kind == "absent" {
		return s.kind
	}
	return s.sum
}

// put is a file as it shall be.
type put struct {
	path, mode, owner string
	data              []byte
	may               string // the sha256 of what may be replaced, or absent
	check             string // none, sudoers, program
}

func (m *Machine) put(ctx context.Context, p put) error {
	s, err := m.script(ctx, "put", bytes.NewReader(p.data), p.path, p.mode, p.owner, checksum(p.data), p.may, p.check)
	if err == nil && s.exit != 0 {
		err = m.wrong(p.path, s)
	}
	return err
}

// run is a script whose only answer is that it worked. path is what it is about.
func (m *Machine) run(ctx context.Context, name, path string, stdin io.Reader, args ...string) error {
	s, err := m.script(ctx, name, stdin, args...)
	if err == nil && s.exit != 0 {
		err = m.wrong(path, s)
	}
	return err
}

// The exit codes of the scripts.
const (
	exitHalf    = 71
	exitMoved   = 72
	exitBefore  = 73
	exitAfter   = 74
	exitReload  = 75
	exitNoShell = 76
	exitInUse   = 77
)

// wrong says why a script failed, in words that lead to the mend.
func (m *Machine) wrong(path string, s said) error {
	why := lastLine(s.err)
	where := path + " on " + m.at()
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s.err, w) })
	}
	switch {
	case s.exit == exitHalf:
		return problem("%s did not arrive whole; nothing was replaced. Run this again.", where)
	case s.exit == exitMoved:
		return problem("%s was changed by somebody else just now; nothing was replaced. Run this again.", where)
	case s.exit == exitBefore:
		return problem("sshd on %s refuses its own configuration already, so it was not touched: %s", m.at(), why)
	case s.exit == exitAfter:
		return problem("sshd on %s does not take %s: %s. It was taken back.", m.at(), path, why)
	case s.exit == exitReload:
		return problem("sshd on %s could not be told to read %s: %s. It was taken back.", m.at(), path, why)
	case s.exit == exitNoShell:
		return problem("%s has no /bin/bash; install bash there first.", m.at())
	case s.exit == exitInUse:
		return problem("the user %s stays: %s", where, lastLine(strings.TrimSpace(printable(string(s.out)))))
	case has("No space left", "Disk quota exceeded"):
		return problem("the disk is full at %s; what stood there is as it was. Make room, then run this again.", where)
	case has("Read-only file system"):
		return problem("the file system of %s is read-only, which the kernel does after an error of the disk (see dmesg there); nothing was changed.", where)
	case has("not connected"):
		return problem("%s does not answer: the file system below is dead. On a Proxmox host, see `systemctl status pve-cluster`.", where)
	case strings.Contains(path, "/etc/pve/") && has("Permission denied", "Input/output error", "Device or resource busy"):
		return problem("%s cannot be written: /etc/pve is read-only while the cluster has no quorum (`pvecm status`). "+
			"What stood there is as it was. Run this again when there is quorum.", where)
	case has("Operation not permitted"):
		return problem("%s is protected (%s), perhaps by chattr +i; nothing was changed.", where, why)
	}
	return problem("%s: %s (exit %d)", where, why, s.exit)
}
