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
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
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

// Who takes the agent's commands seriously gives the keys to root and lends them to bgbot's group: then no command of
// bgbot's user can open them to others by a chmod. Kubernetes hands a secret to a pod in the same way.
func TestAKeyOfRootThatBgbotsGroupReads(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can give a file away, and CI has to test it")
		}
		t.Skip("SKIPPED, only root can give a file away")
	}
	private, _ := newKeyPair(t)
	const group, nobody = 65533, 65534
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	file := func(name string, mode os.FileMode, uid int) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(private), 0o600), os.Chown(path, uid, group), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, want := range map[string]string{
		file("lent", 0o640, 0):        "",
		file("pod", 0o440, 0):         "",
		file("writable", 0o660, 0):    "has mode 0660",
		file("everybody", 0o644, 0):   "has mode 0644",
		file("own", 0o640, nobody):    "has mode 0640",
		file("stranger", 0o640, 1000): "has mode 0640",
	} {
		got := make(chan error)
		go func() {
			runtime.LockOSThread() // the thread ends with this goroutine, and only it becomes nobody
			for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, group, group, group}, {unix.SYS_SETRESUID, nobody, nobody, nobody}} {
				if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
					got <- errno
					return
				}
			}
			_, err := ReadKey(path)
			got <- err
		}()
		if err := <-got; want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	if _, err := ReadKey(filepath.Join(dir, "lent")); err == nil {
		t.Error("a bgbot that is root took a key that others may read")
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
