package install

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestTheBlockInAFile(t *testing.T) {
	t.Parallel()
	b := block{name: "vm102", lines: []string{"restrict one", "restrict two"}}
	text := b.text()
	old := "# bgbot vm102 begin: older words\nrestrict zero\n# bgbot vm102 end\n"
	other := block{name: "vm1020", lines: []string{"restrict other"}}.text()
	for _, c := range []struct{ name, before, after string }{
		{"no file", "", text},
		{"a last line without its end", "ssh-rsa A", text + "ssh-rsa A"},
		{"an older block", "above\n" + old + "below", "above\n" + text + "below"},
		{"a block that a foreign editor touched", strings.ReplaceAll("above\n"+old+"below\n", "\n", "\r\n"), "above\r\n" + text + "below\r\n"},
		{"the block of a VM with a longer number", other, text + other},
		{"the same block", "above\n" + text, "above\n" + text},
	} {
		got, err := b.put([]byte(c.before))
		if err != nil || string(got) != c.after {
			t.Errorf("%s: %v\n%q\nwant\n%q", c.name, err, got, c.after)
		}
	}
	for _, bad := range []string{
		"# bgbot vm102 begin: x\n", "# bgbot vm102 end\n", "# bgbot vm102 end\n# bgbot vm102 begin: x\n",
		old + old, "# bgbot vm102 begin: x\n" + old,
	} {
		if got, err := b.put([]byte(bad)); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
		if got, err := b.drop([]byte(bad)); err == nil {
			t.Errorf("%q without the block became %q", bad, got)
		}
	}
	if got := b.others([]byte(text + other)); len(got) != 1 || got[0] != "vm1020" {
		t.Errorf("others: %q", got)
	}
}

func FuzzTheOtherLinesStay(f *testing.F) {
	f.Add([]byte("ssh-rsa A\r\n# bgbot vm102 end"), "restrict x")
	f.Add([]byte("# bgbot vm102 begin: x\n# bgbot vm102 end\n\x00"), "")
	f.Fuzz(func(t *testing.T, content []byte, line string) {
		if strings.Contains(line, "\n") || strings.Contains(line, "bgbot") {
			return
		}
		b := block{name: "vm102", lines: []string{line}}
		without, err := b.drop(content)
		if err != nil {
			return
		}
		with, err := b.put(content)
		if err != nil || !bytes.Contains(with, []byte(b.text())) {
			t.Fatalf("%q: %v: %q", content, err, with)
		}
		again, err := b.put(with)
		if err != nil || !bytes.Equal(again, with) {
			t.Fatalf("put twice: %v: %q", err, again)
		}
		if got, err := b.drop(with); err != nil || !bytes.Equal(got, without) {
			t.Fatalf("%q: put and dropped: %v: %q, want %q", content, err, got, without)
		}
	})
}

func TestAStrangerWithOurKey(t *testing.T) {
	t.Parallel()
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
	ours, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	b := block{name: "vm102", lines: []string{"restrict " + key + " bgbot"}}
	for content, line := range map[string]int{
		b.text():                              0,
		"# " + key + "\n" + b.text():          0,
		b.text() + key:                        4,
		"x\n" + `command="y" ` + key + " z\n": 2,
		"  " + key + "\r\n" + b.text():        1,
	} {
		if got := b.stranger([]byte(content), []ssh.PublicKey{ours}); got != line {
			t.Errorf("line %d, want %d:\n%s", got, line, content)
		}
	}
}

func TestQuoteForARealShell(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", " ", "plain", "two words", "it's", `"$HOME"`, "`id`", "$(id)", "a\nb\n", `\`, `\'`, "'", "''", "*", "~", "-n", "a;id", "a&&id", "!x", "\t", "ä…", "a=b", "#no",
		strings.Repeat("'", 50), "\x01\x7f\xff",
	} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+Quote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q became %q (%v), as %s", s, out, err, Quote(s))
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("it's")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) || len(s) > 1000 {
			return
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+Quote(s)+"; printf .").Output()
		if err != nil || string(out) != s+"." {
			t.Errorf("%q became %q (%v), as %s", s, out, err, Quote(s))
		}
	})
}

// The login shell over there may be any, and they agree on single quotes only as long as there is no quote and no
// backslash within.
func TestTheScriptsCanBeQuotedForEveryShell(t *testing.T) {
	t.Parallel()
	entries, err := scripts.ReadDir("scripts")
	if err != nil || len(entries) < 10 {
		t.Fatal(err, len(entries))
	}
	for _, e := range entries {
		text, err := scripts.ReadFile("scripts/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsAny(text, `'\`) {
			t.Errorf("%s has a quote or a backslash", e.Name())
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-n")
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", e.Name(), err, out)
		}
	}
}

func TestWhichSSHDKnowsTheExemptList(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"9.8": true, "9.8p1": true, "9.9": true, "10.0": true, "10.5p1": true, "9.7": false, "9.2": false, "8.4": false, "": false, "x": false, "9": false, "9.": false,
	} {
		if got := exempts(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}
