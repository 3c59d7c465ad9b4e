package sshagent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestAKeyFileIsReadOrTheSentenceSaysWhyNot(t *testing.T) {
	t.Parallel()
	private, signer := newKeyPair(t)
	locked := marshalKey(t, mustECDSA(t), "a passphrase")
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	got, err := ReadKey(file("good", private, 0o400))
	if err != nil || !bytes.Equal(got.PublicKey().Marshal(), signer.PublicKey().Marshal()) {
		t.Errorf("a good key: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return "The key file " + filepath.Join(dir, name) + " " }
	for path, want := range map[string]string{
		file("open", private, 0o644):     at("open") + "has mode 0644, so others than its owner can use it; run: chmod 600 " + filepath.Join(dir, "open") + ".",
		file("group", private, 0o640):    at("group") + "has mode 0640, so others than its owner can use it; run: chmod 600 " + filepath.Join(dir, "group") + ".",
		file("locked", locked, 0o600):    at("locked") + "is protected by a passphrase, which nobody can type here; make a key for the bot alone: ssh-keygen -t ed25519 -N ''.",
		file("text", "hunter2", 0o600):   at("text") + "is not a private key; it must begin with -----BEGIN OPENSSH PRIVATE KEY----- or another PEM header.",
		file("empty", "", 0o600):         at("empty") + "is not a private key; it must begin with -----BEGIN OPENSSH PRIVATE KEY----- or another PEM header.",
		file("cut", private[:99], 0o600): at("cut") + "is not a private key; it must begin with -----BEGIN OPENSSH PRIVATE KEY----- or another PEM header.",
		file("pub", string(ssh.MarshalAuthorizedKey(signer.PublicKey())), 0o600): at("pub") + "holds a public key; name the private one, without .pub.",
		filepath.Join(dir, "absent"): at("absent") + "does not exist.",
		dir:                          "The key file " + dir + " is not a file; name the private key itself.",
		fifo:                         at("fifo") + "is not a file; name the private key itself.",
	} {
		_, err := ReadKey(path)
		e, ok := errors.AsType[*KeyFileError](err)
		if !ok || e.UserMessage() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes the file: %v", err)
		}
	}
}

func TestEveryKindOfKeyLogsIn(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"ecdsa": mustECDSA(t), "rsa": rsaKey} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(marshalKey(t, key, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		signer, err := ReadKey(path)
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, newHost(t, signer.PublicKey()).alias("devvm", signer))
		if _, errs, exit := s.run("ssh devvm true"); exit != 0 {
			t.Errorf("%s: exit %d, %s", name, exit, errs)
		}
	}
}

func mustECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func marshalKey(t *testing.T, key any, passphrase string) string {
	t.Helper()
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}
