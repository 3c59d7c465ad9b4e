package install

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keys is our block in an authorized_keys.
type keys struct {
	home  string // or, if that is "",
	user  string // whose home it is
	block block
	keys  []ssh.PublicKey
	links bool   // a symlink is followed
	owner string // of the file and its folder
}

func (k keys) what() string {
	if k.home == "" {
		return "~" + k.user + "/.ssh/authorized_keys"
	}
	return k.home + "/.ssh/authorized_keys"
}

func (k keys) paste() string {
	file := k.what()
	lines := []string{
		"# a block of bgbot that is there already: delete it first",
		"mkdir -p -m 700 " + path.Dir(file),
		fmt.Sprintf(`[ -z "$(tail -c 1 %s 2>/dev/null)" ] || echo >> %s`, file, file),
		"cat >> " + file + " <<'EOF'\n" + k.block.text() + "EOF",
		"chmod 600 " + file,
	}
	if k.user != "" && k.user != "root" {
		lines = append(lines, fmt.Sprintf("chown -R %s: %s", k.user, path.Dir(file)))
	}
	return strings.Join(lines, "\n")
}

// where is the file; "" if there is no such user.
func (k keys) where(ctx context.Context, m *Machine) (string, error) {
	home := k.home
	if home == "" {
		a, err := m.account(ctx, k.user)
		if err != nil {
			return "", err
		}
		if home = a.home; home == "" {
			return "", nil
		}
		if path.Clean(home) != home || !path.IsAbs(home) || home == "/" {
			return "", problem("the home of %s on %s is %q; give the user a folder of its own.", k.user, m.at(), home)
		}
	}
	return home + "/.ssh/authorized_keys", nil
}

// see reads the file and says what it would be with our block in it.
func (k keys) see(ctx context.Context, m *Machine) (file string, seen sight, want []byte, err error) {
	file, err = k.where(ctx, m)
	if err != nil || file == "" {
		return file, sight{kind: "absent"}, []byte(k.block.text()), err
	}
	if seen, err = m.look(ctx, file, true); err != nil {
		return file, seen, nil, err
	}
	switch {
	case seen.kind == "dangling":
		return file, seen, nil, problem("%s on %s points to %s, which is not there. On a Proxmox host that is /etc/pve without its file system: "+
			"see `systemctl status pve-cluster`.", file, m.at(), seen.link)
	case seen.link != "" && !k.links:
		return file, seen, nil, problem("%s on %s is a symlink to %s; make it a file, then run this again.", file, m.at(), strconv.Quote(seen.link))
	case seen.kind != "absent" && seen.kind != "file":
		return file, seen, nil, problem("%s on %s is no file; move it away, then run this again.", file, m.at())
	}
	if n := k.block.stranger(seen.content, k.keys); n > 0 {
		return file, seen, nil, problem("line %d of %s on %s lets the bot's key in as well, outside of bgbot's block, and sshd takes the first line that fits. "+
			"Remove that line, then run this again.", n, file, m.at())
	}
	want, err = k.block.put(seen.content)
	if err != nil {
		err = problem("%s on %s: %s", file, m.at(), err)
	}
	return file, seen, want, err
}

func (k keys) check(ctx context.Context, m *Machine) (state, string, error) {
	_, seen, want, err := k.see(ctx, m)
	if err != nil {
		return "", "", err
	}
	if bytes.Equal(want, seen.content) {
		mode, _ := strconv.ParseUint(seen.mode, 8, 32)
		if mode&0o077 != 0 {
			return isOther, "mode " + seen.mode + " instead of 600", nil
		}
		return isOK, count(len(k.block.lines), "key"), nil
	}
	if !bytes.Contains(seen.content, []byte("# bgbot "+k.block.name+" begin:")) {
		return isMissing, "no block " + k.block.name, nil
	}
	return isOther, "the block " + k.block.name + " is another one", nil
}

func (k keys) make(ctx context.Context, m *Machine) (string, error) {
	file, seen, want, err := k.see(ctx, m)
	if err != nil {
		return "", err
	}
	if file == "" {
		return "", problem("%s has no user %s", m.at(), k.user)
	}
	if seen.link == "" { // else the folder is Proxmox's
		if err := m.run(ctx, "folder", path.Dir(file), nil, path.Dir(file), "700", k.owner); err != nil {
			return "", err
		}
	}
	err = m.put(ctx, put{path: seen.at, mode: "600", owner: k.owner, data: want, may: seen.is(), check: "none"})
	text := count(len(k.block.lines), "key")
	if seen.link != "" {
		text += ", in " + seen.at
	}
	return text, err
}

func (k keys) remove(ctx context.Context, m *Machine) (state, string, error) {
	file, err := k.where(ctx, m)
	if err != nil || file == "" {
		return absent, "", err
	}
	seen, err := m.look(ctx, file, true)
	if err != nil || seen.kind != "file" {
		return absent, "", err
	}
	want, err := k.block.drop(seen.content)
	if err != nil {
		return "", "", problem("%s on %s: %s", file, m.at(), err)
	}
	if bytes.Equal(want, seen.content) {
		return absent, "no block " + k.block.name, nil
	}
	err = m.put(ctx, put{path: seen.at, mode: "600", owner: k.owner, data: want, may: seen.is(), check: "none"})
	return removed, "the block " + k.block.name + "; the other lines are as they were", err
}

// others are the VMs that have a block of ours on the machine too.
func (k keys) others(ctx context.Context, m *Machine) ([]string, error) {
	file, err := k.where(ctx, m)
	if err != nil || file == "" {
		return nil, err
	}
	seen, err := m.look(ctx, file, true)
	return k.block.others(seen.content), err
}
