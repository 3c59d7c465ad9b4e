package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"bgbot/bot"
)

func TestAnIncidentAsPlainLines(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(o *Options) { o.Echo, o.Greeting = true, "The console of bgbot." }).run()
	m := g.types("devvm is frozen")
	if m.Place != (bot.Place{Chat: "console", Channel: "console", Thread: m.ID}) || m.From != kim || m.Name != "Kim" || m.At != evening {
		t.Errorf("the message is %+v", m)
	}
	stop := []bot.Choice{{ID: "halt", Label: "Stop"}}
	live := g.says(m.Place, bot.Text{Body: "⏳ Working 0:00 · uptime", Choices: stop, Quiet: true})
	g.edits(m.Place, live, bot.Text{Body: "⏳ Working 0:01 · uptime", Choices: stop})
	g.edits(m.Place, live, bot.Text{Body: "⏳ Working 0:02 · uptime\n✓ uptime  timed out", Choices: stop})
	g.edits(m.Place, live, bot.Text{Body: "⏳ Working 0:03 · uptime\n✓ uptime  timed out", Choices: stop})
	g.clock.pass(5 * time.Second)
	g.edits(m.Place, live, bot.Text{Body: "⏳ Working 0:07 · uptime\n✓ uptime  timed out", Choices: stop})
	g.edits(m.Place, live, bot.Text{Body: "⏳ Working 0:08 · df -h\n✓ uptime  timed out\n✓ uptime  timed out", Choices: stop})
	g.edits(m.Place, live, bot.Text{Body: "✅ Looked for 0:09\n✓ uptime  timed out\n✓ uptime  timed out"})
	card := g.says(m.Place, bot.Text{
		Body:    "🔴 Cycle devvm?\n\nUnsaved memory is lost.",
		Choices: []bot.Choice{{ID: "n1", Label: "Cycle devvm", Danger: true}, {ID: "n2", Label: "Cancel"}},
		Files:   []bot.File{{Name: "forensics.txt", Data: []byte("qmp")}},
	})
	click := g.types("2")
	if click.Click != "n1" || click.Card != card || click.Text != "" || click.Place != m.Place || click.ID == m.ID {
		t.Errorf("the click is %+v", click)
	}
	g.edits(m.Place, card, bot.Text{Body: "🟠 Cycling devvm"})
	g.enters("1") // it meant Stop, and Stop is gone: it must not mean the card's first button
	if other := g.types("4"); other.Text != "4" || other.Click != "" {
		t.Errorf("a number without a button is %+v", other)
	}
	g.prints(`note   ▸ The console of bgbot.
you    ▸ devvm is frozen
bgbot  ▸ ⏳ Working 0:00 · uptime
         [1] Stop
bgbot  ~ ✓ uptime  timed out
bgbot  ~ ⏳ Working 0:07 · uptime
bgbot  ~ ⏳ Working 0:08 · df -h
bgbot  ~ ✓ uptime  timed out
bgbot  ~ ✅ Looked for 0:09
bgbot  ▸ 🔴 Cycle devvm?

         Unsaved memory is lost.
         [2] Cycle devvm   [3] Cancel
         file: ` + filepath.Join(g.opt.Dir, "forensics.txt") + `
you    ▸ [Cycle devvm]
bgbot  ~ 🟠 Cycling devvm
note   ▸ That button is gone, nothing was pressed.
you    ▸ 4
`)
	if posts, edits := g.Counts(); posts != 1 || edits != 7 {
		t.Errorf("counted %d pushes and %d edits, want 1 and 7", posts, edits)
	}
}

func TestPlainLinesCanBeSearched(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.says(bot.Place{}, bot.Text{Body: `✗ ` + "`grep 'a\\.b' <x`" + `  0.1 s · stuck in io\_submit \& \<dead\> by @` + "\u2060kim  \nnext"})
	g.prints("bgbot  ▸ ✗ `grep 'a\\.b' <x`  0.1 s · stuck in io_submit & <dead> by @kim\n         next\n")
}

