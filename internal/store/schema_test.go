package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
)

// A store of each older bgbot keeps what it has: seen messages, an open card, a turn that was cut, records.
func TestAStoreOfAnOlderBgbotIsTakenOver(t *testing.T) {
	t.Parallel()
	const newest = 4
	for schema := int64(1); schema < newest; schema++ {
		t.Run(fmt.Sprint("schema ", schema), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			path := ofSchema(t, schema)
			db := directly(t, path)
			open := confirmation("n1")
			open.Made, open.Expires = time.Now().UTC().Round(0), time.Now().UTC().Add(time.Hour).Round(0)
			for _, insert := range []struct {
				query string
				args  []any
			}{
				{insertMessage, []any{"slack", "m1", nanos(time.Now())}},
				{insertRecord, []any{nanos(at(1)), "slack:U1", "verb", "slack", "C1", "1710.1", "cycle", "asked", "the truth"}},
				{`insert into turns (id, chat, channel, thread, message, actor, prompt, live, doing, began)
values ('t1', 'slack', 'C1', '1710.1', 'm1', 'slack:U1', 'devvm is frozen', '', '', ?)`, []any{nanos(at(2))}},
				{`insert into operations (id, verb, vmid, chat, channel, thread, actor, confirmer, began, ended, gate_op, exit, text)
values ('o1', 'cycle', 102, 'slack', 'C1', '1710.1', 'slack:U1', '', ?, 0, '', 0, '')`, []any{nanos(at(3))}},
				{
					`insert into confirmations
(nonce, code, verb, vmid, chat, channel, thread, card, requester, origin, session, made, expires, used, used_by, outcome)
values ('n1', '4F7Q', 'cycle', 102, 'slack', 'C1', '1710.1', '', 'slack:U1', 'person', '', ?, ?, 0, '', '')`,
					[]any{nanos(open.Made), nanos(open.Expires)},
				},
			} {
				if _, err := db.Exec(insert.query, insert.args...); err != nil {
					t.Fatal(err)
				}
			}
			db.Close()

			s := mustOpen(t, addressOf(path))
			same(t, "trouble", s.Trouble(), "")
			got, err := s.Confirmation(ctx, "n1")
			same(t, "confirmation", []any{got, err}, []any{open, nil})
			same(t, "turns", s.OpenTurns(ctx), []Turn{{ID: "t1", Place: here, Message: "m1", Actor: "slack:U1", Prompt: "devvm is frozen", Began: at(2)}})
			same(t, "operations", s.OpenOperations(ctx), []Operation{{ID: "o1", Verb: "cycle", VMID: 102, Place: here, Actor: "slack:U1", Began: at(3)}})
			same(t, "records", texts(t, s, ""), []string{"the truth"})
			same(t, "seen", s.Seen(ctx, "slack", "m1", time.Now()), true)
			s.AcceptHostKey(ctx, HostKey{VMID: 102, Key: "ssh-ed25519 BBBB", At: at(1)})
			s.Refuse(ctx, "m2", Entry{Actor: "slack:U9", Act: "talk", Chat: "slack", Outcome: "refused", Text: "let me in"})
			s = restart(t, s)
			_, ok := s.HostKey(ctx, 102)
			same(t, "host key, refusals", []any{ok, len(s.Refusals(ctx, 9))}, []any{true, 1})
			same(t, "all records", texts(t, s, "order by seq"), []string{"the truth", "let me in"})
		})
	}
}

// ofSchema makes a file as an older bgbot did.
func ofSchema(t *testing.T, schema int64) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "bgbot.db")
	db := directly(t, path)
	scripts, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(fmt.Sprintf("pragma application_id = %d", applicationID)); err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, scripts, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	db.Close()
	return path
}
