package store

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// directly opens the file past the store.
func directly(t testing.TB, path string) *sql.DB {
	t.Helper()
	name := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(5000)"}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// refusal is the sentence with which Open refuses.
func refusal(t *testing.T, address string) string {
	t.Helper()
	s, err := Open(t.Context(), address, logTo(t))
	if err == nil {
		s.Close()
		t.Fatalf("%s was opened", address)
	}
	e, ok := errors.AsType[*Unusable](err)
	if !ok {
		t.Fatalf("not a sentence for people: %v", err)
	}
	return e.UserMessage()
}

func TestABadAddressIsExplained(t *testing.T) {
	t.Parallel()
	const (
		shape = "; write it like sqlite:///var/lib/bgbot/bgbot.db."
		empty = "store.url is not an address" + shape
		path  = "store.url has no absolute path to a file (three slashes, nothing behind it)" + shape
		pg    = "store.url names PostgreSQL, which this bgbot cannot use yet" + shape
	)
	for address, want := range map[string]string{
		"":                            empty,
		"/var/lib/bgbot/bgbot.db":     empty,
		"sqlite://%zz":                empty,
		"sqlite://bgbot.db":           path,
		"sqlite:bgbot.db":             path,
		"sqlite:///":                  path,
		"sqlite:///var/lib/":          path,
		"sqlite:///a.db?mode=memory":  path,
		"sqlite:///a%00.db":           path,
		"postgres://u:hunter2@db/x":   pg,
		"postgresql://u:hunter2@db/x": pg,
		"mysql://u:hunter2@db/x":      `store.url begins with "mysql", which is no kind of store` + shape,
	} {
		if got := refusal(t, address); got != want {
			t.Errorf("%q:\n got %s\nwant %s", address, got, want)
		}
	}
	_, err := Open(t.Context(), "postgres://u:hunter2%zz@db", slog.New(slog.DiscardHandler))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password in the address is in the error: %v", err)
	}
}

func TestFolderAndFilesAreForTheOwnerOnly(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "a", "b c?%#")
	path := filepath.Join(folder, "bgbot.db")
	address := (&url.URL{Scheme: "sqlite", Path: path}).String()
	s := mustOpen(t, address)
	s.Seen(t.Context(), "slack", "m", time.Now())
	modes := func() map[string]os.FileMode {
		files, _ := filepath.Glob(folder + "/*")
		m := make(map[string]os.FileMode)
		for _, f := range append(files, folder) {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			m[filepath.Base(f)] = info.Mode().Perm()
		}
		return m
	}
	want := map[string]os.FileMode{"b c?%#": 0o700, "bgbot.db": 0o600, "bgbot.db-wal": 0o600, "bgbot.db-shm": 0o600, "bgbot.db.lock": 0o600}
	same(t, "modes", modes(), want)
	mustClose(t, s)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, address)
	s.Seen(t.Context(), "slack", "m2", time.Now())
	same(t, "modes, opened again", modes(), want)
}

func TestTwoProcessesDoNotShareAFile(t *testing.T) {
	t.Parallel()
	address := newAddress(t)
	other, said := child(t, "hold", address)
	if !said.Scan() || said.Text() != "holding" {
		t.Fatal(said.Text())
	}
	host, _ := os.Hostname()
	path := strings.TrimPrefix(address, "sqlite://")
	want := fmt.Sprintf("store.url: another bgbot (process %d on %s) uses %s; stop it, or give this one another path.", other.Process.Pid, host, path)
	same(t, "sentence", refusal(t, address), want)
	other.Process.Kill()
	other.Wait()
	s := mustOpen(t, address) // however it ended, the file is free
	if !s.Seen(t.Context(), "slack", "held", time.Now()) {
		t.Error("what the other one saw is lost")
	}
}

func holdStore(address string) int {
	s, err := Open(bg, address, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	s.Seen(bg, "slack", "held", time.Now())
	fmt.Println("holding")
	select {}
}

func TestWithoutPermissionTheOwnerIsNamed(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must run as root: this test becomes somebody else")
		}
		t.Skip("needs root, to become nobody") // the same code runs under any user; only the set-up needs root
	}
	base := t.TempDir()
	for dir := base; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	theirs, shut := filepath.Join(base, "theirs"), filepath.Join(base, "shut")
	for folder, mode := range map[string]os.FileMode{theirs: 0o777, shut: 0o755} {
		os.Mkdir(folder, mode)
		os.Chmod(folder, mode)
	}
	file := filepath.Join(theirs, "bgbot.db")
	s := mustOpen(t, addressOf(file))
	mustClose(t, s)
	os.Chmod(file+".lock", 0o666)
	shared := filepath.Join(theirs, "shared.db")
	mustClose(t, mustOpen(t, addressOf(shared)))
	os.Chmod(shared, 0o666)
	os.Chmod(shared+".lock", 0o666)
	for path, want := range map[string]string{
		filepath.Join(shut, "bgbot.db"):         "store.url: bgbot may not write in the folder " + shut + "; give it to the user that runs bgbot, or choose another path.",
		filepath.Join(shut, "more", "bgbot.db"): "store.url: bgbot cannot make the folder " + shut + "/more; make it and give it to the user that runs bgbot.",
		filepath.Join(file, "bgbot.db"):         "store.url: bgbot cannot make the folder " + file + "; make it and give it to the user that runs bgbot.",
		file:                                    "store.url: bgbot may not write " + file + "; give the file and its folder to the user that runs bgbot.",
		shared:                                  "store.url: others may read " + shared + ", and bgbot may not forbid it; give the file and its folder to the user that runs bgbot.",
	} {
		_, said := child(t, "nobody", addressOf(path))
		said.Scan()
		same(t, path, said.Text(), want)
	}
}

