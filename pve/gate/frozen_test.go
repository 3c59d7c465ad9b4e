package gate_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bgbot/pve"
	machine "bgbot/pve/gate/host"
)

// frozen is a file system whose writers hang in the kernel, in state D, until it is thawed: the storage that does not
// answer. thaw may be called twice.
func frozen(t *testing.T) (folder string, freeze, thaw func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI has to run as root: a stuck disk is made of a loop device")
		}
		t.Skip("NOT TESTED, a QEMU in state D: only root can mount and freeze a file system")
	}
	dir := t.TempDir()
	disk, folder := filepath.Join(dir, "disk"), filepath.Join(dir, "mnt")
	do := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
	do("truncate", "-s", "32M", disk)
	do("mkfs.ext4", "-q", "-F", disk)
	do("mkdir", folder)
	do("mount", "-o", "loop", disk, folder)
	freeze, thaw = freezer(t, folder)
	t.Cleanup(func() {
		thaw()
		await(t, "the end of who uses the disk", func() bool { return exec.Command("umount", folder).Run() == nil })
	})
	return folder, freeze, thaw
}

// freezer has a shell freeze a folder, and thaw it when its input ends: by thaw, or by the end of these tests, however
// they end. A file system that stays frozen would take the machine along.
func freezer(t *testing.T, folder string) (freeze, thaw func()) {
	t.Helper()
	shell := exec.Command("/bin/sh", "-c", `fsfreeze -f "$0" && echo; read x; fsfreeze -u "$0"`, folder)
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // whoever ends the tests by their group does not end it
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	is := false
	freeze = func() {
		t.Helper()
		if err := shell.Start(); err != nil {
			t.Fatal(err)
		}
		is = true
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal("it cannot be frozen: ", err)
		}
	}
	thaw = func() {
		if !is {
			return
		}
		is = false
		_ = in.Close()
		if err := shell.Wait(); err != nil {
			t.Error("it is not thawed: ", err)
		}
	}
	return freeze, thaw
}

// The incident that costs a disk: qm says stopped and removes the pid file while a thread of QEMU still hangs in a write.
func TestAQEMUThatHangsInTheStorageGetsNoSecondBesideIt(t *testing.T) {
	t.Parallel()
	folder, freeze, thaw := frozen(t)
	h := newHost(t).withVM("-writer", filepath.Join(folder, "blocks"))
	t.Cleanup(h.end) // before the disk is taken away
	pid := h.pid()
	freeze()
	await(t, "a thread in state D", func() bool { return len(machine.Stuck(pid)) > 0 })

	r := h.run("cycle").want(pve.Refused, fmt.Sprintf("QEMU %d of VM 102 is not provably dead; nothing was started.", pid))
	r.wantTrail(before + "stop ok, quit fail, term fail, kill fail, stopped fail")
	if !strings.Contains(r.result.Text, "hang in the kernel") || !strings.Contains(r.result.Text, "When the host's storage answers again, say start.") {
		t.Errorf("got %q", r.result.Text)
	}
	if r.result.Status != "stuck" || r.result.Advice != "" {
		t.Errorf("status %q, and the verdict advises %q: %s", r.result.Status, r.result.Advice, r.result.Verdict)
	}
	if h.pid() != 0 {
		t.Fatal("this is not the case to test: the pid file is there")
	}
	h.run("start").want(pve.Refused, fmt.Sprintf("QEMU %d of VM 102 is not provably dead; nothing was started.", pid))
	h.run("status").want(pve.Done, fmt.Sprintf("VM 102 is not dead: qm says stopped, but threads of QEMU %d are left. Start nothing.", pid))
	for _, verb := range h.changed() {
		if verb == "start" {
			t.Error("qm start was called")
		}
	}
	thaw()
	h.run("start").wantTrail(before + "stopped ok, start ok, " + up)
}
