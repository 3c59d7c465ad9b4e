package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"syscall"
)

const hidden = "[secret]"

// Secret is a value that prints as [secret] wherever it goes; Reveal is the one way to it, and can be searched for.
// The value is behind a pointer because fmt calls no methods on unexported fields: printed inside another package's
// struct, a plain string would show.
type Secret struct{ value *string }

// NewSecret hides s. An empty string is no secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{value: &s}
}

// Reveal is the value itself.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Given says whether there is a value.
func (s Secret) Given() bool { return s.value != nil }

// String is [secret], or nothing if there is no value.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return hidden
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return s.String() }

// Format prints [secret] for every verb: fmt asks String only for verbs that suit a string.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is what slog prints.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is what encoders of text print.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON is what encoding/json prints.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// resolveSecrets fills each secret from its file, where one is given.
func resolveSecrets(cfg *Config, p *problems) {
	all := fieldsOf(cfg)
	files := make(map[string]string)
	for _, f := range all {
		if f.value.Kind() == reflect.String {
			files[f.path] = f.value.String()
		}
	}
	for _, f := range all {
		secret, ok := reflect.TypeAssert[*Secret](f.value.Addr())
		file := files[f.path+"_file"]
		if !ok || file == "" {
			continue
		}
		if secret.Given() && secret.Reveal() != f.def {
			p.add(f.path, "given twice, as %s and as %s_file; keep one", f.path, f.path)
			continue
		}
		text, err := readPrivate(file)
		if err != nil {
			p.add(f.path+"_file", "%s", err)
			p.settled = append(p.settled, f.path)
			continue
		}
		*secret = NewSecret(text)
	}
}

// readPrivate reads a file that nobody else may read, without the white space around its text. Its errors follow the
// name of a key.
func readPrivate(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", unreadable(path, err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a file", path)
	}
	if open := openTo(info); open != "" {
		return "", fmt.Errorf("%s is open to %s (mode %04o); run `chmod 600 %s`", path, open, info.Mode().Perm(), path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", unreadable(path, err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// openTo says who else may use a file, or "". A group counts only on a file of our own, which is also how ssh
// decides (sshkey_perm_ok in OpenSSH's authfile.c): Kubernetes hands a secret to a pod that is not root as root's
// file, mode 0440, and its chmod is not ours to run.
func openTo(info os.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	ours := !ok || int(stat.Uid) == os.Geteuid()
	switch mode := info.Mode().Perm(); {
	case mode&0o007 != 0:
		return "everybody on this machine"
	case ours && mode&0o070 != 0:
		return "its group"
	default:
		return ""
	}
}

func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be read by this user (uid %d)", path, os.Geteuid())
	default:
		return err
	}
}

// checkOwnFile refuses a configuration file that holds a secret and that others may read.
func checkOwnFile(cfg *Config, path string, given map[string]any, p *problems) {
	if path == "" {
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		return // reading it has said so already
	}
	open := openTo(info)
	for _, f := range fieldsOf(cfg) {
		value, ok := given[f.path].(string)
		if _, secret := reflect.TypeAssert[Secret](f.value); !ok || !secret || value == "" || strings.HasPrefix(value, "sqlite:") {
			continue
		}
		cfg.holder = path
		if open != "" {
			p.add(f.path, "%s is open to %s (mode %04o) and holds this secret; run `chmod 600 %s`, or move it to a file of its own and give %s_file",
				path, open, info.Mode().Perm(), path, f.path)
		}
	}
}

// Holder is the file of the configuration itself, if a secret stands in it; else it is empty.
func (c *Config) Holder() string { return c.holder }
