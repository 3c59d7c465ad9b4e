package install

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// Pairs are the key pairs that the options name.
func (o *Options) Pairs() []*Key {
	all := []*Key{&o.GateKey, &o.VMKey}
	if o.ReadOnly.File != "" {
		all = append(all, &o.ReadOnly)
	}
	return all
}

// MakeKeys makes the key pairs that are not there yet, and tells out of each one. A file that exists is never touched.
func (o *Options) MakeKeys(out io.Writer) error {
	w := Work{Out: out}
	w.say("This machine")
	for _, k := range o.Pairs() {
		is := unchanged
		if k.Signer == nil {
			name := gateKeyName
			if k == &o.ReadOnly {
				name = readOnlyKeyName
			}
			var err error
			if k.Signer, err = makeKey(k.File, name); err != nil {
				return err
			}
			is = made
		}
		w.line(k.File, is, ssh.FingerprintSHA256(k.Signer.PublicKey()))
	}
	return nil
}

// makeKey makes an ed25519 key pair: file with mode 0600, and the public key beside it as file.pub. It never touches a
// file that exists. Its errors are [*Problem]s.
func makeKey(file, comment string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	text, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	public := file + ".pub"
	if _, err := os.Lstat(file); err == nil {
		return nil, unwritten(file, fs.ErrExist)
	}
	if _, err := os.Lstat(public); err == nil {
		return nil, problem("%s exists without %s. Move it away, or bring its private key.", public, file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, unwritten(file, err)
	}
	if err := writeNew(file, pem.EncodeToMemory(text), 0o600); err != nil {
		return nil, unwritten(file, err)
	}
	return signer, unwritten(public, writeNew(public, []byte(Key{Signer: signer}.line(comment)+"\n"), 0o644))
}

// WriteNew writes a file of mode 0600 that must not exist yet.
func WriteNew(file string, text []byte) error { return unwritten(file, writeNew(file, text, 0o600)) }

// writeNew writes the whole file or none of it, and never over another one: that is what a link is good for.
func writeNew(file string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".bgbot-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Link(f.Name(), file)
}

func unwritten(file string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return &Problem{Text: file + " exists already and is not overwritten.", Err: err}
	case errors.Is(err, fs.ErrPermission):
		return &Problem{Text: fmt.Sprintf("%s cannot be written by this user; name another folder with --keys, or another file.", file), Err: err}
	}
	return &Problem{Text: fmt.Sprintf("%s cannot be written: %v.", file, err), Err: err}
}
