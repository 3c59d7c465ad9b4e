package image

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Own is what one lab's guest has of its own.
type Own struct {
	HostKey []byte // of its sshd, as ssh-keygen writes it
	HostPub []byte // the line of ssh_host_ed25519_key.pub
	Agent   []byte // the key that logs in as the user breakglass and whose commands are told to the host
	Watcher []byte // the lab's own key, for the same user
}

// What the guest is apart from its programs: the root file system's files, and the first content of its disk.
var (
	//go:embed tree
	tree embed.FS
	//go:embed disk
	disk embed.FS
)

// Initrd writes the initramfs of one guest: the base, and behind it the guest's files and keys.
func (i Image) Initrd(path string, own Own) error {
	a := archive{}
	err := fs.WalkDir(tree, "tree", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := tree.ReadFile(name)
		if bytes.HasPrefix(data, []byte("#!")) {
			a.program(strings.TrimPrefix(name, "tree"), data)
		} else {
			a.text(strings.TrimPrefix(name, "tree"), string(data))
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/var", "/tmp", "/root", "/home/breakglass", "/run/sshd", "/run/log/journal", "/run/units"} {
		a.dir(dir)
	}
	a.link("/etc/t3-serve", "/var/lib/t3-serve/etc")
	a.link("/etc/mtab", "/proc/mounts")
	a.link("/usr/bin/t3-cache", "/bin/busybox")
	a.secret("/etc/ssh/ssh_host_ed25519_key", own.HostKey)
	a.text("/etc/ssh/ssh_host_ed25519_key.pub", string(own.HostPub))
	a.text("/etc/ssh/authorized_keys", fmt.Sprintf("command=\"/usr/lib/lab/agent\" %s\n%s\n", bytes.TrimSpace(own.Agent), bytes.TrimSpace(own.Watcher)))
	base, err := os.ReadFile(i.Base)
	if err != nil {
		return err
	}
	b := bytes.NewBuffer(base)
	if err := a.write(b); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// diskSize is the size of the guest's disk; the file holds only what is used of it.
const diskSize = 1 << 30

// Disk makes the guest's disk, an ext4 file system that it mounts at /var.
func Disk(ctx context.Context, path string) error {
	content, err := os.MkdirTemp(filepath.Dir(path), "content-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(content) }()
	var made []error
	for _, dir := range []string{"lib/t3-serve/www", "lib/containerd", "log/t3-serve", "tmp", "cache"} {
		made = append(made, os.MkdirAll(filepath.Join(content, dir), 0o755))
	}
	inside, err := fs.Sub(disk, "disk")
	if err = errors.Join(append(made, err)...); err != nil {
		return err
	}
	if err := os.CopyFS(content, inside); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err == nil {
		err = errors.Join(file.Truncate(diskSize), file.Close())
	}
	if err != nil {
		return err
	}
	// A small journal, and no blocks kept for root, who is everybody in the guest.
	cmd := exec.CommandContext(ctx, findProgram("/usr/sbin/mkfs.ext4"), "-q", "-F", "-m", "0", "-J", "size=4", "-E", "root_owner=0:0", "-d", content, path)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
