package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"bgbot/pve"
)

func runVM(ctx context.Context, e env, args []string) (int, error) {
	var about strings.Builder
	about.WriteString("Runs one verb on the Proxmox host's gate. No bot, no model, no store; the exit code is the gate's:\n" +
		"0 done and verified, 2 rejected, 3 busy, 4 refused, 5 qm failed, 6 not verified in time, 7 the gate failed, 1 not reached.\n\n")
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
	cfg, err := load(*path, e.environ)
	if err != nil {
		return exitError, err
	}
	s, err := fromConfig(cfg)
	if err != nil {
		return exitError, err
	}
	if verb.Changes() && !*yes {
		if err := confirm(ctx, e, verb, s.vm.Name); err != nil {
			return exitError, err
		}
	}
	log := logger(e.err, "error", "text", mask(s.secrets))
	gate := pve.NewClient(s.gate, s.vm.ID, log)
	defer func() { _ = gate.Close() }() // the answer is in
	began := time.Now()
	report, err := gate.Run(context.WithoutCancel(ctx), verb, func(st pve.Step) { // ^C does not cut a change
		if st.Name == "" {
			fmt.Fprintf(e.err, "%5.1fs  %-5s %-12s %s\n", time.Since(began).Seconds(), st.State, st.Step, st.Text)
		}
	})
	if report.Result.Text != "" {
		fmt.Fprintln(e.out, report.Result.Text)
	}
	if *dir != "" {
		err = errors.Join(err, save(e, *dir, report.Files))
	}
	if err != nil {
		return exitError, err
	}
	return int(report.Result.Exit), nil
}

func confirm(ctx context.Context, e env, v pve.Verb, vm string) error {
	if !term.IsTerminal(int(e.in.Fd())) {
		return fmt.Errorf("%s changes %s; without a terminal to ask on, say --yes", v, vm)
	}
	fmt.Fprintf(e.err, "%s: %s.\nType %s to go on: ", v, v.Explain(), v)
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

func save(e env, dir string, files []pve.File) error {
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