func TestOnlyChangesAreRepeated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		old, now  string
		due       bool
		news, got string
	}{
		{"⏳ 0:01|▸ df  0:01", "⏳ 0:02|▸ df  0:02", false, "", "⏳ 0:01|▸ df  0:01"},
		{"⏳ 0:01|▸ df  0:01", "⏳ 0:07|▸ df  0:07", true, "⏳ 0:07|▸ df  0:07", "⏳ 0:07|▸ df  0:07"},
		{"⏳ 0:01|▸ df  0:01", "⏳ 0:02|✓ df  0.2 s", false, "✓ df  0.2 s", "⏳ 0:01|✓ df  0.2 s"},
		{"a|a", "a|a|a", false, "a", "a|a|a"},
		{"a|b|c", "c||b", false, "", "c||b"},
		{"⏳ 0:01|The gue", "⏳ 0:02|The guest's wr", false, "", "⏳ 0:01|The gue"},
		{"⏳ 0:01|The gue", "⏳ 0:07|The guest's wr", true, "⏳ 0:07|The guest's wr", "⏳ 0:07|The guest's wr"},
		{"The gue", "The guest|The guest runs", false, "The guest runs", "The gue|The guest runs"},
		{"x 1|x 2", "x 2|x 3|x 4", false, "x 4", "x 2|x 1|x 4"},
	} {
		split := func(s string) []string { return strings.Split(s, "|") }
		news, known := changes(split(c.old), split(c.now), nil, c.due)
		if got := strings.Join(news, "|"); got != c.news || strings.Join(known, "|") != c.got {
			t.Errorf("from %s to %s: news %q, known %q", c.old, c.now, got, known)
		}
	}
}

func TestThreadsAreBegunListedAndSwitched(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil).run()
	first := g.types("devvm is frozen")
	second := g.types("/new the disk is full")
	if second.Place == first.Place || second.Text != "the disk is full" {
		t.Errorf("/new gave %+v", second)
	}
	g.says(first.Place, bot.Text{Body: "✅ devvm is back\nSSH answered."})
	g.says(bot.Place{Chat: "console", Channel: "console", Thread: "of-an-earlier-run"}, bot.Text{Body: "🔁 bgbot was restarted"})
	g.enters("/threads")
	g.enters("/threads 1")
	if m := g.types("thanks"); m.Place != first.Place {
		t.Errorf("after /threads 1 a message goes to %v, want %v", m.Place, first.Place)
	}
	g.enters("/threads 9")
	if m := g.types("/vm status"); m.Text != "/vm status" {
		t.Errorf("the core got %q", m.Text)
	}
	g.prints(`bgbot  ▸ (thread 1) ✅ devvm is back
         SSH answered.
bgbot  ▸ (thread 3) 🔁 bgbot was restarted
note   ▸ threads, /threads 1 looks at the first:
           1  devvm is frozen
         * 2  the disk is full
           3  🔁 bgbot was restarted
note   ▸ thread 1: devvm is frozen
note   ▸ There is no thread 9. /threads lists them.
`)
}

// A console is lived in for weeks: it forgets the oldest threads and buttons, no number ever means something else, and what
// still runs stays.
func TestAConsoleOfManyWeeksForgetsTheOldest(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil).run()
	stop := []bot.Choice{{ID: "halt", Label: "Stop"}}
	old := g.types("devvm is frozen")
	running := g.types("/new the disk is full")
	live := g.says(running.Place, bot.Text{Body: "⏳ Working", Choices: stop})
	finished := g.says(old.Place, bot.Text{Body: "🔴 Cycle devvm?", Choices: []bot.Choice{{ID: "yes", Label: "Cycle devvm"}}})
	var last bot.Message
	for range 2 * maxThreads {
		last = g.types("/new again")
	}
	for n := range maxButtons {
		g.edits(running.Place, live, bot.Text{Body: "⏳ Working", Choices: []bot.Choice{{ID: fmt.Sprint(n), Label: "Stop"}}})
	}
	g.mu.Lock()
	threads, buttons := len(g.talk.threads), len(g.buttons)
	g.mu.Unlock()
	if threads > maxThreads || buttons > maxButtons {
		t.Errorf("it keeps %d threads and %d buttons", threads, buttons)
	}
	if _, gone := errors.AsType[*bot.Gone](g.Edit(t.Context(), old.Place, finished, bot.Text{Body: "expired"})); !gone {
		t.Error("the oldest thread was not forgotten")
	}
	g.enters("/threads 1")
	g.enters("2") // it was the card's
	if click := g.types(fmt.Sprint(2 + maxButtons)); click.Click != fmt.Sprint(maxButtons-1) || click.Card != live {
		t.Errorf("the newest button is %+v", click)
	}
	if m := g.types("thanks"); m.Place != last.Place {
		t.Errorf("the person is in %v, want %v", m.Place, last.Place)
	}
	g.enters("/threads 2")
	if m := g.types("still there?"); m.Place != running.Place {
		t.Errorf("thread 2 is %v, want %v", m.Place, running.Place)
	}
	if out := g.out.String(); !strings.Contains(out, "There is no thread 1. /threads lists them.") || !strings.Contains(out, "That button is gone, nothing was pressed.") {
		t.Error("what is forgotten is not told")
	}
}

