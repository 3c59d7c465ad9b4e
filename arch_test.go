// Package bgbot_test holds the rules of the project that are about its shape: which package may import which, and which
// numbers and words have to be the same in two places.
package bgbot_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bgbot/agentrun"
	"bgbot/internal/anthropictest"
)

// picture says which packages of ours each package may import; what is not here may not exist. The design has the same
// picture in words: everything below bot is a leaf, and adapters know bot, never the reverse.
var picture = map[string][]string{
	"cmd/bgbot":    {"agentrun", "agents", "auth", "bot", "bot/console", "bot/slack", "config", "internal/lab", "internal/sshagent", "internal/store", "pve", "pve/install", "pve/relay"},
	"cmd/pve-gate": {"pve", "pve/gate"},

	"bot/console": {"auth", "bot"},
	"bot/slack":   {"auth", "bot"},
	"bot":         {"agentrun", "auth", "internal/store", "pve"},

	"agentrun":          {},
	"agents":            {},
	"auth":              {},
	"config":            {},
	"internal/seldom":   {},
	"internal/sshagent": {"internal/seldom"},
	"internal/store":    {},
	"pve":               {},
	"pve/gate":          {"pve", "pve/gate/evidence", "pve/gate/host", "pve/qmp"}, // the far end of the verbs, as relay is
	"pve/gate/evidence": {"pve", "pve/gate/host", "pve/gate/screen", "pve/qmp"},
	"pve/gate/host":     {},
	"pve/gate/screen":   {},
	"pve/install":       {"pve"},
	"pve/qmp":           {},
	"pve/relay":         {"internal/seldom", "pve"},

	"internal/lab":       {"internal/anthropictest", "internal/lab/guest", "internal/lab/image", "pve", "pve/gate", "pve/gate/host", "pve/qmp"}, // a drill has a scripted model
	"internal/lab/guest": {},
	"internal/lab/image": {},

	"internal/anthropictest": {},
	"internal/slacktest":     {},
	"internal/sshdtest":      {},
}

// onlyIn lists modules and packages that one place alone may use, tests included.
var onlyIn = map[string]string{
	"github.com/spf13/viper": "config",
	"charm.land/bubbletea":   "bot/console",
	"github.com/slack-go":    "bot/slack",
	"modernc.org/sqlite":     "internal/store",
}

type pkg struct {
	ImportPath, Dir, Name, Doc         string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

// short is the path inside the project.
func (p pkg) short() string { return strings.TrimPrefix(p.ImportPath, "bgbot/") }

// everything that the package or its tests import.
func (p pkg) everything() []string { return slices.Concat(p.Imports, p.TestImports, p.XTestImports) }

// packages lists those of the project that are more than tests.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Name,Doc,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			all = append(all, p)
		}
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

func TestArrows(t *testing.T) {
	t.Parallel()
	missing := maps.Clone(picture)
	for _, p := range packages(t) {
		allowed, ok := picture[p.short()]
		if !ok {
			t.Errorf("%s is not in the picture: add it there and to the map in the design, or put its code where it belongs", p.short())
			continue
		}
		delete(missing, p.short())
		for _, i := range p.Imports {
			if to, ours := strings.CutPrefix(i, "bgbot/"); ours && !slices.Contains(allowed, to) {
				t.Errorf("%s may not import %s", p.short(), to)
			}
		}
		for _, i := range p.everything() {
			for what, where := range onlyIn {
				if (i == what || strings.HasPrefix(i, what+"/")) && p.short() != where {
					t.Errorf("%s imports %s; only %s may", p.short(), i, where)
				}
			}
		}
		if slices.Contains(p.Imports, "testing") && !strings.HasSuffix(p.Name, "test") {
			t.Errorf("%s imports testing outside of a test", p.short())
		}
	}
	for name := range missing {
		t.Errorf("%s is in the picture but not in the project", name)
	}
}

func TestTheProgramsCarryNoTests(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for p := range strings.Lines(string(out)) {
		if p = strings.TrimSpace(p); p == "testing" || p == "net/http/httptest" {
			t.Errorf("a program is linked with %s", p)
		}
	}
}

// The comment that owns a package stands in the file that has its name.
func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		file, opening := path.Base(p.ImportPath)+".go", "// Package "+p.Name+" "
		if p.Name == "main" {
			file, opening = "main.go", "// Command "+path.Base(p.ImportPath)+" "
		}
		text, err := os.ReadFile(filepath.Join(p.Dir, file))
		if err != nil || !strings.Contains("\n"+string(text), "\n"+opening) {
			t.Errorf("%s: %s must have a comment that begins with %q (%v)", p.short(), file, opening, err)
		}
		if p.Doc == "" {
			t.Errorf("%s: it has no comment", p.short())
		}
	}
}

