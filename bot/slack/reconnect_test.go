package slack

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/bot"
	"bgbot/internal/slacktest"
	"bgbot/internal/store"
	"bgbot/pve"
)

// unhurried is a Chat on a server without limits: a thousand answers would take a thousand seconds.
type unhurried struct{ *Chat }

func (unhurried) Limits() bot.Limits { return bot.Limits{Tick: time.Second, Apart: true} }

// service is everything between Slack and an act: link, intake, reading back, core, SQLite, delivery and sender.
type service struct {
	*slacktest.Server
	db   *store.Store
	stop func()
}

// startService begins one in a workspace of its own, whose link is in the hurry of a storm and whose host does not answer.
func startService(t testing.TB) *service {
	t.Helper()
	o := briskly()
	o.AckTimeout, o.Redeliver, o.WarnAhead = 75*time.Millisecond, []time.Duration{0, 1500 * time.Millisecond, 7500 * time.Millisecond}, 100*time.Millisecond
	return serveIn(t, newWorkspace(t, o), nowhere)
}

// nowhere is a host that does not answer.
var nowhere = pve.Host{Name: "the Proxmox host", Address: "127.0.0.1:1", User: "gate"}

// newWorkspace has the operator in its channel.
func newWorkspace(t testing.TB, o slacktest.Options) *slacktest.Server {
	t.Helper()
	o.NoEcho = true
	s, err := slacktest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.AddUser(slacktest.User{ID: operator})
	if _, err := s.Join(s.Channel(), operator); err != nil {
		t.Fatal(err)
	}
	s.DropQueued()
	return s
}

// serveIn begins one that serves this workspace, with a store of its own.
func serveIn(t testing.TB, s *slacktest.Server, host pve.Host, hurry ...func(*pace)) *service {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "bgbot.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	chat, err := Open(t.Context(), Options{
		AppToken: s.AppToken(), BotToken: s.BotToken(), Channel: s.Channel(), APIURL: s.URL(), People: []string{operator}, Log: quiet,
		Cursor:    func(ctx context.Context, key string) string { return db.Cursor(ctx, chatName, key) },
		SetCursor: func(ctx context.Context, key, value string) { db.SetCursor(ctx, chatName, key, value) },
	})
	if err != nil {
		t.Fatal(err)
	}
	chat.pace.keep, chat.pace.readBack, chat.pace.grace, chat.pace.link = 50*time.Millisecond, time.Second, 200*time.Millisecond, stormy
	for _, h := range hurry {
		h(&chat.pace)
	}
	chat.gap = 0
	core := coreFor(t, unhurried{chat}, db, host, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- core.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &service{s, db, stop}
}

