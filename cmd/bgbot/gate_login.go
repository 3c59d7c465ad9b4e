package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"bgbot/internal/sshagent"
	"bgbot/pve/install"
)

func (g *gateInstall) reach(ctx context.Context, f far, through *install.Machine) (*install.Machine, error) {
	f.Signers = g.signers
	if term.IsTerminal(int(g.e.in.Fd())) {
		f.trust.Ask = func(question string) bool { return g.ask(ctx, question) }
	}
	return install.Reach(ctx, f.Login, f.trust, through, g.e.out)
}

func (g *gateInstall) ask(ctx context.Context, question string) bool {
	fmt.Fprint(g.e.err, question, " Type yes: ")
	typed := make(chan string, 1)
	go func() { // ends with the process: a read of a terminal cannot be cancelled
		typed <- readLine(g.e.in)
	}()
	select {
	case line := <-typed:
		return line == "yes"
	case <-ctx.Done():
		return false
	}
}

// readLine reads no byte behind the line: the next question gets the rest.
func readLine(in *os.File) string {
	var line []byte
	for b := make([]byte, 1); ; {
		if n, err := in.Read(b); n == 0 || err != nil || b[0] == '\n' {
			return strings.TrimSpace(string(line))
		}
		line = append(line, b[0])
	}
}

// identities finds the keys of the person who installs.
func (g *gateInstall) identities(ctx context.Context) (release func(), err error) {
	if g.identity == "" {
		g.signers, release, err = install.Identities(ctx, g.getenv("SSH_AUTH_SOCK"), g.getenv("HOME"), sshagent.ReadKey)
		return release, err
	}
	signer, err := sshagent.ReadKey(g.identity)
	if err != nil && strings.Contains(err.Error(), "passphrase") {
		err = fmt.Errorf("%s has a passphrase: run `ssh-add %s`, then leave --identity out", g.identity, g.identity)
	}
	g.signers = []ssh.Signer{signer}
	return func() {}, err
}
