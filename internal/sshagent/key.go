package sshagent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// maxKeyFile is far above any private key; a wrong path, such as a log, is not read to its end.
const maxKeyFile = 64 << 10

// KeyFileError says why [ReadKey] did not take a file. It never holds anything of the file's content.
type KeyFileError struct {
	Path    string
	Problem string // reads on after "the key file PATH "
}

func (e *KeyFileError) Error() string { return "the key file " + e.Path + " " + e.Problem }

// UserMessage is the error as a person reads it.
func (e *KeyFileError) UserMessage() string { return "The key file " + e.Path + " " + e.Problem + "." }

// ReadKey reads a private key without a passphrase, in any format that OpenSSH writes. It refuses a file that anybody
// but its owner may read, unless it is root's, lent to the group of a bgbot that is not root. Its errors are [KeyFileError]s.
func ReadKey(path string) (ssh.Signer, error) {
	// O_NONBLOCK: opening a FIFO must not wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unopened(path, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, unopened(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, &KeyFileError{path, "is not a file; name the private key itself"}
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && !lent(info) {
		return nil, &KeyFileError{path, fmt.Sprintf("has mode %04o, so others than its owner can use it; run: chmod 600 %s", mode, path)}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, unopened(path, err)
	}
	return parseKey(path, text)
}

// lent says that the file is root's and its group may read it and do no more: then a command of our own user, such as the
// agent's, cannot change who may.
func lent(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0 && os.Geteuid() != 0 && info.Mode().Perm()&0o037 == 0
}

func parseKey(path string, text []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(text)
	if err == nil {
		return signer, nil
	}
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, &KeyFileError{path, "is protected by a passphrase, which nobody can type here; make a key for the bot alone: ssh-keygen -t ed25519 -N ''"}
	}
	if _, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		return nil, &KeyFileError{path, "holds a public key; name the private one, without .pub"}
	}
	// The parser's own error is left out: what it quotes is the file's content.
	return nil, &KeyFileError{path, "is not a private key; it must begin with -----BEGIN OPENSSH PRIVATE KEY----- or another PEM header"}
}

func unopened(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return &KeyFileError{path, "does not exist"}
	}
	if p, ok := errors.AsType[*os.PathError](err); ok {
		err = p.Err
	}
	return &KeyFileError{path, "cannot be read: " + err.Error()}
}
