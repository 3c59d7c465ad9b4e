package agentrun

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"bgbot/internal/anthropictest"
)

func TestOddMessagesAreOnlyText(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	for _, text := range []string{
		"-x --dangerously-skip-permissions", "@/etc/passwd please", "!id", "#note", "/etc/passwd is odd", "\x1b[31mred\x00\xff",
		"[bob]: " + strings.Repeat("100 kB of words ", 6500),
	} {
		rec := all(t, r.Start(t.Context(), prompt(s, text), allow))
		if n := len(each[Tool](rec)); n > 0 {
			t.Errorf("%.40q ran %d tools", text, n)
		}
		got := answer(t, rec)
		if want := "You said: " + clean(text); len(got) < len(want)/2 || !strings.HasPrefix(want, got[:min(20, len(got))]) {
			t.Errorf("%.40q: got %.60q", text, got)
		}
		if asked := api.Requests(); slices.ContainsFunc(asked, func(q anthropictest.Request) bool { return strings.Contains(q.All, "root:x:0") }) {
			t.Errorf("%.40q: the model was given /etc/passwd", text)
		}
	}
	for _, text := range []string{"/clear", "/compact", "/model opus"} {
		rec := all(t, r.Start(t.Context(), prompt(s, text), allow))
		contains(t, answer(t, rec), "isn't available in this environment")
	}
	contains(t, func() string {
		answer(t, all(t, r.Start(t.Context(), prompt(s, "[alice]: still here"), allow)))
		return lastAsked(t, "still here").All
	}(), "#note")
	for _, text := range []string{"", " \n\t ", "\u00a0"} {
		sentence(t, all(t, r.Start(t.Context(), prompt(s, text), allow)).err, "The message is empty.")
	}
}

func TestPromptsThatNameNoSessionOrModelAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, session := range []string{"", "x", "../../etc", "{59fbe129-15d5-487c-ada9-84ec607a8c6e}", "59FBE129-15D5-487C-ADA9-84EC607A8C6E"} {
		sentence(t, all(t, r.Start(t.Context(), prompt(session, "hello"), allow)).err, fmt.Sprintf("The session %q is not a UUID.", session))
	}
	for _, model := range []string{"--settings", "so nnet", "x\ny"} {
		p := prompt(newSession(), "hello")
		p.Model = model
		sentence(t, all(t, r.Start(t.Context(), p, allow)).err, fmt.Sprintf("%q is not the name of a model, such as sonnet.", model))
	}
}

func TestOutputIsFitForAChat(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	rec := all(t, r.Start(t.Context(), prompt(s, script(
		step{"bash": `printf 'a\033[31mred\033[0m\0b\r\nc\377d'`}, step{"text": "x"})), allow))
	answer(t, rec)
	if got, want := first[ToolResult](t, rec).Output, "aredb\nc\uFFFDd"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	rec = all(t, r.Start(t.Context(), prompt(s, script(
		step{"bash": `head -c 10000000 /dev/zero | tr '\0' 'x'; echo; echo the-end`}, step{"text": "x"})), allow))
	answer(t, rec)
	got := first[ToolResult](t, rec).Output
	if len(got) == 0 || len(got) > 100_000 || !utf8.ValidString(got) {
		t.Errorf("10 MB of output came as %d bytes", len(got))
	}
}

func TestALineOfTenMegabytesIsRead(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("ä", 5<<20)
	feed, gather := pipeline(t)
	go feed(`{"type":"system","subtype":"news","x":{}}` + "\nnot json\n\n\x00\n[1]\n" +
		`{"type":"assistant","message":{"content":[{"type":"text","text":"` + text + `"}]}}` + "\n" + `{"type":"result","subtype":"suc`)
	var got []Event
	for _, m := range gather() {
		got = append(got, newReader(false).read(m, at)...)
	}
	if len(got) != 1 || got[0].(Text).Text != text {
		t.Errorf("got %d events, want the one text of %d bytes", len(got), len(text))
	}
}

// What follows must hold for each process of the session, and for nobody but the CLI.
func TestTheKeyReachesTheModelAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"key":   nil,
		"token": func(c *Config) { c.OAuthToken, c.APIKey = c.APIKey, nil },
	} {
		r := newRig(t, change)
		look := "env; cat /proc/$CLAUDE_PID/environ /proc/self/environ | tr '\\0' '\\n'; cat /proc/$CLAUDE_PID/cmdline; ls -la /proc/self/fd; " +
			"for f in /proc/$CLAUDE_PID/fd/*; do case $(readlink $f) in pipe*) timeout 0.05 head -c 100 $f;; esac; done; grep -r " + testKey[:20] + " " + r.cfg.Dir + "; true"
		rec := all(t, r.Start(t.Context(), prompt(newSession(), script(step{"bash": look}, step{"text": "x"})), allow))
		answer(t, rec)
		out := first[ToolResult](t, rec).Output
		contains(t, out, markKey+"=")
		if strings.Contains(strings.ReplaceAll(out, "grep -r "+testKey[:20], ""), testKey[:20]) {
			t.Errorf("%s: the agent's command can read it", name)
		}
		header := lastAsked(t, "CLAUDE_PID").Header
		got := header.Get("X-Api-Key")
		if name == "token" {
			got = strings.TrimPrefix(header.Get("Authorization"), "Bearer ")
		}
		if got != testKey {
			t.Errorf("%s: the model's API was given %q", name, got)
		}
		contains(t, header.Get("User-Agent"), "claude-cli/"+Pinned)
	}
}

