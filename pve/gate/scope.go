package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bgbot/pve"
	"bgbot/pve/gate/host"

	"golang.org/x/sys/unix"
)

var scopeName = regexp.MustCompile(`^(\d+)\.scope$`)

// vmOf is the number of the VM that a cgroup is of, as in /qemu.slice/102.scope; empty if it is no VM's.
func vmOf(cgroup string) string {
	if found := scopeName.FindStringSubmatch(filepath.Base(cgroup)); found != nil {
		return found[1]
	}
	return ""
}

// scopeFolder is where a process of our VM has its cgroup; empty if it is in none of the VM's own.
func (g *gate) scopeFolder(pid int) string {
	path := host.Cgroup(pid)
	if vmOf(path) != strconv.Itoa(g.vmid) {
		return ""
	}
	for _, root := range g.cgroups() {
		if folder := filepath.Join(root, path); exists(filepath.Join(folder, "cgroup.events")) {
			return folder
		}
	}
	return ""
}

// scopes are the folders to look into: where the last QEMU was seen, and where Proxmox puts one.
func (g *gate) scopes() []string {
	all := []string{g.scope()}
	if noted := g.noted().Scope; noted != "" && !slices.Contains(all, noted) {
		all = append(all, noted)
	}
	return all
}

func exists(path string) bool {
	_, err := host.Within(host.ProcLimit, func() (fs.FileInfo, error) { return os.Stat(path) })
	return err == nil
}

// emptyScope waits until nothing is left in the VM's scope, the cgroup that Proxmox starts it in, and names what stays.
// Helpers such as swtpm and virtiofsd live there beside QEMU; a stop or a cycle ends them with it. saw says what was
// there to look into.
func (g *gate) emptyScope(ctx context.Context) (left []string, saw string) {
	empty := func(context.Context) bool { left, saw = g.inScopes(); return len(left) == 0 }
	if until(ctx, scopeLimit, empty) || g.verb == pve.Start {
		return left, saw
	}
	g.step("scope", pve.StepStart, "ending %s", strings.Join(left, ", "))
	var failed error
	for _, scope := range g.scopes() {
		_, err := host.Within(host.ProcLimit, func() (struct{}, error) {
			return struct{}{}, os.WriteFile(filepath.Join(scope, "cgroup.kill"), []byte("1"), 0o600) // cgroup-v2, "cgroup.kill"
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
		}
	}
	switch {
	case failed != nil:
		g.step("scope", pve.StepFail, "%v", failed)
	case until(ctx, scopeLimit, empty):
		g.step("scope", pve.StepOK, "empty")
	default:
		g.step("scope", pve.StepFail, "still there")
	}
	return left, saw
}

// inScopes names the processes of the VM's scopes. A scope that is not there holds nothing, and proves as much only where
// QEMU was seen in one, since the kernel takes an empty one away; the words say what was seen.
func (g *gate) inScopes() (left []string, saw string) {
	saw = "no scope"
	switch {
	case g.noted().Scope != "":
		saw = "scope gone"
	case !slices.ContainsFunc(g.cgroups(), func(root string) bool { return exists(filepath.Join(root, "cgroup.controllers")) }):
		saw = "scope not visible" // the first version of cgroups, see cgroups(7)
	}
	for _, scope := range g.scopes() {
		names, found := inScope(scope)
		if left = append(left, names...); found && len(names) == 0 {
			saw = "scope empty"
		}
	}
	return left, saw
}

// inScope names the processes of a scope. The kernel's own word for "empty" counts, as the list leaves out what has no
// thread in this cgroup itself.
func inScope(scope string) (names []string, found bool) {
	events, err := host.Within(host.ProcLimit, func() ([]byte, error) { return os.ReadFile(filepath.Join(scope, "cgroup.events")) })
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV): // gone, or going at this moment
		return nil, false
	case err != nil:
		return []string{"what cannot be read: " + err.Error()}, true
	case slices.Contains(strings.Split(string(events), "\n"), "populated 0"):
		return nil, true
	}
	pids, _ := host.Within(host.ProcLimit, func() ([]byte, error) { return os.ReadFile(filepath.Join(scope, "cgroup.procs")) })
	for word := range strings.FieldsSeq(string(pids)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			continue
		}
		st, _ := host.ReadStat(pid)
		names = append(names, fmt.Sprintf("%d (%s)", pid, printable(st.Name)))
	}
	if len(names) == 0 {
		names = []string{"a process that is not listed"}
	}
	return names, true
}