func openAsNobody(address string) int {
	if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
		fmt.Println(err)
		return 1
	}
	_, err := Open(bg, address, slog.New(slog.DiscardHandler))
	if e, ok := errors.AsType[*Unusable](err); ok {
		fmt.Println(e.UserMessage())
		return 0
	}
	fmt.Println(err)
	return 1
}

func TestAFileOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	notes := filepath.Join(folder, "notes.txt")
	os.WriteFile(notes, []byte("my notes of many years"), 0o644)
	cookies := filepath.Join(folder, "cookies.db")
	db := directly(t, cookies)
	if _, err := db.Exec("create table cookies (name text)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	directory := filepath.Join(folder, "directory")
	os.Mkdir(directory, 0o755)
	for _, path := range []string{notes, cookies, directory} {
		before, _ := os.ReadFile(path)
		same(t, "sentence", refusal(t, addressOf(path)), "store.url: "+path+" is not a store of bgbot and was left alone; choose another path.")
		after, _ := os.ReadFile(path)
		same(t, "content", after, before)
	}
	left, _ := filepath.Glob(folder + "/*")
	same(t, "files", left, []string{cookies, directory, notes})

	os.WriteFile(cookies+".lock", nil, 0o600) // as if a store had been replaced by it
	same(t, "sentence", refusal(t, addressOf(cookies)), "store.url: "+cookies+" is not a store of bgbot and was left alone; choose another path.")
}

func TestAStoreOfANewerBgbotIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newAddress(t))
	s.Seen(t.Context(), "slack", "m", time.Now())
	mustClose(t, s)
	db := directly(t, s.path)
	if _, err := db.Exec("insert into goose_db_version (version_id, is_applied) values (99, true)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	want := "store.url: " + s.path + " was written by a newer bgbot (schema 99, this one knows 4); start the newer one, or choose another path."
	same(t, "sentence", refusal(t, addressOf(s.path)), want)
	same(t, "again", refusal(t, addressOf(s.path)), want) // the lock was freed
}

func TestADamagedFileIsKeptAndANewOneStarted(t *testing.T) {
	t.Parallel()
	fill := func(path string, from, n int64) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte(strings.Repeat("\xa5", int(n))), from)
		return err
	}
	for name, damage := range map[string]func(path string) error{
		"the head is overwritten": func(path string) error { return fill(path, 0, 100) },
		"a page is overwritten":   func(path string) error { return fill(path, 4096, 4096*8) },
		"the end is missing":      func(path string) error { return os.Truncate(path, 4096*3+17) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mustOpen(t, newAddress(t))
			s.Seen(t.Context(), "slack", "m", time.Now())
			mustClose(t, s)
			if err := damage(s.path); err != nil {
				t.Fatal(err)
			}
			broken, _ := os.ReadFile(s.path)
			s = mustOpen(t, addressOf(s.path))
			told := regexp.MustCompile(`^The store's file was damaged; it was kept as (bgbot\.db\.corrupt-\d{8}T\d{6}\.\d{3}Z) and a new one started, so older history is missing\.$`)
			match := told.FindStringSubmatch(s.Trouble())
			if match == nil {
				t.Fatalf("trouble: %q", s.Trouble())
			}
			aside := filepath.Join(filepath.Dir(s.path), match[1])
			if kept, _ := os.ReadFile(aside); string(kept) != string(broken) {
				t.Error("the damaged file was not kept as it was")
			}
			if s.Seen(t.Context(), "slack", "m", time.Now()) {
				t.Error("the new store knows the old message; was the file damaged at all?")
			}
			s = restart(t, s)
			if !s.Seen(t.Context(), "slack", "m", time.Now()) {
				t.Error("the new file forgets")
			}
			entries := s.Entries(t.Context(), 5)
			if len(entries) != 1 || entries[0].Outcome != "damaged" || entries[0].Text != "the file was damaged and kept as "+aside {
				t.Errorf("records: %+v", entries)
			}
		})
	}
}

// A child that is between fork and exec has a copy of every descriptor, the lock's too. That must not keep the next
// store of the same process out.
func TestAChildThatIsBeingForkedDoesNotKeepTheLock(t *testing.T) {
	t.Parallel()
	address := newAddress(t)
	s := mustOpen(t, address)
	copied, err := syscall.Dup(int(s.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(copied) }()
	mustClose(t, s)
	mustClose(t, mustOpen(t, address))
}
