package slacktest_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

// boltVersion is in bolt/package.json too.
const boltVersion = "5.1.0"

// bolt starts an app on Slack's own SDK and returns when it is connected.
func bolt(t *testing.T, a *app) {
	t.Helper()
	modules := os.Getenv("BGBOT_BOLT")
	if modules == "" {
		modules = filepath.Join("..", "..", ".cache", "bolt-"+boltVersion, "node_modules")
	}
	modules, err := filepath.Abs(modules)
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(modules, "@slack", "bolt"))
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("Slack's own SDK is missing, so nobody but us has checked our Slack; make deps installs it: %v", err)
		}
		t.Skipf("SKIPPED: Slack's own SDK is missing, so nobody but us has checked our Slack; make deps installs it: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, node, filepath.Join("bolt", "app.js"))
	cmd.Env = []string{
		"NODE_PATH=" + modules, "BOLT_API_URL=" + a.URL(), "BOLT_APP_TOKEN=" + a.AppToken(), "BOLT_BOT_TOKEN=" + a.BotToken(),
		"BOLT_CHANNEL=" + a.Channel(),
	}
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		kill := time.AfterFunc(5*time.Second, cancel) // the closing of its socket must not hold us up
		cmd.Wait()
		kill.Stop()
		cancel()
	})
	if err := a.AwaitSockets(ctx, 1, 0); err != nil {
		t.Fatalf("Bolt did not connect: %v", err)
	}
}

// npm and Go cannot read one another.
func TestOneVersionOfBolt(t *testing.T) {
	t.Parallel()
	var manifest struct{ Dependencies map[string]string }
	var lock struct {
		Packages map[string]struct{ Version, Integrity, Resolved string }
	}
	for name, into := range map[string]any{"package.json": &manifest, "package-lock.json": &lock} {
		text, err := os.ReadFile(filepath.Join("bolt", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if got := manifest.Dependencies["@slack/bolt"]; got != boltVersion {
		t.Errorf("package.json wants %s, the test %s", got, boltVersion)
	}
	if got := lock.Packages["node_modules/@slack/bolt"].Version; got != boltVersion {
		t.Errorf("package-lock.json has %s, the test wants %s", got, boltVersion)
	}
	for name, p := range lock.Packages {
		if name != "" && (!strings.HasPrefix(p.Integrity, "sha512-") || p.Resolved != "") {
			t.Errorf("package-lock.json: %s must have an integrity hash and name no registry", name)
		}
	}
}

// saw waits for something that people see.
func (a *app) saw(what string, is func(slacktest.Happening) bool) slacktest.Happening {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	h, err := a.Await(ctx, 0, is)
	if err != nil {
		a.t.Fatalf("nobody saw %s (%v); the calls were %+v", what, err, a.Calls())
	}
	return h
}

func TestBoltTakesUsForSlack(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{WarnAhead: 200 * time.Millisecond})
	a.join()
	bolt(t, a)
	sent := must[slacktest.Sent](t)
	for round, disruption := range []slacktest.Disruption{0, slacktest.Warning} {
		if round > 0 {
			before := a.Dialled()
			a.Disrupt(disruption)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := a.AwaitSockets(ctx, 1, before); err != nil {
				t.Fatalf("after a warning Bolt did not come back: %v", err)
			}
		}
		said := sent(a.Say("U0ALICE", "", "echo hello"))
		card := a.saw("the edited echo", func(h slacktest.Happening) bool {
			return h.Kind == slacktest.Changed && h.Message.ThreadTS == said.TS && h.Message.Shown() == "**hello**"
		}).Message
		sent(a.Click("U0ALICE", card.TS, "press"))
		a.saw("the answer to the click", func(h slacktest.Happening) bool {
			return h.Kind == slacktest.Whispered && h.Message.ThreadTS == said.TS && h.Message.Text == "you pressed nonce"
		})
		a.saw("the card without its button", func(h slacktest.Happening) bool {
			return h.Kind == slacktest.Changed && h.Message.TS == card.TS && h.Message.Shown() == "pressed" && len(h.Message.Buttons()) == 0
		})
		if got := a.Thread(said.TS); len(got) != 2 {
			t.Errorf("round %d: the thread is %+v", round, got)
		}
	}

	sent(a.Slash("U0ALICE", "", "/vm", "status"))
	a.saw("the answer to the command", func(h slacktest.Happening) bool {
		return h.Kind == slacktest.Whispered && h.Message.Only == "U0ALICE" && h.Message.Text == "alice typed status"
	})
	sent(a.Slash("U0ALICE", "", "/vm", "ask"))
	dialog := a.saw("the dialog", func(h slacktest.Happening) bool { return h.View.CallbackID == "ask" }).View
	sent(a.Submit("U0ALICE", dialog.ID, object{"in": object{"text": object{"type": "plain_text_input", "value": "why?"}}}))
	a.saw("what was in the dialog", func(h slacktest.Happening) bool { return h.Message.Text == "U0ALICE asks why?" })

	said := sent(a.Say("U0ALICE", "", "file"))
	file := a.saw("the file", func(h slacktest.Happening) bool { return len(h.Message.Files) == 1 }).Message
	if f := file.Files[0]; file.ThreadTS != said.TS || file.Text != "here" || f.Name != "out.txt" || string(f.Data) != "long output" {
		t.Errorf("the file came as %+v", file)
	}

	sent(a.OpenHome("U0ALICE"))
	a.saw("the home tab", func(h slacktest.Happening) bool { return h.View.Type == "home" && h.View.Shown() == "# Home" })

	if got := a.Answered(); len(got.Lost)+len(got.Doubled) > 0 {
		t.Errorf("%+v", got)
	}
	if got := a.Truth(); got.Lost > 0 || got.Strays != (slacktest.Strays{}) {
		t.Errorf("%+v", got)
	}
	for _, c := range a.Calls() {
		if c.Error != "" {
			t.Errorf("%s failed: %s, %v", c.Method, c.Error, c.Args)
		}
	}
}
