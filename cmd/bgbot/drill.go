package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/bot"
	"bgbot/bot/console"
	"bgbot/internal/lab"
)

type drillFlags struct {
	auto, live, breakModel, plain bool
	vm, power, claude, logFile    string
	guest                         string
	scenario                      string
}

func runDrill(ctx context.Context, e env, args []string) (int, error) {
	f, err := drillArgs(e, args)
	if err != nil {
		return exitUsage, err
	}
	log := slog.New(slog.DiscardHandler)
	if f.logFile != "" {
		w, err := os.OpenFile(f.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return exitError, err
		}
		defer func() { _ = w.Close() }() // a log
		log = logger(w, "debug", "text", mask([]string{lookup(e.environ, "ANTHROPIC_API_KEY"), lookup(e.environ, "CLAUDE_CODE_OAUTH_TOKEN")}))
	}
	o := lab.Options{Scenario: f.scenario, VM: f.vm, Cache: f.guest, BreakModel: f.breakModel, Fast: f.auto, Transcript: e.out, Log: log}
	if err := o.Check(); err != nil {
		return exitError, err
	}
	if f.claude, err = findClaude(ctx, f.claude, e.environ); err != nil {
		return exitError, err
	}
	l, err := begin(ctx, o, e.err)
	if err != nil {
		if u, ok := errors.AsType[*lab.Unprepared](err); ok && u.Left == nil && ctx.Err() != nil {
			err = errLeft
		}
		return exitError, err
	}
	dir := filepath.Join(l.Dir(), "bgbot") // goes with the lab, also when this process is killed
	if err := os.Mkdir(dir, 0o700); err != nil {
		return exitError, errors.Join(err, l.Close())
	}
	d := &drill{drillFlags: f, e: e, dir: dir, lab: l, log: log}
	code, err := d.run(ctx)
	return code, errors.Join(err, l.Close())
}

var errLeft = errors.New("interrupted; everything is cleaned up")

// begin brings the VM up and breaks it. A real one takes its time, so somebody who waits for it hears what goes on.
func begin(ctx context.Context, o lab.Options, tell io.Writer) (*lab.Lab, error) {
	began := false
	o.Stage = func(word string) {
		if !began {
			began = true
			fmt.Fprintf(tell, "Starting a real VM for %q: about 10 s, more on a busy machine. ^C leaves.\n", o.Scenario)
		}
		fmt.Fprintf(tell, "%s … ", word)
	}
	l, err := lab.Start(ctx, o)
	if began {
		fmt.Fprintln(tell)
	}
	return l, err
}

func drillArgs(e env, args []string) (drillFlags, error) {
	var about strings.Builder
	about.WriteString("A practice incident: a broken VM and its Proxmox host on this machine, with the real bot, the real claude CLI, real\n" +
		"SSH and the real gate between you and them. The VM is simulated and up at once, or with --vm qemu a real Linux in a\n" +
		"real QEMU, up in some seconds. The model follows a script unless --live. Scenarios:\n\n")
	for _, s := range lab.Scenarios() {
		only := ""
		if !slices.Contains(s.VMs, lab.Simulated) {
			only = "(--vm qemu) "
		}
		fmt.Fprintf(&about, "  %-12s %s\n", s.Name, folded(only+s.Story, 100, "\n"+strings.Repeat(" ", 15)))
	}
	var f drillFlags
	fs := flags(e, "drill", about.String())
	fs.BoolVar(&f.auto, "auto", false, "play the operator too and print the score;\nexits 0 only if the VM was really recovered and the bot says so")
	fs.BoolVar(&f.live, "live", false, "use a real model, which then runs its commands on this machine as you:\na key in ANTHROPIC_API_KEY, or a token in CLAUDE_CODE_OAUTH_TOKEN (from claude setup-token)")
	fs.BoolVar(&f.breakModel, "break-model", false, "the model refuses connections; the verbs still work")
	fs.BoolVar(&f.plain, "plain", false, "lines instead of a full screen")
	fs.StringVar(&f.vm, "vm", lab.Simulated, "the `kind` of VM: simulated, or qemu, which needs what make deps installs")
	fs.StringVar(&f.power, "power", "confirm", "the `mode` of the agent's power verbs: auto, confirm or readonly")
	fs.StringVar(&f.claude, "claude", "", "the claude CLI as a `path`, version "+agentrun.Pinned+"\n(default: PATH, then what make deps installed)")
	fs.StringVar(&f.guest, "guest", "", "for --vm qemu: the `folder` of the guest's packages (default: what make deps downloaded)")
	fs.StringVar(&f.logFile, "log", "", "write the bot's log to this `file`")
	words, err := parse(fs, args, 1)
	f.scenario = "io-stall"
	if len(words) > 0 {
		f.scenario = words[0]
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
	case !slices.Contains([]string{"auto", "confirm", "readonly"}, f.power):
		err = fmt.Errorf("--power %s: use auto, confirm or readonly", f.power)
	case f.auto && f.live:
		err = errors.New("--auto plays against the script; with --live play yourself")
	}
	return f, err
}

