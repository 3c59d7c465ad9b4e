package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

// Unusable is why a store cannot be used as it is; waiting does not mend it. Message is for people and names the mend.
type Unusable struct {
	Message string
	By      string // the process that has it, if that is why
	Err     error  // may be nil
}

func (e *Unusable) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// UserMessage is the error as a person reads it.
func (e *Unusable) UserMessage() string { return e.Message }

func (e *Unusable) Unwrap() error { return e.Err }

func refused(err error) bool {
	_, ok := errors.AsType[*Unusable](err)
	return ok
}

// opening is the longest that Open waits for the disk before the bot starts without it.
const opening = 5 * time.Second

// Open opens the store at "sqlite:///absolute/path", making the folder (0700) and the file (0600) if needed. Its error
// is an [*Unusable] for what a person must mend: a bad address, a folder or file without permission, a file that is
// not a store or belongs to a newer bgbot, a second process. What the disk may mend by itself (full, read-only, hung)
// is no error: the store starts in memory, Trouble says so, and what is on disk is read when it works again.
func Open(ctx context.Context, address string, log *slog.Logger) (*Store, error) {
	path, err := locate(address)
	if err != nil {
		return nil, err
	}
	s := newStore(path, log)
	s.work, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go s.run() // ended by Close, which waits for it
	t := time.NewTimer(opening)
	defer t.Stop()
	select {
	case err := <-s.opened:
		if err != nil {
			<-s.ended
			s.cancel()
			return nil, err
		}
	case <-ctx.Done():
		close(s.tended) // it never began
		return nil, errors.Join(context.Cause(ctx), s.Close())
	case <-t.C:
		close(s.alone)
		s.late()
	}
	go s.tend() // ended by Close, which waits for it
	return s, nil
}

const example = "sqlite:///var/lib/bgbot/bgbot.db"

// locate is the path in an address. Its errors never quote the address, for it may hold a password.
func locate(address string) (string, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Scheme == "":
		return "", &Unusable{Message: "store.url is not an address; write it like " + example + "."}
	case u.Scheme == "postgres", u.Scheme == "postgresql":
		return "", &Unusable{Message: "store.url names PostgreSQL, which this bgbot cannot use yet; write it like " + example + "."}
	case u.Scheme != "sqlite":
		return "", &Unusable{Message: fmt.Sprintf("store.url begins with %q, which is no kind of store; write it like %s.", u.Scheme, example)}
	case u.Host != "" || u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		!filepath.IsAbs(u.Path) || strings.HasSuffix(u.Path, "/") || strings.ContainsRune(u.Path, 0):
		return "", &Unusable{Message: "store.url has no absolute path to a file (three slashes, nothing behind it); write it like " + example + "."}
	}
	return filepath.Clean(u.Path), nil
}

// connect makes sure that there is a connection to the file that is at the path now, with the schema of this binary.
func (s *Store) connect() error {
	if s.db != nil {
		now, err := os.Stat(s.path) //nolint:gosec // G703: the path is the operator's own, from the config
		if moved := errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, s.file); !moved {
			return nil
		}
		s.disconnect()
		s.unlock() // its lock may have gone with it
		s.bare = true
		s.mu.Lock()
		s.log.Error("store file was moved or deleted", "path", s.path)
		s.health.tell("The store's file was moved or deleted while bgbot ran; a new one holds what is known now, older history is missing.")
		s.own("moved", "the file was moved or deleted while bgbot ran; this is a new one")
		s.mu.Unlock()
	}
	if err := s.prepare(); err != nil {
		return err
	}
	err := s.open()
	if damaged(err) {
		s.disconnect()
		if err := s.setAside(err); err != nil {
			return err
		}
		err = s.open()
	}
	if err != nil {
		s.disconnect()
	}
	return err
}

func (s *Store) disconnect() {
	if s.db == nil {
		return
	}
	if err := s.db.Close(); err != nil {
		s.log.Warn("store did not close well", "path", s.path, "error", err)
	}
	s.db = nil
}

// open opens the file, brings its schema up to date and reads what memory must know.
func (s *Store) open() error {
	settings := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(100)", // below Patience
		"synchronous(full)", // what was acknowledged survives a power cut
		"cache_size(-256)",  // KiB; idle memory counts
		"journal_size_limit(1048576)",
	}}
	name := url.URL{Scheme: "file", Path: s.path, RawQuery: settings.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	s.db = db
	db.SetMaxOpenConns(1)
	if s.suspect {
		var verdict string
		if err := db.QueryRowContext(s.work, "pragma quick_check(1)").Scan(&verdict); err != nil {
			return fmt.Errorf("check: %w", err)
		}
		if verdict != "ok" {
			return fmt.Errorf("%w: %s", errDamaged, verdict)
		}
		s.suspect = false
	}
	if err := s.claim(); err != nil {
		return err
	}
	if _, err := db.ExecContext(s.work, "pragma journal_mode = wal"); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := s.migrate(); err != nil {
		return err
	}
	s.mu.Lock()
	loaded := s.loaded
	s.mu.Unlock()
	if !loaded {
		if err := s.load(); err != nil {
			return fmt.Errorf("load: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = true
	if s.bare {
		s.rewrite()
		s.bare = false
	}
	return nil
}

// applicationID marks the file as ours: "bgbt" (https://www.sqlite.org/pragma.html#pragma_application_id).
const applicationID = 0x62676274

// claim marks an empty database as ours, before all else and in its header, and refuses one of another program.
func (s *Store) claim() error {
	var id, objects int
	row := s.db.QueryRowContext(s.work, "select application_id, (select count(*) from sqlite_master) from pragma_application_id")
	if err := row.Scan(&id, &objects); err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	switch {
	case id == applicationID:
		return nil
	case objects > 0:
		return s.notOurs()
	}
	if _, err := s.db.ExecContext(s.work, fmt.Sprintf("pragma application_id = %d", applicationID)); err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	return nil
}

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. It asks goose only when there is something to do: goose takes a damaged page
// for a missing table, and tries to make it for six seconds.
func (s *Store) migrate() error {
	scripts, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	has, err := s.version()
	if err != nil {
		return fmt.Errorf("version: %w", err)
	}
	knows, err := newest(scripts)
	if err != nil {
		return err
	}
	if has > knows {
		return &Unusable{Message: fmt.Sprintf(
			"store.url: %s was written by a newer bgbot (schema %d, this one knows %d); start the newer one, or choose another path.", s.path, has, knows)}
	}
	s.bare = s.bare || has == 0
	if has < knows {
		p, err := goose.NewProvider(goose.DialectSQLite3, s.db, scripts, goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		if _, err := p.Up(s.work); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	return nil
}

// version is the schema that the file has, 0 if none.
func (s *Store) version() (version int64, err error) {
	var tables int
	const migrated = "select count(*) from sqlite_master where name = 'goose_db_version'"
	if err := s.db.QueryRowContext(s.work, migrated).Scan(&tables); err != nil || tables == 0 {
		return 0, err
	}
	const applied = "select coalesce(max(version_id), 0) from goose_db_version where is_applied"
	return version, s.db.QueryRowContext(s.work, applied).Scan(&version)
}

// newest is the schema that the last script makes.
func newest(scripts fs.FS) (int64, error) {
	names, err := fs.Glob(scripts, "*.sql")
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(names[len(names)-1])
}