func TestTheEnvironmentIsBuiltFromNothing(t *testing.T) {
	t.Setenv("BGBOT_TEST_LEAK", "leaked")
	t.Setenv("CLAUDECODE", "1")
	released := make(chan string, 1)
	var prepared string
	r := newRig(t, func(c *Config) {
		c.Env = map[string]string{"FROM_CONFIG": "one", "LANG": "C"}
		c.Prepare = func(session, dir string) (map[string]string, func(), error) {
			prepared = dir
			return map[string]string{"SSH_AUTH_SOCK": dir + "/agent.sock"}, func() { released <- session }, nil
		}
	})
	s := newSession()
	rec := all(t, r.Start(t.Context(), prompt(s, script(step{"bash": "env | sort; pwd"}, step{"text": "x"})), allow))
	answer(t, rec)
	out := "\n" + first[ToolResult](t, rec).Output + "\n"
	root := filepath.Join(r.cfg.Dir, "sessions", s)
	for _, want := range []string{
		"FROM_CONFIG=one", "LANG=C", "SSH_AUTH_SOCK=" + root + "/agent.sock", "HOME=" + root + "/home", "TMPDIR=" + root + "/tmp",
		"CLAUDE_CONFIG_DIR=" + r.cfg.Dir + "/claude", "BASH_MAX_TIMEOUT_MS=600000", root + "/work",
	} {
		contains(t, out, "\n"+want+"\n")
	}
	if strings.Contains(out, "leaked") {
		t.Error("the bot's own environment reaches the agent")
	}
	if prepared != root {
		t.Errorf("prepared in %s, want %s", prepared, root)
	}
	for _, dir := range []string{r.cfg.Dir, root} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v, want mode 0700", dir, info.Mode(), err)
		}
	}
	select {
	case <-released:
		t.Error("released while the process lives")
	default:
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-released; got != s {
		t.Errorf("released %q", got)
	}
}

func TestTheModelIsOfferedFourToolsAndOurPrompt(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	answer(t, all(t, r.Start(t.Context(), prompt(newSession(), "[alice]: offered?"), allow)))
	asked := lastAsked(t, "offered?")
	contains(t, asked.System, "You are the breakglass agent.")
	for _, tool := range asked.Tools {
		if !slices.Contains(append(tools(), "DeferredToolPlaceholder"), tool) {
			t.Errorf("the model is offered %s", tool)
		}
	}
	if got := api.Strays(); len(got) > 0 {
		t.Errorf("the CLI also called %v", got)
	}
}

func TestFileToolsStayInTheirFolders(t *testing.T) {
	t.Parallel()
	base, s := t.TempDir(), newSession()
	workspace := filepath.Join(base, "runbooks")
	for path, text := range map[string]string{"runbooks/disk.md": "RUNBOOK", "outside/secret": "OUTSIDE-SECRET", "agent/sessions/" + s + "/aside/key": "ASIDE-SECRET"} {
		path = filepath.Join(base, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": "outside/secret", "linkdir": "outside"} {
		if err := os.Symlink(filepath.Join(base, to), filepath.Join(workspace, link)); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, func(c *Config) { c.Workspace, c.Dir = workspace, filepath.Join(base, "agent") })
	root := r.cfg.place(s).root
	use := func(name string, in map[string]any) step {
		return step{"tools": []any{map[string]any{"name": name, "input": in}}}
	}
	grep := func(path string) step {
		return use("Grep", map[string]any{"pattern": "SECRET|OUTSIDE|sessionId", "path": path, "output_mode": "content"})
	}
	steps := []step{
		{"bash": "ln -s ../aside/key ./key"},
		use("Read", map[string]any{"file_path": filepath.Join(workspace, "disk.md")}),
		use("Glob", map[string]any{"pattern": "*.md", "path": workspace}),
		use("Grep", map[string]any{"pattern": "RUNBOOK", "path": workspace, "output_mode": "content"}),
		use("Read", map[string]any{"file_path": filepath.Join(workspace, "link")}),
		use("Read", map[string]any{"file_path": filepath.Join(workspace, "linkdir/secret")}),
		use("Read", map[string]any{"file_path": filepath.Join(root, "aside/key")}),
		use("Read", map[string]any{"file_path": filepath.Join(root, "work/key")}),
		use("Read", map[string]any{"file_path": "../aside/key"}),
		use("Read", map[string]any{"file_path": filepath.Join(root, "agents.json")}),
		use("Read", map[string]any{"file_path": "/etc/passwd"}),
		use("Read", map[string]any{"file_path": "/proc/self/environ"}),
		grep(workspace), grep(workspace + "/linkdir"), grep(base), grep(root), grep(filepath.Join(r.cfg.Dir, "claude")),
		use("Glob", map[string]any{"pattern": filepath.Join(r.cfg.Dir, "claude/**/*.jsonl")}),
		use("Glob", map[string]any{"pattern": "../aside/*"}),
	}
	rec := all(t, r.Start(t.Context(), prompt(s, script(append(steps, step{"text": "x"})...)), allow))
	answer(t, rec)
	results := each[ToolResult](rec)
	if len(results) != len(steps) {
		t.Fatalf("got %d results for %d tool calls", len(results), len(steps))
	}
	for i, res := range results {
		what := fmt.Sprint(steps[i])
		switch {
		case i >= 1 && i <= 3 && (res.Failed || !strings.Contains(res.Output, "RUNBOOK") && !strings.Contains(res.Output, "disk.md")):
			t.Errorf("%s: the agent cannot read its runbooks: %q", what, res.Output)
		case i > 3 && !res.Failed && !strings.HasPrefix(res.Output, "No "):
			t.Errorf("%s: the claude CLI no longer confines its file tools: %q", what, res.Output)
		case i > 3 && (strings.Contains(res.Output, "-SECRET") || strings.Contains(res.Output, "root:x")):
			t.Errorf("%s: it read %q", what, res.Output)
		}
	}
}