// folded breaks a text between words, where a line would be longer than that.
func folded(text string, width int, newline string) string {
	var s strings.Builder
	line := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case line == 0:
		case line+1+n > width:
			s.WriteString(newline)
			line = 0
		default:
			s.WriteByte(' ')
			line++
		}
		s.WriteString(word)
		line += n
	}
	return s.String()
}

// took is a time as the bot writes it.
func took(d time.Duration) string {
	if d = d.Round(time.Second); d < 2*time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}

// drill is one practice incident with the bot in front of it.
type drill struct {
	drillFlags
	e   env
	dir string
	lab *lab.Lab
	log *slog.Logger
}

func (d *drill) run(ctx context.Context) (int, error) {
	s, err := d.settings()
	if err != nil {
		return exitError, err
	}
	if d.auto {
		return d.playAuto(ctx, s)
	}
	return d.playByHand(ctx, s)
}

func (d *drill) settings() (settings, error) {
	me := "operator"
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	s := settings{
		vm: bot.VM{Name: d.lab.VMName(), ID: d.lab.VMID()}, gate: d.lab.Gate(), ssh: d.lab.VM(),
		people:  []auth.Person{{Chat: "console", ID: me}},
		confirm: bot.Confirm{TTL: 2 * time.Minute, By: auth.Requester},
		power:   bot.Power(d.power), model: "sonnet",
		storeURL: "sqlite://" + filepath.Join(d.dir, "bgbot.db"),
		agent: agentrun.Config{
			Command: d.claude, Dir: filepath.Join(d.dir, "agent"), Model: "sonnet", BaseURL: d.lab.ModelURL(),
			APIKey:      func() (string, error) { return "drill-key-that-opens-nothing", nil },
			Live:        2,
			StallNotice: 20 * time.Second,
			TurnTimeout: 10 * time.Minute, IdleTimeout: 5 * time.Minute, Steps: 60, BudgetUSD: 5,
		},
	}
	if d.live {
		s.agent.BaseURL, s.agent.APIKey = "", nil
		key, token := lookup(d.e.environ, "ANTHROPIC_API_KEY"), lookup(d.e.environ, "CLAUDE_CODE_OAUTH_TOKEN")
		switch {
		case key != "":
			s.agent.APIKey = func() (string, error) { return key, nil }
		case token != "":
			s.agent.OAuthToken = func() (string, error) { return token, nil }
		default:
			return settings{}, errors.New("--live needs a login: put a key into ANTHROPIC_API_KEY, or a token from `claude setup-token` into CLAUDE_CODE_OAUTH_TOKEN")
		}
		s.secrets = []string{key, token}
	}
	var err error
	s.agent.Agent, err = breakglass(s.vm.Name, s.ssh.Address, s.vm.ID, d.power, nil)
	return s, err
}

