package lab

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// loopDisk is a file system of our own below the folder of a lab, which holds the VM's disk. Frozen, it is the storage
// that does not answer: who writes to it hangs in the kernel.
type loopDisk struct {
	lab  string // folder for the lab; empty where nobody may mount
	why  string // that is so
	to   io.WriteCloser
	from *bufio.Reader
}

// loopKeeper owns the mount in place of this test: it does as it is told, a word a line, and when its input ends,
// however the test has ended, it undoes all. A frozen file system that nobody thaws holds its processes until the next
// boot. A lab that is still about to end keeps what it has open, so the mount leaves the tree at once and goes with it.
const loopKeeper = `cd / && mkdir -p "$1/lab/disk" && truncate -s 2G "$1/image" && "$2" -q -F "$1/image" && mount -o loop "$1/image" "$1/lab/disk" || exit 1
echo mounted
while read -r word; do fsfreeze "$word" "$1/lab/disk" || break; echo "done"; done
fsfreeze -u "$1/lab/disk" 2>/dev/null
umount "$1/lab/disk" 2>/dev/null || umount -l "$1/lab/disk"
exec rm -rf --one-file-system "${1%/*}"`

func newLoopDisk(t *testing.T) *loopDisk {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", loopKeeper, "sh", dir, findProgram("mkfs.ext4"))
	var said strings.Builder
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ^C is for the test
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &loopDisk{to: in, from: bufio.NewReader(out)}
	if _, err := l.from.ReadString('\n'); err != nil {
		_, _ = in.Close(), cmd.Wait()
		return &loopDisk{why: said.String()}
	}
	l.lab = filepath.Join(dir, "lab")
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the loop device: %v: %s", err, said.String())
		}
	})
	return l
}

// needed ends a row that cannot be told.
func (l *loopDisk) needed(t *testing.T) {
	t.Helper()
	switch {
	case l.lab != "":
	case os.Getenv("CI") == "true":
		t.Fatal("CI has to be able to mount and freeze a file system: ", l.why)
	default:
		t.Skip("SKIPPED, a QEMU in state D: nobody may mount a file system here: ", l.why)
	}
}

func (l *loopDisk) freeze(t *testing.T) { l.tell(t, "-f") }
func (l *loopDisk) thaw(t *testing.T)   { l.tell(t, "-u") }

func (l *loopDisk) tell(t *testing.T, word string) {
	t.Helper()
	if _, err := io.WriteString(l.to, word+"\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.from.ReadString('\n'); err != nil {
		t.Fatalf("fsfreeze %s: %v", word, err)
	}
}