func TestAScriptEndsWhenTheBotHasFinished(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil).run()
	m := g.types("devvm is frozen")
	live := g.says(m.Place, bot.Text{Body: "⏳ Working", Choices: []bot.Choice{{ID: "halt", Label: "Stop"}}})
	g.in.Close()
	select {
	case err := <-g.ended:
		t.Fatalf("Run ended with %v while the bot worked", err)
	case <-time.After(4 * g.quiet):
	}
	g.edits(m.Place, live, bot.Text{Body: "✅ devvm is back"})
	select {
	case err := <-g.ended:
		if err != nil {
			t.Errorf("Run ended with %v", err)
		}
	case <-time.After(patient):
		t.Fatal("Run did not end")
	}
}

func TestRunEndsWithItsContextWhileTheTerminalIsSilent(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c, err := Open(Options{In: r, Out: io.Discard, Person: kim})
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("bgbot is restarting")
	ctx, stop := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { stop(why) })
	if err := c.Run(ctx, func(context.Context, bot.Message) error { return nil }); !errors.Is(err, why) {
		t.Errorf("Run ended with %v, want the cause", err)
	}
}

type full struct{}

func (full) Error() string       { return "sqlite: disk full (13)" }
func (full) UserMessage() string { return "The disk of bgbot is full." }

func TestAMessageThatWasNotRecordedIsSaidSo(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.err = full{}
	g.run()
	m := g.types("devvm is frozen")
	g.shows("note   ▸ not recorded: The disk of bgbot is full, type it again\n")
	g.says(m.Place, bot.Text{Body: "Really?", Choices: []bot.Choice{{ID: "y", Label: "Yes"}}})
	g.types("1")
	g.shows("note   ▸ not recorded: The disk of bgbot is full, press it again\n")
}