func TestFilesAreReadAtOneSitting(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			if n := strings.Count(read(t, filepath.Join(p.Dir, name)), "\n"); n > 400 {
				t.Errorf("%s/%s has %d lines; split it by noun at 400", p.short(), name, n)
			}
		}
	}
}

// Each module that we import has a line in docs/dependencies.md, and each line there has an import.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	gomod := read(t, "go.mod")
	if regexp.MustCompile(`(?m)^(replace|exclude)\b`).MatchString(gomod) {
		t.Error("go.mod has a replace or exclude: builds from the module proxy would not see it")
	}
	var modules []string
	for _, m := range regexp.MustCompile(`(?m)^(?:require )?\s*([a-z0-9.-]+\.[a-z]+/\S+) v`).FindAllStringSubmatch(gomod, -1) {
		modules = append(modules, m[1])
	}
	used := map[string]string{} // module to a package that imports it
	for _, p := range packages(t) {
		for _, i := range p.everything() {
			for _, m := range modules {
				if i == m || strings.HasPrefix(i, m+"/") {
					used[m] = p.short()
				}
			}
		}
	}
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\S+\.\S+/\S+) \| \S`).FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		explained[m[1]] = true
		if used[m[1]] == "" {
			t.Errorf("docs/dependencies.md explains %s, which nothing imports", m[1])
		}
	}
	for m, by := range used {
		if !explained[m] {
			t.Errorf("%s imports %s, for which docs/dependencies.md has no line", by, m)
		}
	}
}

// The version of the CLI stands in four places, because a Makefile, npm and Go cannot read one another.
func TestOneVersionOfTheCLI(t *testing.T) {
	t.Parallel()
	makefile := regexp.MustCompile(`(?m)^CLAUDE\s*:=\s*(\S+)$`).FindStringSubmatch(read(t, "Makefile"))
	if makefile == nil || makefile[1] != agentrun.Pinned {
		t.Errorf("the Makefile says %q, agentrun.Pinned is %s", makefile, agentrun.Pinned)
	}
	if anthropictest.CLIVersion != agentrun.Pinned {
		t.Errorf("anthropictest speaks to %s, agentrun.Pinned is %s", anthropictest.CLIVersion, agentrun.Pinned)
	}
	const name = "@anthropic-ai/claude-code"
	var manifest struct{ Dependencies map[string]string }
	var lock struct {
		Packages map[string]struct{ Version, Integrity, Resolved string }
	}
	for file, into := range map[string]any{"agentrun/cli/package.json": &manifest, "agentrun/cli/package-lock.json": &lock} {
		if err := json.Unmarshal([]byte(read(t, file)), into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if got := manifest.Dependencies[name]; got != agentrun.Pinned {
		t.Errorf("package.json wants %q, agentrun.Pinned is %s", got, agentrun.Pinned)
	}
	if got := lock.Packages["node_modules/"+name]; got.Version != agentrun.Pinned {
		t.Errorf("package-lock.json has %q, agentrun.Pinned is %s", got.Version, agentrun.Pinned)
	}
	for key, p := range lock.Packages {
		if key != "" && !strings.HasPrefix(p.Integrity, "sha512-") {
			t.Errorf("package-lock.json: %s has no integrity hash", key)
		}
		if p.Resolved != "" {
			t.Errorf("package-lock.json: %s names a registry; make it with npm install --package-lock-only --omit-lockfile-registry-resolved", key)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is missing", name)
	} else if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The version of Slack's SDK stands in the Makefile and in the files of npm, which slacktest compares.
func TestOneVersionOfBolt(t *testing.T) {
	t.Parallel()
	var manifest struct{ Dependencies map[string]string }
	if err := json.Unmarshal([]byte(read(t, "internal/slacktest/bolt/package.json")), &manifest); err != nil {
		t.Fatal(err)
	}
	makefile := regexp.MustCompile(`(?m)^BOLT\s*:=\s*(\S+)$`).FindStringSubmatch(read(t, "Makefile"))
	if want := manifest.Dependencies["@slack/bolt"]; makefile == nil || makefile[1] != want {
		t.Errorf("the Makefile says %q, package.json %q", makefile, want)
	}
}
