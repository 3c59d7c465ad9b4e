package console

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bgbot/bot"
)

func TestAttachmentsStayInTheirFolder(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"forensics-c81f.txt":              "forensics-c81f.txt",
		"../../x":                         "x",
		"/etc/cron.d/evil":                "evil",
		`..\..\windows.txt`:               "windows.txt",
		"..":                              "attachment",
		"":                                "attachment",
		".bashrc":                         "bashrc",
		"-rf":                             "rf",
		"a b\x1b]0;t\x07.png":             "a_b__0_t_.png",
		"Ünï.txt":                         "_n_.txt",
		"dir/":                            "attachment",
		strings.Repeat("a", 300) + ".txt": strings.Repeat("a", 96) + ".txt",
	} {
		if got := fileName(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

func TestAttachmentsNeverOverwriteAndArePrivate(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(o *Options) { o.Dir = filepath.Join(o.Dir, "new", "folder") })
	file := func(data string) []bot.File { return []bot.File{{Name: "../../x.txt", Data: []byte(data)}} }
	if err := os.MkdirAll(g.opt.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Symlink(outside, filepath.Join(g.opt.Dir, "x-2.txt")); err != nil {
		t.Fatal(err)
	}
	g.says(bot.Place{}, bot.Text{Body: "one", Files: file("one")})
	g.says(bot.Place{}, bot.Text{Body: "two", Files: file("two")})
	first, second := filepath.Join(g.opt.Dir, "x.txt"), filepath.Join(g.opt.Dir, "x-3.txt")
	g.prints("bgbot  ▸ one\n         file: " + first + "\nbgbot  ▸ two\n         file: " + second + "\n")
	for path, want := range map[string]string{first: "one", second: "two"} {
		data, err := os.ReadFile(path)
		if err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v; want %q", path, data, err, want)
		}
		if info, err := os.Stat(path); err == nil && info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("a symbolic link was followed")
	}
}

func TestAMessageIsShownThoughItsAttachmentCannotBeSaved(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(o *Options) { o.Dir = "" })
	g.says(bot.Place{}, bot.Text{Body: "✅ devvm is back", Files: []bot.File{{Name: "screen.png"}}})
	g.prints("bgbot  ▸ ✅ devvm is back\n         file: screen.png was not saved: no folder for attachments is set\n")
}
