// Command bgbot repairs a wedged VM from a chat thread. This package holds the commands and their wiring: it turns the
// configuration into constructor arguments, maps signals and exit codes, and has no logic of the product.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"bgbot/bot/console"
	"bgbot/internal/lab"
)

// version is set by the linker.
var version = "dev"

func main() {
	if code, is := lab.Applet(os.Args); is { // a drill runs this binary under the names of a Proxmox host
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	var memory sync.WaitGroup
	memory.Go(func() { giveBack(ctx) })
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	memory.Wait()
	os.Exit(code)
}

// The exit codes of bgbot itself; `bgbot vm` adds those of the gate.
const (
	exitOK    = 0
	exitError = 1 // it was tried and failed
	exitUsage = 64
)

// env is what a command works with.
type env struct {
	environ []string
	in      *os.File
	out     io.Writer
	err     io.Writer
}

type command struct {
	name  string
	usage string // what follows the name
	about string
	run   func(ctx context.Context, e env, args []string) (int, error)
}

func commands() []command {
	return []command{
		{"serve", "[-c bgbot.yaml]", "the bot", runServe},
		{"console", "[-c bgbot.yaml] [--plain]", "the same bot with this terminal as its chat, for when the chat service is down", runConsole},
		{"vm", "VERB [-c bgbot.yaml] [--yes]", "one verb, no bot and no model; the exit code is the gate's", runVM},
		{"drill", "[SCENARIO] [--auto] [--live] [--break-model]", "a practice incident in this terminal; nothing real is touched", runDrill},
		{"doctor", "[-c bgbot.yaml]", "checks configuration, keys, hosts, Slack, claude and store, and names the mend", runDoctor},
		{"gate", "install [--apply|--check|--remove] [-c bgbot.yaml]", "sets up the Proxmox host and the VM, or prints how", runGate},
		{"slack", "manifest [--public]", "prints the Slack app that bgbot needs", runSlack},
		{"version", "", "prints the version", runVersion},
	}
}

func run(ctx context.Context, args, environ []string, in *os.File, out, errOut io.Writer) int {
	if len(args) == 0 || isHelp(args[0]) {
		usage(out)
		return exitOK
	}
	if args[0] == "--version" || args[0] == "-v" {
		args[0] = "version"
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		if c.name == "console" || c.name == "drill" { // people sit there for long, and must be able to leave
			var finish, finishErr func()
			out, finish = console.Outlet(out)
			errOut, finishErr = console.Outlet(errOut)
			defer finish()
			defer finishErr()
		}
		code, err := c.run(ctx, env{environ, in, out, errOut}, args[1:])
		switch {
		case errors.Is(err, flag.ErrHelp):
			return exitOK
		case err != nil:
			fmt.Fprintf(errOut, "bgbot %s: %s\n", c.name, sentence(err))
			if code == exitOK {
				code = exitError
			}
		}
		return code
	}
	fmt.Fprintf(errOut, "bgbot: there is no command %q. `bgbot help` lists them.\n", args[0])
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "bgbot repairs a wedged VM from a chat thread.\n\nTo see it at work without any set-up: bgbot drill\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  bgbot %-56s %s\n", c.name+" "+c.usage, c.about)
	}
	fmt.Fprint(w, "\n`bgbot COMMAND --help` says more. Every key of the configuration is also an environment variable:\n"+
		"gate.address is BGBOT_GATE_ADDRESS. Without -c, ./bgbot.yaml is read if it is there, else /etc/bgbot/bgbot.yaml.\n")
}

// sentence is an error as a person reads it: their own words, else the chain.
func sentence(err error) string {
	var said interface{ UserMessage() string }
	if errors.As(err, &said) {
		return said.UserMessage()
	}
	return err.Error()
}

// flags makes the flag set of a command; its --help begins with about.
func flags(e env, name, about string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(e.out)
	fs.Usage = func() {
		fmt.Fprintf(e.out, "%s\n\n", strings.TrimSpace(about))
		fs.PrintDefaults()
	}
	return fs
}

// parse takes flags before, between and behind at most n bare words, as people type them.
func parse(fs *flag.FlagSet, args []string, n int) (words []string, err error) {
	for {
		switch err := quietly(fs, args); {
		case errors.Is(err, flag.ErrHelp):
			fs.Usage()
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("%w; see bgbot %s --help", err, fs.Name())
		}
		if fs.NArg() == 0 {
			return words, nil
		}
		if len(words) == n {
			return nil, fmt.Errorf("%q is one word too many; see bgbot %s --help", fs.Arg(0), fs.Name())
		}
		words, args = append(words, fs.Arg(0)), fs.Args()[1:]
	}
}

// quietly parses without the words of package flag, which are the error and the whole help.
func quietly(fs *flag.FlagSet, args []string) error {
	out, usage := fs.Output(), fs.Usage
	defer func() {
		fs.SetOutput(out)
		fs.Usage = usage
	}()
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs.Parse(args)
}

func runVersion(_ context.Context, e env, _ []string) (int, error) {
	_, err := fmt.Fprintf(e.out, "bgbot %s\n", version)
	return exitOK, err
}
