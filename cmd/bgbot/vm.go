package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"bgbot/bot/console"
	"bgbot/config"
	"bgbot/pve"
)

func runVM(ctx context.Context, e env, args []string) (int, error) {
	var about strings.Builder
	about.WriteString("Runs one verb on the Proxmox host's gate. No bot, no model, no store; the exit code is the gate's:\n" +
		"0 done and verified, 2 rejected, 3 busy, 4 refused, 5 qm failed, 6 not verified in time, 7 the gate failed or the outcome is unknown,\n1 nothing was begun: host not reached, configuration, not confirmed.\n\n")
	for _, v := range pve.Verbs() {
		fmt.Fprintf(&about, "  %-10s %s\n", v, v.Explain())
	}
	fs := flags(e, "vm", about.String())
	path := fs.String("c", "", "the configuration `file`")
	yes := fs.Bool("yes", false, "do not ask before a change")
	dir := fs.String("files", "", "save the evidence (forensics.txt, …) into this `folder`")
	words, err := parse(fs, args, 1)
	if err != nil {
		return exitUsage, err
	}
	if len(words) == 0 {
		fs.Usage()
		return exitUsage, errors.New("which verb?")
	}
	verb, err := pve.ParseVerb(words[0])
	if err != nil {
		return int(pve.Rejected), err
	}
	// The last way in: what only the bot needs may be wrong.
	cfg, _, err := loadWithout(*path, e.environ, "ssh", "auth", "slack", "mattermost", "confirm", "agent", "watch", "mirror", "store", "http", "log")
	if err != nil {
		return exitError, err
	}
	to, err := host("the Proxmox host", cfg.Gate)
	if err != nil {
		return exitError, fmt.Errorf("gate: %w", err)
	}
	gate := pve.NewClient(to, cfg.VM.VMID, logger(e.err, "error", "text", mask(nil)))
	defer func() { _ = gate.Close() }() // the answer is in
	if verb.Changes() {
		if !*yes {
			if err := confirm(ctx, e, gate, verb, cfg); err != nil {
				return exitError, err
			}
		}
		ctx = context.WithoutCancel(ctx) // ^C does not cut a change
	}
	steps := newStepper(e)
	report, err := gate.Run(ctx, verb, steps.show)
	if err := keep(e, *dir, report.Files); err != nil {
		fmt.Fprintln(e.err, "the evidence was not saved:", err)
	}
	if _, unreached := errors.AsType[*pve.Unreachable](err); unreached {
		return exitError, err
	}
	if err != nil { // the outcome may be unknown: not "not reached", which a script would try again
		return int(pve.Broken), err
	}
	fmt.Fprintln(e.out, report.Result.Text)
	if v := report.Result.Verdict; v != "" && !strings.Contains(report.Result.Text, v) {
		if verb.Changes() {
			v = "Before: " + v
		}
		fmt.Fprintln(e.out, v)
	}
	return int(report.Result.Exit), nil
}

func confirm(ctx context.Context, e env, gate *pve.Client, v pve.Verb, cfg *config.Config) error {
	if !term.IsTerminal(int(e.in.Fd())) {
		return fmt.Errorf("%s changes %s; without a terminal to ask on, say --yes", v, cfg.VM.Name)
	}
	state := "its state is unknown: "
	look, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if report, err := gate.Run(look, pve.Status, func(pve.Step) {}); err != nil {
		state += sentence(err)
	} else {
		state = report.Result.Text
		if advised := report.Result.Advice; advised != "" && advised != v {
			state += fmt.Sprintf("\nThe host advises %s, not %s.", advised, v)
		}
	}
	fmt.Fprintf(e.err, "%s (VM %d on %s): %s\nA %s %s.\nType %s to go on: ", cfg.VM.Name, cfg.VM.VMID, cfg.Gate.Address, state, v, v.Explain(), v)
	typed := make(chan string, 1)
	go func() { // ends with the process: a read of a terminal cannot be cancelled
		line, _ := bufio.NewReader(e.in).ReadString('\n')
		typed <- strings.TrimSpace(line)
	}()
	select {
	case line := <-typed:
		if line == string(v) {
			return nil
		}
	case <-ctx.Done():
	}
	return errors.New("not confirmed; nothing was done")
}

// keep saves the files into dir, and draws a picture where the terminal can. Without a dir it only says that there are
// some.
func keep(e env, dir string, files []pve.File) error {
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
		if out, ok := e.err.(*os.File); ok && f.Type == "image/png" {
			console.Draw(out, e.environ, f.Data)
		}
	}
	if dir == "" {
		if len(names) > 0 {
			fmt.Fprintf(e.err, "not kept here: %s; --files FOLDER keeps them\n", strings.Join(names, ", "))
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.Base(f.Name))
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			return err
		}
		fmt.Fprintln(e.err, "saved", path)
	}
	return nil
}

// stepper shows the steps of a verb as they come: for a person how long each took, for a script what came when.
type stepper struct {
	out      io.Writer
	terminal bool
	began    time.Time
	last     time.Time            // when the newest step came
	open     map[string]time.Time // steps that have begun
}

func newStepper(e env) *stepper {
	f, ok := e.err.(*os.File)
	now := time.Now()
	return &stepper{out: e.err, terminal: ok && term.IsTerminal(int(f.Fd())), began: now, last: now, open: map[string]time.Time{}}
}

func (s *stepper) show(st pve.Step) {
	if st.Name != "" || st.Step == "op" { // files are told of when they are saved
		return
	}
	now := time.Now()
	since, begun := s.open[st.Step]
	if delete(s.open, st.Step); !begun {
		since = s.last
	}
	s.last = now
	if !s.terminal {
		fmt.Fprintf(s.out, "%5.1fs  %-5s %-12s %s\n", now.Sub(s.began).Seconds(), st.State, st.Step, st.Text)
		return
	}
	mark, took := map[pve.State]string{pve.StepStart: "▸", pve.StepFail: "✗", pve.StepSkip: "–"}[st.State], ""
	switch st.State {
	case pve.StepStart:
		s.open[st.Step] = now
	case pve.StepOK, pve.StepFail:
		took = fmt.Sprintf("%.1f s", now.Sub(since).Seconds())
	case pve.StepSkip:
	}
	if mark == "" {
		mark = "✓"
	}
	fmt.Fprintf(s.out, "%s %-12s %8s  %s\n", mark, st.Step, took, st.Text)
}