func TestAnEditOfAnEarlierRunIsGone(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	err := g.Edit(t.Context(), bot.Place{}, "dkz0", bot.Text{Body: "x"})
	if _, ok := errors.AsType[*bot.Gone](err); !ok || err.Error() != "gone: this terminal does not show that message any more" {
		t.Errorf("Edit says %v", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestATerminalThatIsGoneIsFatal(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(o *Options) { o.Out = broken{} })
	_, err := g.Post(t.Context(), bot.Place{}, bot.Text{Body: "x"})
	if f, ok := errors.AsType[*bot.Fatal](err); !ok || f.UserMessage() != "The terminal cannot be written any more: io: read/write on closed pipe." {
		t.Errorf("Post says %v", err)
	}
}

func TestIDsAreUniqueAlsoWhenTheClockStands(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	seen := map[string]bool{}
	for range 1000 {
		id := g.newID()
		if seen[id] {
			t.Fatalf("%s was given twice", id)
		}
		seen[id] = true
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		opt  Options
		want string
	}{
		{Options{Person: kim}, "console: In and Out must be given"},
		{Options{In: strings.NewReader(""), Out: io.Discard}, "console: Person must be given, or every message would be refused"},
	} {
		if _, err := Open(c.opt); err == nil || err.Error() != c.want {
			t.Errorf("Open says %v, want %s", err, c.want)
		}
	}
}

func TestAClockThatOnlyRunsIsNoNews(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	id := g.says(bot.Place{}, bot.Text{Body: "⏳ cycle devvm 0:00 · stop\n▸ stop"})
	for _, body := range []string{"⏳ cycle devvm 0:01 · stop\n▸ stop", "⏳ cycle devvm 0:02 · start\n✓ stop  1.6 s", "✅ cycle devvm · 2.6 s\n✓ stop  1.6 s"} {
		g.clock.pass(time.Second)
		g.edits(bot.Place{}, id, bot.Text{Body: body})
	}
	g.prints("bgbot  ▸ ⏳ cycle devvm 0:00 · stop\n         ▸ stop\n" +
		"bgbot  ~ ⏳ cycle devvm 0:02 · start\nbgbot  ~ ✓ stop  1.6 s\nbgbot  ~ ✅ cycle devvm · 2.6 s\n")
}

func TestWhatIsFinishedIsSaidOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	id := g.says(bot.Place{}, bot.Text{Body: "⏳ cycle\n✓ lock  0.1 s\n✓ stop  1.6 s"})
	for _, body := range []string{
		"⏳ cycle\n✓ 2 steps  1.7 s\n▸ start",
		"✅ cycle\n✓ lock  0.1 s\n✓ stop  1.6 s\n✓ stop  1.6 s\n✓ start  1.0 s",
	} {
		g.clock.pass(time.Minute)
		g.edits(bot.Place{}, id, bot.Text{Body: body})
	}
	g.prints("bgbot  ▸ ⏳ cycle\n         ✓ lock  0.1 s\n         ✓ stop  1.6 s\n" +
		"bgbot  ~ ✓ 2 steps  1.7 s\nbgbot  ~ ▸ start\n" +
		"bgbot  ~ ✅ cycle\nbgbot  ~ ✓ stop  1.6 s\nbgbot  ~ ✓ start  1.0 s\n")
}

// A phone's terminal has 45 columns, and would break a line in mid-word.
func TestPlainLinesAreBrokenBetweenWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, line, want string }{
		{"short", "bgbot  ▸ well", "bgbot  ▸ well"},
		{
			"long", "bgbot  ▸ The guest still answers pings but its disk path is dead.",
			"bgbot  ▸ The guest still answers pings but its\n         disk path is dead.",
		},
		{
			"a further line", "         The guest still answers pings but its disk path is dead.",
			"         The guest still answers pings but its\n         disk path is dead.",
		},
		{
			"a word that is longer than a line", "bgbot  ~ see " + strings.Repeat("x", 50) + " there",
			"bgbot  ~ see\n         " + strings.Repeat("x", 37) + "\n         " + strings.Repeat("x", 13) + " there",
		},
		{
			"a command", "bgbot  ~ ▸ `ssh devvm 'sudo dmesg -T | tail -20'`",
			"bgbot  ~ ▸ `ssh devvm 'sudo dmesg -T | tail\n         -20'`",
		},
		{"wide letters", "bgbot  ▸ 日本語日本語日本語 日本語日本語日本語!", "bgbot  ▸ 日本語日本語日本語\n         日本語日本語日本語!"},
	} {
		if got := folded(c.line+"\n", 46); got != c.want+"\n" {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	if line := "bgbot  ▸ no room at all\n"; folded(line, 12) != line {
		t.Error("a terminal of 12 columns has no room for the marks")
	}
}

func TestAPlainTerminalOf45Columns(t *testing.T) {
	t.Parallel()
	s := sit(t, 45, 30, "TERM=dumb")
	s.waits("devvm does not.")
	s.types("devvm is frozen\r")
	s.waits("[2] Cycle devvm")
	s.types("2\r")
	s.waits("devvm is back after")
	s.types("/quit\r")
	s.leaves()
	for line := range strings.Lines(s.output()) {
		if w := lipgloss.Width(strings.TrimRight(line, "\r\n")); w > 45 {
			t.Errorf("%d columns: %q", w, line)
		}
	}
}