// playByHand is the person's own incident. It watches the VM beside the bot and says when it is really back.
func (d *drill) playByHand(ctx context.Context, s settings) (int, error) {
	sc := d.lab.Scenario()
	files, kept, err := d.files()
	if err != nil {
		return exitError, err
	}
	defer kept()
	chat, err := console.Open(console.Options{
		In: d.e.in, Out: d.e.out, Person: s.people[0], Title: "bgbot drill · " + sc.Name, Plain: d.plain,
		Dir: files, Environ: d.e.environ,
		Greeting: fmt.Sprintf("**Practice incident: %s.** %s\n\nType for example: `%s`\n\nStuck? %s", sc.Title, sc.Story, sc.Prompt, sc.Hint),
	})
	if err != nil {
		return exitError, err
	}
	ctx, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	began, back := time.Now(), time.Duration(0)
	watch.Go(func() {
		if !d.recovered(ctx) {
			return
		}
		back = time.Since(began)
		_, _ = chat.Post(ctx, bot.Place{Chat: "console", Channel: "console"}, bot.Text{
			Body: fmt.Sprintf("🏁 Drill: a fresh login says that %s is really back, %s after you came. ^D leaves.", s.vm.Name, took(back)),
		})
	})
	err = serve(ctx, s, atConsole(chat), d.log)
	stop()
	watch.Wait()
	switch {
	case err != nil:
		return exitError, err
	case back == 0 && d.backAfterAll(ctx):
		fmt.Fprintf(d.e.out, "Drill over: %s is back; you left before anybody had looked.\n", s.vm.Name)
	case back == 0:
		fmt.Fprintf(d.e.out, "Drill over: you left before %s was back.\n", s.vm.Name)
	default:
		fmt.Fprintf(d.e.out, "Drill over: %s was recovered after %s; %d commands reached the machines.\n", s.vm.Name, took(back), len(d.lab.Commands()))
	}
	return exitOK, nil
}

// files is a folder for what is saved in a drill. It stays if something was, and kept says where.
func (d *drill) files() (dir string, kept func(), err error) {
	dir, err = os.MkdirTemp("", "bgbot-drill-files-")
	return dir, func() {
		if os.Remove(dir) != nil {
			fmt.Fprintf(d.e.out, "Files are kept in %s.\n", dir)
		}
	}, err
}

// backAfterAll looks a last time, for somebody who has left already.
func (d *drill) backAfterAll(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	return d.lab.Recovered(ctx) == nil
}

// recovered waits until the VM is really back; false means that ctx ended first.
func (d *drill) recovered(ctx context.Context) bool {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
			if d.lab.Recovered(ctx) == nil {
				return true
			}
		}
	}
}

// playAuto lets the lab's operator type and read what a person would.
func (d *drill) playAuto(ctx context.Context, s settings) (int, error) {
	typed, keys := io.Pipe()
	screen, drawn := io.Pipe()
	files, kept, err := d.files()
	if err != nil {
		return exitError, err
	}
	defer kept()
	chat, err := console.Open(console.Options{In: typed, Out: drawn, Person: s.people[0], Plain: true, Dir: files})
	if err != nil {
		return exitError, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var bots sync.WaitGroup
	var served error
	bots.Go(func() {
		served = serve(ctx, s, atConsole(chat), d.log)
		_ = drawn.CloseWithError(served) // the operator sees the end of the chat; never fails
	})
	score, err := d.lab.Play(ctx, keys, screen, func() int { posts, _ := chat.Counts(); return posts })
	stop()
	go func() { _, _ = io.Copy(io.Discard, screen) }() // what the bot still says must not block it; ends when drawn closes
	bots.Wait()
	if err = errors.Join(err, served); err != nil {
		return exitError, err
	}
	fmt.Fprintf(d.e.out, "\n%s\n", score)
	if !score.OK {
		return exitError, nil
	}
	return exitOK, nil
}

func lookup(environ []string, key string) string {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}

// findClaude looks for the pinned CLI: as told, on PATH, then where `make deps` puts it beside the binary's folder.
func findClaude(ctx context.Context, told string, environ []string) (string, error) {
	candidates := []string{told, lookup(environ, "BGBOT_AGENT_COMMAND")}
	if path, err := exec.LookPath("claude"); err == nil {
		candidates = append(candidates, path)
	}
	cached := filepath.Join(".cache", "claude-"+agentrun.Pinned, "node_modules", ".bin", "claude")
	if exe, err := os.Executable(); err == nil {
		candidates = append(candidates, filepath.Join(filepath.Dir(filepath.Dir(exe)), cached))
	}
	for _, c := range candidates {
		if c == "" {
			continue
		}
		out, err := exec.CommandContext(ctx, c, "--version").Output()
		if err == nil && strings.HasPrefix(string(out), agentrun.Pinned+" ") {
			return filepath.Abs(c)
		}
		if ctx.Err() != nil {
			return "", errLeft
		}
		if c == told {
			return "", fmt.Errorf("--claude %s: that is not version %s of the claude CLI", c, agentrun.Pinned)
		}
	}
	return "", fmt.Errorf("the claude CLI %s was not found; `make deps` installs it, or name it with --claude", agentrun.Pinned)
}
