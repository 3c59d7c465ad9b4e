package main

import (
	"context"
	"errors"
	"io"

	"golang.org/x/crypto/ssh"

	"bgbot/pve"
)

// mostLook is the most that a look into the VM reads, in bytes.
const mostLook = 64 << 10

// look logs in to the VM and asks systemd what is not well there. A VM without systemd has nothing to say.
func look(ctx context.Context, vm pve.Host) (string, error) {
	client, err := vm.Dial(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	release := context.AfterFunc(ctx, func() { _ = client.Close() }) // a session knows no context
	defer release()
	out, err := ask(client, "systemctl is-system-running; systemctl --failed --no-legend --plain")
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", &pve.Unreachable{Host: vm.Name, Why: pve.Stuck, Err: err}
	}
	return out, nil
}

// ask runs a command and reads what it prints until its end, whatever its exit code.
func ask(client *ssh.Client, command string) (string, error) {
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := session.Start(command); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(out, mostLook))
	if err != nil || len(text) == mostLook {
		return string(text), err
	}
	if end := session.Wait(); end != nil {
		if _, exited := errors.AsType[*ssh.ExitError](end); !exited {
			return "", end
		}
	}
	return string(text), nil
}
