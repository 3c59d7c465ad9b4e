package console

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bgbot/auth"
	"bgbot/bot"
)

// TestMain makes the test binary a console with a small bot behind it, for the tests that need a real terminal, and for
// a look by hand: CONSOLE_DEMO=dir ./console.test
func TestMain(m *testing.M) {
	dir := os.Getenv("CONSOLE_DEMO")
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := demo(dir); err != nil {
		out, finish := Outlet(os.Stderr)
		fmt.Fprintln(out, err)
		finish()
		os.Exit(1)
	}
}

func demo(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	c, err := Open(Options{
		In: os.Stdin, Out: os.Stdout, Person: auth.Person{Chat: "console", ID: "kim"}, Environ: os.Environ(),
		Title: "bgbot · devvm (VM 102)", Dir: dir, History: dir + "/history",
		Greeting: "This is the console of bgbot. It helps while this machine lives and devvm does not.",
	})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	b := &demoBot{c: c}
	defer b.wg.Wait()
	return c.Run(ctx, b.handle)
}

// demoBot answers as the real one would, without anything behind it.
type demoBot struct {
	c  *Console
	wg sync.WaitGroup

	mu      sync.Mutex
	stopped chan struct{} // closed when the person says stop
}

var stopChoice = []bot.Choice{{ID: "halt", Label: "Stop"}}

func (b *demoBot) handle(ctx context.Context, m bot.Message) error {
	if m.Text == "lose this" {
		return fmt.Errorf("the disk is full")
	}
	b.wg.Go(func() { b.answer(ctx, m) })
	return nil
}

func (b *demoBot) answer(ctx context.Context, m bot.Message) {
	switch {
	case m.Click == "halt" || m.Text == "stop":
		b.mu.Lock()
		if b.stopped != nil {
			close(b.stopped)
			b.stopped = nil
		}
		b.mu.Unlock()
	case m.Click == "cycle":
		b.cycle(ctx, m)
	case m.Click == "cancel":
		_ = b.c.Edit(ctx, m.Place, m.Card, bot.Text{Body: "⚪ Cancelled. devvm was not touched."})
	case strings.Contains(m.Text, "frozen"):
		b.frozen(ctx, m)
	case strings.HasPrefix(m.Text, "elsewhere"):
		b.post(ctx, bot.Place{Chat: "console", Channel: "console", Thread: "old"}, "🔁 bgbot was restarted; send a message to go on.")
	case m.Text == "evil":
		b.post(ctx, m.Place, evil)
	default:
		b.post(ctx, m.Place, "You said: "+m.Text)
	}
}

const evil = "\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b[1;1Hharm&#27;]0;owned&#7;less `&#x1b;[5m` \u009b5mtext"

func (b *demoBot) post(ctx context.Context, p bot.Place, body string, ch ...bot.Choice) string {
	id, _ := b.c.Post(ctx, p, bot.Text{Body: body, Choices: ch})
	return id
}

func (b *demoBot) frozen(ctx context.Context, m bot.Message) {
	stopped := make(chan struct{})
	b.mu.Lock()
	b.stopped = stopped
	b.mu.Unlock()
	steps := []string{
		"✓ `ssh devvm 'uptime; free -h; df -h'`  timed out after 10 s",
		"✓ `ssh pve status`  running · no block I/O for 12 s",
		"✓ `ssh devvm \"dmesg | sed 's/\\./x/' | tail -40\"`  exit 255",
		"The guest still answers pings but its disk path is dead inside QEMU: `iothread` of <vm-102> is stuck in **io_submit**.",
	}
	id, _ := b.c.Post(ctx, m.Place, bot.Text{Body: "⏳ Working 0:00 · thinking", Choices: stopChoice, Quiet: true})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 1; i <= 4*len(steps); i++ {
		select {
		case <-tick.C:
		case <-stopped:
			_ = b.c.Edit(ctx, m.Place, id, bot.Text{Body: "⏹ Stopped after 0:02. Nothing of it is left running."})
			return
		case <-ctx.Done():
			return
		}
		body := fmt.Sprintf("⏳ Working 0:%02d · `ssh devvm 'sudo dmesg -T | tail -40'`\n%s", i, strings.Join(steps[:i/4], "\n"))
		_ = b.c.Edit(ctx, m.Place, id, bot.Text{Body: body, Choices: stopChoice})
	}
	_ = b.c.Edit(ctx, m.Place, id, bot.Text{Body: "✅ Looked for 0:16\n" + strings.Join(steps, "\n")})
	b.post(ctx, m.Place, "🔴 Cycle devvm? running 9 d 4 h · no block I/O for 12 s · forensics 20 s old\n"+
		"A reset would keep the wedged QEMU; a cycle starts a fresh one. Unsaved guest memory is lost.\n"+
		"or type: `confirm 4F7Q` · expires in 2:00",
		bot.Choice{ID: "cycle", Label: "Cycle devvm", Danger: true}, bot.Choice{ID: "cancel", Label: "Cancel"})
}

func (b *demoBot) cycle(ctx context.Context, m bot.Message) {
	_ = b.c.Edit(ctx, m.Place, m.Card, bot.Text{Body: "🟠 Cycling devvm, confirmed by @kim, op c81f"})
	_, _ = b.c.Post(ctx, m.Place, bot.Text{
		Body: "✅ devvm is back after 41 s (cycle by @kim, op c81f). SSH answered.\n\n| unit | state |\n|---|---|\n| t3-serve | **failed** |\n| sshd | running |",
		Files: []bot.File{
			{Name: "forensics-c81f.txt", Type: "text/plain", Data: []byte("qmp: running\n")},
			{Name: "../../screen-c81f.png", Type: "image/png", Data: screenshot(720, 400)},
		},
	})
}
