package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// onDisk runs query with the store's own connection, however long that takes on a busy machine.
func onDisk(t *testing.T, s *Store, query string) {
	t.Helper()
	done := make(chan error)
	s.asks <- func() {
		err := s.connect()
		if err == nil {
			_, err = s.db.Exec(query)
		}
		done <- err
	}
	if err := <-done; err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func TestAFullDatabaseHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	n := night{t, mustOpen(t, newAddress(t))}
	n.before()
	onDisk(t, n.s, "pragma max_page_count = 40")
	n.until(failing("disk full"))
	n.during()
	if !failing("disk full").MatchString(n.s.Trouble()) {
		t.Errorf("trouble: %q", n.s.Trouble())
	}
	onDisk(t, n.s, "pragma max_page_count = 100000")
	n.after()
}

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("cannot mount a small disk: %v", err)
		}
		t.Skipf("SKIPPED: cannot mount a small disk here: %v", err) // the full database above fails in the same place
	}
	t.Cleanup(func() { syscall.Unmount(disk, 0) })
	return disk
}

// remount makes a small disk read-only, or mends it.
func remount(t *testing.T, disk string, readOnly bool) {
	t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if readOnly {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", flags, ""); err != nil {
		t.Fatal(err)
	}
}

func TestAFullDiskHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "1m")
	n := night{t, mustOpen(t, addressOf(disk+"/bgbot.db"))}
	n.before()
	hog := disk + "/hog"
	os.WriteFile(hog, make([]byte, 1<<20), 0o600) // takes what is left
	n.until(failing("disk full"))
	n.during()
	os.Remove(hog)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	n.after()
	n.s.Close()
}

func TestABotStartsOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "64k")
	hog := disk + "/hog"
	os.WriteFile(hog, make([]byte, 64<<10), 0o600)
	s := mustOpen(t, addressOf(disk+"/bgbot.db"))
	if !failing("disk full").MatchString(s.Trouble()) {
		t.Errorf("trouble: %q", s.Trouble())
	}
	s.Seen(t.Context(), "slack", "m", time.Now())
	os.Remove(hog)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	written(t, s)
	s = restart(t, s)
	same(t, "seen", s.Seen(t.Context(), "slack", "m", time.Now()), true)
	s.Close()
}

func TestABotStartsOnADiskThatTurnedReadOnly(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "64m")
	n := night{t, mustOpen(t, addressOf(disk+"/bgbot.db"))}
	n.before()
	mustClose(t, n.s)
	remount(t, disk, true)
	s := mustOpen(t, addressOf(disk+"/bgbot.db"))
	if !failing("the disk is read-only").MatchString(s.Trouble()) {
		t.Errorf("trouble: %q", s.Trouble())
	}
	ctx := t.Context()
	same(t, "new", s.Seen(ctx, "slack", "during", time.Now()), false)
	same(t, "a confirmation that only the disk knows", s.UseConfirmation(ctx, "n1", "slack:U1", Confirmed, at(1)), ErrUnread)
	_, err := s.ConfirmationByCode(ctx, "slack", "C1", "4F7Q")
	same(t, "and its code", err, ErrUnread)
	keep(ctx, s, Thread{Place: here, Session: "newer", Touched: at(1)})
	s.EndTurn(ctx, "cut")
	remount(t, disk, false)
	written(t, s)
	for range 2 { // healed; restarted
		same(t, "seen", []bool{s.Seen(ctx, "slack", "before", time.Now()), s.Seen(ctx, "slack", "during", time.Now())}, []bool{true, true})
		thread, _ := s.Thread(ctx, here)
		same(t, "thread", thread.Session, "newer")
		same(t, "turns", s.OpenTurns(ctx), []Turn(nil))
		same(t, "confirmations", len(s.OpenConfirmations(ctx, at(1))), 2)
		s = restart(t, s)
	}
	s.Close()
}

func TestALockedFileHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	n := night{t, mustOpen(t, newAddress(t))}
	n.before()
	other := directly(t, n.s.path)
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("begin exclusive"); err != nil {
		t.Fatal(err)
	}
	n.during()
	eventually(t, "the trouble to be told", func() bool { return failing("another program locks the file").MatchString(n.s.Trouble()) })
	if _, err := other.Exec("rollback"); err != nil {
		t.Fatal(err)
	}
	n.after()
}

func TestAHangingDiskHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	n := night{t, mustOpen(t, newAddress(t))}
	n.before()
	release := hang(n.s)
	n.during()
	if !slow.MatchString(n.s.Trouble()) {
		t.Errorf("trouble: %q", n.s.Trouble())
	}
	same(t, "what waits for the disk has no number yet", n.s.Entries(t.Context(), 2)[1], Entry{At: at(1), Text: "during"})
	release()
	n.after()
}

// hang has the writer wait, as for a disk that answers no more.
func hang(s *Store) (release func()) {
	impatient(s)
	hung := make(chan struct{})
	s.asks <- func() { <-hung }
	return func() { close(hung) }
}

func TestCloseGivesUpOnAHangingDisk(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	same(t, "patience", s.drain+s.grace, 11*time.Second)
	s.drain, s.grace = 300*time.Millisecond, 100*time.Millisecond
	release := hang(s)
	s.Record(t.Context(), Entry{Text: "never written"})
	err := s.Close()
	e, ok := errors.AsType[*Unusable](err)
	if !ok || e.UserMessage() != "The store "+s.path+" did not close within 400ms; its disk hangs." {
		t.Errorf("close: %v", err)
	}
	release()
	<-s.ended
}

func TestCloseSaysWhatIsLost(t *testing.T) {
	t.Parallel()
	n := night{t, mustOpen(t, newAddress(t))}
	onDisk(t, n.s, "pragma max_page_count = 40")
	n.until(failing("disk full"))
	err := n.s.Close()
	if e, ok := errors.AsType[*Unusable](err); !ok ||
		!regexp.MustCompile(`^The store \S+ closed with \d+ entr(y|ies) unwritten \(disk full\)\.$`).MatchString(e.UserMessage()) {
		t.Errorf("close: %v", err)
	}
	if n.s.Seen(t.Context(), "slack", "m", time.Now()) || !n.s.Seen(t.Context(), "slack", "m", time.Now()) {
		t.Error("a closed store does not remember in memory")
	}
	if err := n.s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestAReadOnlyConnectionIsOpenedAnew(t *testing.T) {
	t.Parallel()
	n := night{t, mustOpen(t, newAddress(t))}
	n.before()
	onDisk(t, n.s, "pragma query_only = 1")
	n.during()
	n.after()
}

func TestAFileThatVanishesIsWrittenAnewFromMemory(t *testing.T) {
	t.Parallel()
	for name, vanish := range map[string]func(path string) error{
		"deleted":        os.Remove,
		"moved":          func(path string) error { return os.Rename(path, path+".elsewhere") },
		"folder deleted": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		"an old copy put there": func(path string) error {
			old, err := Open(bg, addressOf(path+".old"), slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			old.BeginTurn(bg, Turn{ID: "long over", Began: at(0)})
			return errors.Join(old.Close(), os.Remove(path+"-wal"), os.Rename(path+".old", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := night{t, mustOpen(t, newAddress(t))}
			n.before()
			release := hang(n.s)
			n.s.BeginTurn(t.Context(), Turn{ID: "waits", Place: there, Began: at(1)})
			n.s.AcceptHostKey(t.Context(), HostKey{VMID: 102, Key: "ssh-ed25519 BBBB", At: at(1)})
			for id := range refusalsRecorded + 1 {
				n.s.Refuse(t.Context(), fmt.Sprint(id), no("talk", id))
			}
			if err := vanish(n.s.path); err != nil {
				t.Fatal(err)
			}
			release()
			n.s.Record(t.Context(), Entry{At: at(0), Text: "after"})
			written(t, n.s)
			same(t, "trouble", n.s.Trouble(), "The store's file was moved or deleted while bgbot ran; a new one holds what is known now, older history is missing.")
			s := restart(t, n.s)
			ctx := t.Context()
			same(t, "seen", s.Seen(ctx, "slack", "before", time.Now()), true)
			thread, _ := s.Thread(ctx, here)
			same(t, "thread", thread.Session, "s1")
			same(t, "turns", len(s.OpenTurns(ctx)), 2)
			same(t, "confirmations", len(s.OpenConfirmations(ctx, at(1))), 2)
			same(t, "operations", len(s.OpenOperations(ctx)), 1)
			same(t, "cursor", s.Cursor(ctx, "slack", "C1"), "1")
			key, _ := s.HostKey(ctx, 102)
			same(t, "host key", key.Key, "ssh-ed25519 BBBB")
			same(t, "refused", s.Refusals(ctx, 9)[0].Count, refusalsRecorded+1)
			same(t, "records", texts(t, s, "where act <> 'talk' order by text"), []string{"after", "the file was moved or deleted while bgbot ran; this is a new one"})
		})
	}
}

func TestWhatDoesNotFitIsCounted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n := night{t, mustOpen(t, newAddress(t))}
	s := n.s
	n.before()
	release := hang(s)
	keep(ctx, s, Thread{Place: here, Session: "s2", Touched: at(1)})
	s.EndTurn(ctx, "cut")
	if err := s.UseConfirmation(ctx, "n1", "slack:U1", Confirmed, at(1)); err != nil {
		t.Fatal(err)
	}
	const fit, more = 300, 50
	s.mu.Lock()
	s.queue.most = fit
	s.mu.Unlock()
	for i := range fit + more {
		s.Record(ctx, Entry{At: at(1), Text: fmt.Sprint(i)})
	}
	// The thread and the turn went first, for memory has them; then the oldest records; the confirmation is still there.
	told := regexp.MustCompile(`written when it catches up; (\d+) entries too many for memory were dropped\.$`)
	match := told.FindStringSubmatch(s.Trouble())
	if match == nil || match[1] != fmt.Sprint(more+3) {
		t.Errorf("trouble: %q", s.Trouble())
	}
	release()
	written(t, s)
	s = restart(t, s)
	thread, _ := s.Thread(ctx, here)
	same(t, "thread", thread.Session, "s2")
	same(t, "turns", s.OpenTurns(ctx), []Turn(nil))
	same(t, "used", s.UseConfirmation(ctx, "n1", "slack:U1", Confirmed, at(1)), ErrUsed)
	kept := texts(t, s, "order by seq")
	same(t, "how many", len(kept), 1+fit-1+1) // before; all that fitted beside the confirmation; the word of the loss
	same(t, "first", kept[:2], []string{"before", fmt.Sprint(more + 1)})
	same(t, "last", kept[len(kept)-2:], []string{fmt.Sprint(fit + more - 1), fmt.Sprint(more+3, " entries could not be written")})
	same(t, "told", texts(t, s, "where actor = 'bgbot' and act = 'store' and outcome = 'lost'"), kept[len(kept)-1:])
}

// A statement that the database refuses for ever must not keep the others from the disk.
func TestARefusedEntryStandsInNobodysWay(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := mustOpen(t, newAddress(t))
	s.mu.Lock()
	bad := s.enqueue(newWrite(nil, history, "insert into records (at) values (null)"))
	s.mu.Unlock()
	s.Record(ctx, Entry{At: at(0), Text: "good"})
	<-bad.done
	written(t, s)
	var texts []string
	for _, e := range s.Entries(ctx, 9) {
		texts = append(texts, e.Text)
	}
	same(t, "records", texts, []string{"1 entry could not be written", "good"})
	same(t, "trouble", s.Trouble(), "")
}

func TestADoneContextEndsTheWaitNotTheWrite(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	release := hang(s)
	s.patience = time.Minute
	s.Record(ctx, Entry{At: at(0), Text: "kept"})
	keep(ctx, s, Thread{Place: here, Session: "s1"})
	if took := time.Since(began); took > straggler {
		t.Errorf("took %s", took)
	}
	release()
	written(t, s)
	s = restart(t, s)
	same(t, "records", s.Entries(t.Context(), 5), []Entry{{At: at(0), Text: "kept", Seq: 1}})
}
