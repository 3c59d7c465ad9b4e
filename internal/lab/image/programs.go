package image

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const agentPath = "/usr/sbin/qemu-ga"

// programs are those of this machine that the guest gets, by where they lie in it.
type programs map[string]string

// wanted are programs by their path in the guest, busybox first. What busybox has too is taken from Debian where the
// agent's commands would see the difference.
var wanted = []string{
	"/bin/busybox",
	"/usr/sbin/sshd", "/bin/bash",
	"/usr/bin/df", "/usr/bin/du", "/usr/bin/env", "/usr/bin/ls", "/usr/bin/sort", "/usr/bin/stat", "/usr/bin/timeout",
	"/usr/bin/dmesg", "/usr/bin/fallocate", "/usr/bin/flock", "/usr/bin/findmnt", "/usr/bin/lsblk",
	"/usr/bin/free", "/usr/bin/ps", "/usr/bin/top", "/usr/bin/uptime", "/usr/bin/vmstat", "/usr/bin/lsof",
}

// since some releases sshd is several programs.
var perhaps = []string{"/usr/lib/openssh/sshd-session", "/usr/lib/openssh/sshd-auth"}

func findPrograms() (programs, error) {
	found := programs{}
	for _, path := range wanted {
		host := findProgram(path)
		if host == "" {
			return nil, &Missing{"this machine has no " + filepath.Base(path)}
		}
		found[path] = host
	}
	for _, path := range perhaps {
		if _, err := os.Stat(path); err == nil {
			found[path] = path
		}
	}
	return found, nil
}

// findProgram looks where Debian has it; on an older or merged system that is /bin or /usr/bin.
func findProgram(path string) string {
	for _, dir := range []string{filepath.Dir(path), "/usr/bin", "/bin", "/usr/sbin", "/sbin"} {
		name := filepath.Join(dir, filepath.Base(path))
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			return name
		}
	}
	return ""
}

func (p programs) files() (all []string) {
	for _, path := range append(append([]string{}, wanted...), perhaps...) {
		if p[path] != "" {
			all = append(all, p[path])
		}
	}
	return all
}

// programs adds the programs, their libraries, and busybox under all its names. The agent's file lies in dir for a moment.
func (a archive) programs(ctx context.Context, dir string, p programs, agent []byte) error {
	file := filepath.Join(dir, "qemu-ga")
	if err := os.WriteFile(file, agent, 0o700); err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	libraries, err := libraries(ctx, append(p.files(), file))
	if err != nil {
		return err
	}
	names, err := exec.CommandContext(ctx, p["/bin/busybox"], "--list").Output()
	if err != nil {
		return &Missing{"busybox does not run: " + err.Error()}
	}
	for name := range strings.FieldsSeq(string(names)) {
		a.link("/bin/"+name, "busybox")
	}
	p[agentPath] = file
	for _, library := range libraries {
		p[library] = library
	}
	for path, host := range p {
		data, err := os.ReadFile(host)
		if err != nil {
			return err
		}
		delete(a, "/bin/"+filepath.Base(path)) // of busybox, which would be found too
		a.program(path, data)
	}
	return nil
}

var (
	libraryLine = regexp.MustCompile(`(?m)^\t(?:\S+ => )?(/\S+) \(0x`)
	missingLine = regexp.MustCompile(`(?m)^\t(\S+) => not found`)
)

// libraries are the shared libraries of all programs, by where the loader looks for them. Of a static program ldd says so
// and fails.
func libraries(ctx context.Context, programs []string) (all []string, err error) {
	cmd := exec.CommandContext(ctx, "ldd", programs...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if missing := missingLine.FindSubmatch(out); missing != nil {
		return nil, &Missing{fmt.Sprintf("the library %s is not on this machine", missing[1])}
	}
	seen := map[string]bool{}
	for _, m := range libraryLine.FindAllStringSubmatch(string(out), -1) {
		if !seen[m[1]] {
			seen[m[1]] = true
			all = append(all, m[1])
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("ldd: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return all, nil
}
