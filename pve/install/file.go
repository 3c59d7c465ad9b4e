package install

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// file is a text that is wholly ours.
type file struct {
	path, mode, owner, content string
	test                       string // what put checks
	needs                      string // a program without which it makes no sense
}

func (f file) what() string { return f.path }

func (f file) paste() string {
	s := heredoc(f.path, f.content) + "chmod " + f.mode + " " + f.path
	if f.test == "sudoers" {
		s += "\nvisudo -cf " + f.path
	}
	return s
}

// heredoc writes a text into a file.
func heredoc(path, content string) string { return "cat > " + path + " <<'EOF'\n" + content + "EOF\n" }

func (f file) check(ctx context.Context, m *Machine) (state, string, error) {
	seen, err := m.look(ctx, f.path, true)
	switch {
	case err != nil:
		return "", "", err
	case seen.kind == "absent":
		return isMissing, "", nil
	case seen.kind != "file":
		return isOther, "it is no file", nil
	case string(seen.content) != f.content && !ours(seen.content):
		return isOther, "somebody else made it", nil
	case string(seen.content) != f.content:
		return isOther, "another content", nil
	}
	is, why := attributes(seen, f.mode, f.owner)
	return is, why, nil
}

func attributes(seen sight, mode, owner string) (state, string) {
	switch {
	case seen.mode != mode:
		return isOther, fmt.Sprintf("mode %s instead of %s", seen.mode, mode)
	case owner != "-" && seen.owner != owner:
		return isOther, fmt.Sprintf("owner %s instead of %s", seen.owner, owner)
	}
	return isOK, ""
}

func ours(content []byte) bool { return bytes.HasPrefix(content, []byte(mark)) }

func (f file) make(ctx context.Context, m *Machine) (string, error) {
	if f.needs != "" && !m.has(f.needs) {
		return "", problem("%s has no %s; install sudo there, then run this again.", m.at(), f.needs)
	}
	seen, err := m.look(ctx, f.path, true)
	switch {
	case err != nil:
		return "", err
	case seen.kind != "absent" && seen.kind != "file":
		return "", problem("%s on %s is no file; move it away, then run this again.", f.path, m.at())
	case seen.kind == "file" && !ours(seen.content):
		return "", problem("%s on %s was made by somebody else; compare it with the printed plan and move it away, then run this again.", f.path, m.at())
	}
	return "", m.put(ctx, put{path: seen.at, mode: f.mode, owner: f.owner, data: []byte(f.content), may: seen.is(), check: f.test})
}

func (f file) remove(ctx context.Context, m *Machine) (state, string, error) {
	seen, err := m.look(ctx, f.path, true)
	switch {
	case err != nil:
		return "", "", err
	case seen.kind == "absent":
		return absent, "", nil
	case seen.kind != "file" || !ours(seen.content):
		return kept, "somebody else made it", nil
	}
	return removed, "", m.run(ctx, "drop", seen.at, nil, seen.at, seen.sum)
}

// folder is a folder whose content is not ours to remove.
type folder struct{ path, mode, owner string }

func (f folder) what() string { return f.path }

func (f folder) paste() string { return "install -d -m " + f.mode + " " + f.path }

func (f folder) check(ctx context.Context, m *Machine) (state, string, error) {
	seen, err := m.look(ctx, f.path, false)
	switch {
	case err != nil:
		return "", "", err
	case seen.kind == "absent":
		return isMissing, "", nil
	case seen.kind != "folder":
		return isOther, "it is no folder", nil
	}
	is, why := attributes(seen, f.mode, f.owner)
	return is, why, nil
}

func (f folder) make(ctx context.Context, m *Machine) (string, error) {
	return "", m.run(ctx, "folder", f.path, nil, f.path, f.mode, f.owner)
}

func (f folder) remove(ctx context.Context, m *Machine) (state, string, error) {
	seen, err := m.look(ctx, f.path, false)
	if err == nil && seen.kind == "absent" {
		return absent, "", nil
	}
	return kept, "the journal and the evidence in it are yours", err
}

// program is the gate itself.
type program struct {
	path, owner string
	program     Program
}

func (p program) what() string { return p.path }

// paste relies on the copy of [Plan.String]. A running program cannot be written over, but replaced.
func (p program) paste() string {
	return fmt.Sprintf("chmod 755 %s.new && mv -f %s.new %s", p.path, p.path, p.path)
}

func (p program) check(ctx context.Context, m *Machine) (state, string, error) {
	seen, err := m.look(ctx, p.path, false)
	switch {
	case err != nil:
		return "", "", err
	case seen.kind == "absent":
		return isMissing, "", nil
	case seen.kind != "file":
		return isOther, "it is no file", nil
	case seen.sum != p.program.sum():
		return isOther, fmt.Sprintf("another build, sha256 %.12s instead of %.12s", seen.sum, p.program.sum()), nil
	}
	is, why := attributes(seen, "755", p.owner)
	if is == isOK {
		why = fmt.Sprintf("%s, sha256 %.12s", p.program.Machine, seen.sum)
	}
	return is, why, nil
}

func (p program) make(ctx context.Context, m *Machine) (string, error) {
	seen, err := m.look(ctx, p.path, false)
	switch {
	case err != nil:
		return "", err
	case seen.kind != "absent" && seen.kind != "file":
		return "", problem("%s on %s is no file; move it away, then run this again.", p.path, m.at())
	case p.program.Machine != m.Arch:
		return "", problem("%s is %s, but %s is for %s. Name the right pve-gate with --binary.", m.at(), m.Arch, p.program.File, p.program.Machine)
	}
	err = m.put(ctx, put{path: seen.at, mode: "755", owner: p.owner, data: p.program.data, may: seen.is(), check: "program"})
	return fmt.Sprintf("%s, sha256 %.12s", p.program.Machine, p.program.sum()), err
}

func (p program) remove(ctx context.Context, m *Machine) (state, string, error) {
	seen, err := m.look(ctx, p.path, false)
	switch {
	case err != nil:
		return "", "", err
	case seen.kind == "absent":
		return absent, "", nil
	case seen.kind != "file":
		return kept, "it is no file", nil
	}
	s, err := m.script(ctx, "ours", nil, seen.at)
	if err != nil {
		return "", "", err
	}
	if !strings.HasPrefix(string(s.out), "pve-gate ") {
		return kept, "it does not say that it is a pve-gate", nil
	}
	return removed, "", m.run(ctx, "drop", seen.at, nil, seen.at, seen.sum)
}
