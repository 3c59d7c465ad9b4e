package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkAMillionOldRows is a store with a million rows that are over and done with in each table, and a few that are
// open: what a start and a message cost, and what a message costs while the old rows are thrown away.
func BenchmarkAMillionOldRows(b *testing.B) {
	const million = 1_000_000
	quiet := slog.New(slog.DiscardHandler)
	path := filepath.Join(b.TempDir(), "bgbot.db")
	open := func() *Store {
		s, err := Open(b.Context(), addressOf(path), quiet)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	s := open()
	s.BeginOperation(b.Context(), Operation{ID: "running", Began: at(0)})
	c := confirmation("open")
	c.Expires = time.Now().Add(time.Hour)
	s.AddConfirmation(b.Context(), c)
	s.Close()
	db := directly(b, path)
	for table := range fillings {
		fill(b, db, table, "old", ago(500), million)
	}
	db.Close()
	b.Run("start", func(b *testing.B) {
		var all spans
		for b.Loop() {
			all.time(func() { s = open() })
			if len(s.OpenOperations(b.Context())) != 1 || len(s.OpenConfirmations(b.Context(), time.Now())) != 1 {
				b.Fatal("what is open is not known")
			}
			s.Close()
		}
		all.report(b)
		if info, err := os.Stat(path); err == nil {
			b.ReportMetric(float64(info.Size()>>20), "MiB")
		}
	})
	message := 0
	seen := func(all *spans) {
		message++
		all.time(func() {
			if s.Seen(b.Context(), "slack", fmt.Sprint("new", message), time.Now()) {
				b.Error("a new message was seen before")
			}
		})
	}
	const messages = 20 // an iteration
	b.Run("seen", func(b *testing.B) {
		var all spans
		s = open()
		defer s.Close()
		for b.Loop() {
			for range messages {
				seen(&all)
			}
		}
		all.report(b)
	})
	b.Run("seen-long-ago", func(b *testing.B) {
		var all spans
		s = open()
		defer s.Close()
		for b.Loop() {
			for n := range messages {
				all.time(func() {
					if !s.Seen(b.Context(), "slack", fmt.Sprintf("old%08d", message*messages+n), time.Now()) {
						b.Error("an old message is new")
					}
				})
			}
			message++
		}
		all.report(b)
	})
	b.Run("seen-while-they-go", func(b *testing.B) {
		var all spans
		s = open()
		p := unhurried
		p.quiet = 0 // it is hardly kept out of the way
		ended := make(chan bool)
		go func() { ended <- s.age(p) }()
		for b.Loop() {
			for range messages {
				seen(&all)
				<-time.After(5 * time.Millisecond)
			}
		}
		s.Close()
		if <-ended {
			b.Log("all old rows were gone before the end")
		}
		all.report(b)
		b.Logf("old messages left: %d", count(b, directly(b, path), "messages"))
	})
	b.Run("step", func(b *testing.B) {
		for _, a := range ageings {
			b.Run(a.table, func(b *testing.B) {
				var all spans
				s = open()
				defer s.Close()
				p := pace{}
				for b.Loop() {
					least := nanos(time.Now())
					_, err := s.chore(p, func(ctx context.Context, db *sql.DB) (int64, error) {
						var err error
						all.time(func() { _, err = db.ExecContext(ctx, a.old, nanos(ago(400)), least, unhurried.rows) })
						return 0, err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				all.report(b)
			})
		}
	})
}

// spans is how long something took each time.
type spans []time.Duration

func (s *spans) time(do func()) {
	began := time.Now()
	do()
	*s = append(*s, time.Since(began))
}

func (s *spans) report(b *testing.B) {
	slices.Sort(*s)
	ms := func(of float64) float64 { return float64((*s)[int(of*float64(len(*s)-1))].Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(0.5), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
	b.ReportMetric(ms(1), "worst-ms")
}