// coreFor is the core of a bot whose agent is never asked. A host without a key to log in with does not answer.
func coreFor(t testing.TB, chat bot.Chat, db *store.Store, host pve.Host, log *slog.Logger) *bot.Bot {
	t.Helper()
	if host.Signer == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		host.Signer, host.HostKey = signer, signer.PublicKey()
	}
	gate := pve.NewClient(host, 102, log)
	runner, err := agentrun.New(agentrun.Config{
		Command: "false", Dir: t.TempDir(), Model: "sonnet", Live: 1, TurnTimeout: time.Minute, IdleTimeout: time.Minute, Steps: 1, BudgetUSD: 1,
		Agent: agentrun.Agent{Name: "nobody", Prompt: "nothing"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = gate.Close()
		if err := runner.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return bot.New(bot.Options{
		Chats: map[string]bot.Chat{chatName: chat}, Policy: auth.NewPolicy(auth.Person{Chat: chatName, ID: operator}),
		Confirm: bot.Confirm{TTL: time.Minute, By: auth.Requester}, Power: bot.Ask, VM: bot.VM{Name: "devvm", ID: 102},
		Gate: gate, Runner: runner, Model: "sonnet", Store: db, Log: log,
	})
}

// reconnected is what became of what was typed through a storm.
type reconnected struct {
	said, disruptions, opens int
	tally                    slacktest.Tally // acts, as people saw them, against what was typed
	truth                    slacktest.Truth
}

// reconnect lets the operator type in ten threads, and begin new ones, while so many disruptions happen. Each line names a model that no other
// line names, and the answer, which is the act, repeats it.
func reconnect(t testing.TB, disruptions int) (r reconnected) {
	t.Helper()
	s := startService(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(disruptions)*300*time.Millisecond+time.Minute)
	defer cancel()
	if err := s.AwaitSockets(ctx, 1, 0); err != nil {
		t.Fatal(err)
	}
	calm := make(chan struct{})
	var said, threads []string
	say := func(thread string) (ts string, err error) {
		said = append(said, fmt.Sprintf("m%d", len(said)))
		sent, err := s.Say(operator, thread, "model "+said[len(said)-1])
		return sent.TS, err
	}
	for range 10 { // what is said in a thread of which the bot has not heard yet is refused, and in a storm that may be any
		ts, err := say("")
		if err != nil {
			t.Fatal(err)
		}
		threads = append(threads, ts)
	}
	for ctx.Err() == nil && len(s.acted()) < len(said) {
		<-time.After(10 * time.Millisecond)
	}
	var typing sync.WaitGroup
	typing.Go(func() {
		for thread := ""; !closed(calm); <-time.After(12 * time.Millisecond) {
			if thread = ""; len(said)%3 > 0 { // each third line begins a thread
				thread = threads[len(said)%10]
			}
			if _, err := say(thread); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for r.disruptions < disruptions && ctx.Err() == nil {
		if s.DisruptOne(luck[mathrand.IntN(len(luck))]) {
			r.disruptions++
		}
		<-time.After(2 * soakPace)
	}
	close(calm)
	typing.Wait()
	var acted []string
	for acted = s.acted(); ctx.Err() == nil && (len(acted) < len(said) || s.Truth().Pending > 0); acted = s.acted() {
		<-time.After(50 * time.Millisecond)
	}
	s.stop() // what is under way ends now, so nothing is acted on after this
	r.said, r.truth, r.opens = len(said), s.Truth(), len(s.Calls("apps.connections.open"))
	r.tally = slacktest.Compare(said, s.acted())
	return r
}

var answered = regexp.MustCompile("This thread uses [^m]*(m[0-9]+)")

// acted are the models in the order in which the operator was told that they are set.
func (s *service) acted() (all []string) {
	for _, m := range s.Ephemerals(operator) {
		if is := answered.FindStringSubmatch(m.Shown()); is != nil {
			all = append(all, is[1])
		}
	}
	return all
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// check fails t for what was lost or done twice. The order across sockets is nobody's promise.
func (r reconnected) check(t testing.TB) {
	t.Helper()
	if n := len(r.tally.Lost) + len(r.tally.Doubled) + len(r.tally.Strange); n > 0 {
		t.Errorf("after %d disruptions, of %d messages: lost %s; acted on twice %s; strange %s", r.disruptions, r.said,
			strings.Join(r.tally.Lost, " "), strings.Join(r.tally.Doubled, " "), strings.Join(r.tally.Strange, " "))
	}
}

// Thirty disruptions while somebody types: the whole bot acts on each line once.
func TestReconnects(t *testing.T) {
	t.Parallel()
	r := reconnect(t, 30)
	t.Logf("%d messages, %d disruptions, %d opens, %+v", r.said, r.disruptions, r.opens, r.truth)
	r.check(t)
}

// One storm of a thousand disruptions, however many iterations are asked for.
func BenchmarkReconnects(b *testing.B) {
	var r reconnected
	for b.Loop() {
		if r.said == 0 {
			r = reconnect(b, 1000)
			r.check(b)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(r.disruptions), "disruptions")
	b.ReportMetric(float64(r.said), "messages")
	b.ReportMetric(float64(len(r.tally.Lost)), "lost")
	b.ReportMetric(float64(len(r.tally.Doubled)), "acted-on-twice")
	b.ReportMetric(float64(r.truth.Redelivered), "sent-again")
	b.ReportMetric(float64(r.truth.Lost), "given-up-by-slack")
	b.ReportMetric(float64(r.opens), "opens")
}
