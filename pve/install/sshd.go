package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reloadLimit is for sshd to listen again.
const reloadLimit = 20 * time.Second

// sshd is a file that sshd on the host includes.
type sshd struct {
	path, conf string // conf is "-" for sshd's own
	content    string
	from       From
}

func (o Options) sshd() sshd {
	conf := "-"
	if o.Root != "" {
		conf = o.path("/etc/ssh/sshd_config")
	}
	return sshd{path: o.path("/etc/ssh/sshd_config.d/50-bgbot.conf"), conf: conf, content: o.sshdText(), from: o.From}
}

// exempts says whether sshd knows PerSourcePenaltyExemptList; one that does not would refuse to start with it.
func exempts(version string) bool {
	major, minor, _ := strings.Cut(version, ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor[:min(len(minor), strings.IndexFunc(minor+".", func(r rune) bool { return r < '0' || r > '9' }))])
	return a > 9 || a == 9 && b >= 8
}

func (o Options) sshdText() string {
	var s strings.Builder
	s.WriteString(mark + "\n")
	match := "Match User root"
	if !o.From.any {
		match += " Address " + o.From.String()
		exempt := "PerSourcePenaltyExemptList " + o.From.String() + "\n"
		s.WriteString("# The bot looks often and must not be locked out for it. OpenSSH has this from 9.8 on, and older ones refuse it.\n")
		if !exempts(o.OpenSSH) {
			exempt = "#" + exempt
		}
		s.WriteString(exempt)
	}
	s.WriteString(match + "\n" +
		"    # A phone that lost its signal keeps its session for hours otherwise.\n" +
		"    ClientAliveInterval 15\n" +
		"    ClientAliveCountMax 3\n")
	if !o.From.any {
		s.WriteString("    # Nothing but forced commands for root from the bot's address. Only if you, and the other nodes of a Proxmox\n" +
			"    # cluster, never log in as root from there: this would shut you out.\n" +
			"    #PermitRootLogin forced-commands-only\n")
	}
	return s.String()
}

func (d sshd) what() string { return d.path }

func (d sshd) paste() string {
	return heredoc(d.path, d.content) + "sshd -t && systemctl reload ssh"
}

func (d sshd) check(ctx context.Context, m *Machine) (state, string, error) {
	seen, err := m.look(ctx, d.path, true)
	switch {
	case err != nil:
		return "", "", err
	case seen.kind == "absent":
		return isMissing, "", nil
	case !ours(seen.content):
		return isOther, "somebody else made it", nil
	case string(seen.content) != d.content:
		return isOther, "another content", nil
	}
	s, err := m.script(ctx, "effect", nil, "root", d.from.example().String(), d.conf)
	switch {
	case err != nil:
		return "", "", err
	case s.exit != 0:
		return isOther, "sshd does not say what it would do: " + lastLine(s.err), nil
	case !slices.Contains(strings.Split(string(s.out), "\n"), "clientaliveinterval 15"):
		return isOther, "sshd does not heed it", nil
	}
	return isOK, "", nil
}

func (d sshd) make(ctx context.Context, m *Machine) (string, error) {
	folder, err := m.look(ctx, path.Dir(d.path), false)
	if err != nil {
		return "", err
	}
	seen, err := m.look(ctx, d.path, true)
	switch {
	case err != nil:
		return "", err
	case folder.kind != "folder":
		return "", problem("sshd on %s has no %s; leave --sshd out and put the printed lines into its sshd_config.", m.at(), path.Dir(d.path))
	case seen.kind != "absent" && !ours(seen.content):
		return "", problem("%s on %s was made by somebody else; move it away, then run this again.", d.path, m.at())
	}
	if err := d.swap(ctx, m, []byte(d.content)); err != nil {
		return "", err
	}
	// A file that sshd takes may still shut us out; as long as this session lives it can be taken back.
	if err := m.another(ctx); err != nil {
		return "", problem("With %s there is no new login at %s, so it was taken back.%s %s", d.path, m.at(), and(d.swap(ctx, m, seen.content)), sentence(err))
	}
	if is, why, err := d.check(ctx, m); err != nil || is != isOK {
		return "", errors.Join(err, problem("%s on %s was taken back: %s.%s Its sshd_config must say, before any Match: Include %s/*.conf",
			d.path, m.at(), why, and(d.swap(ctx, m, seen.content)), path.Dir(d.path)))
	}
	return "sshd has read it", nil
}

// another tries a second login. A sshd that was told to read its configuration executes itself anew, and for a moment
// nobody listens (measured with 9.2).
func (m *Machine) another(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	tick := time.NewTicker(reloadLimit / 40)
	defer tick.Stop()
	for {
		again, err := m.open(ctx)
		if err == nil {
			return again.Close()
		}
		if _, nobody := errors.AsType[*unreached](err); !nobody {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// and is what became of taking something back, if that failed as well.
func and(err error) string {
	if err == nil {
		return ""
	}
	return " And that failed: " + err.Error()
}

func (d sshd) swap(ctx context.Context, m *Machine, content []byte) error {
	return m.run(ctx, "sshd", d.path, bytes.NewReader(content), d.path, checksum(content), d.conf)
}

func (d sshd) remove(ctx context.Context, m *Machine) (state, string, error) {
	seen, err := m.look(ctx, d.path, true)
	switch {
	case err != nil:
		return "", "", err
	case seen.kind == "absent":
		return absent, "", nil
	case seen.kind != "file" || !ours(seen.content):
		return kept, "somebody else made it", nil
	}
	return removed, "sshd has read the rest", d.swap(ctx, m, nil)
}

// advice is what sshd could be told, for a plan that does not do it.
func (o Options) advice() string {
	return fmt.Sprintf("Advice, not done without --sshd: %s\n%s", o.path("/etc/ssh/sshd_config.d/50-bgbot.conf"), o.sshdText())
}
