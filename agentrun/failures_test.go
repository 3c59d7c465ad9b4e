package agentrun

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"bgbot/internal/anthropictest"
)

// impostor makes an executable that stands where the CLI should be. A shell writes it: were it written here, a fork of
// another test could hold it open and its start would fail with "text file busy" (golang/go#22315).
func impostor(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "claude")
	write := exec.CommandContext(t.Context(), "sh", "-c", `cat > "$0" && chmod 700 "$0"`, path)
	write.Stdin = strings.NewReader("#!/bin/sh\n" + text + "\n")
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func TestEveryFailureOfTheModelIsASentence(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Env = map[string]string{"CLAUDE_CODE_MAX_RETRIES": "1"} })
	s := newSession()
	const work = " The verbs still work: type `vm status`."
	for _, c := range []struct {
		name string
		say  step
		want string
	}{
		{"401", step{"status": 401, "message": "invalid x-api-key"}, "The model's API refuses the key (401): renew agent.api_key_file or agent.oauth_token_file."},
		{"403", step{"status": 403, "message": "Forbidden here"}, "The model's API forbids this to the key (403): "},
		{"404", step{"status": 404, "message": "model: x"}, `The model "sonnet" does not exist or this key may not use it: say "model NAME" to take another one.`},
		{"credit", step{"status": 400, "message": "Your credit balance is too low to access the Anthropic API."}, "The model's account has no credit left: top it up."},
		{"400", step{"status": 400, "message": "messages.3: odd"}, "The model's API rejects the conversation (400): "},
		{"413", step{"status": 413, "message": "Request too large"}, "The conversation is too large for the model's API (413). Start a new thread."},
		{"429", step{"status": 429, "retry_after": "120", "message": "slow down"}, "The model's API is at its rate limit (429): try again in some minutes."},
		{"529", step{"status": 529, "message": "Overloaded"}, "The model is overloaded (529): try again in some minutes."},
		{"500", step{"status": 500, "message": "boom"}, "The model's API is failing (500): try again in some minutes."},
		{"too long", step{"status": 400, "message": "prompt is too long: 300000 tokens > 200000 maximum"}, "The conversation has grown too long for the model. Start a new thread."},
		{"web page", step{"fault": "html"}, "The model cannot be reached (what answers is not the API; is there a proxy in between?)."},
		{"broken JSON", step{"fault": "bad-json"}, "The model cannot be reached (what answers is not the API; is there a proxy in between?)."},
		{"dropped", step{"fault": "drop"}, "The model cannot be reached (the connection is dropped)."},
	} {
		rec := all(t, r.Start(t.Context(), prompt(s, script(c.say)), allow))
		if rec.err != nil {
			t.Fatalf("%s: %v", c.name, rec.err)
		}
		res := first[Result](t, rec)
		if !res.Failed || !res.Model || res.Text != "" || !strings.HasPrefix(res.Reason, c.want) || !strings.HasSuffix(res.Reason, work) {
			t.Errorf("%s:\n got %+v\nwant %q", c.name, res, c.want+work)
		}
	}
	if got := answer(t, all(t, r.Start(t.Context(), prompt(s, script(step{"text": "well again"})), allow))); got != "well again" {
		t.Errorf("after the failures: got %q", got)
	}
}

// The limit of a subscription lasts for hours, or days. Whoever waits has to know until when.
func TestALimitOfTheAccountSaysUntilWhen(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.OAuthToken, c.APIKey = c.APIKey, nil })
	limit := step{"status": 429, "message": "This request would exceed your account's rate limit.", "headers": map[string]string{
		"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-representative-claim": "five_hour",
		"anthropic-ratelimit-unified-reset": fmt.Sprint(time.Now().Add(4 * time.Hour).Unix()),
	}}
	res := first[Result](t, all(t, r.Start(t.Context(), prompt(newSession(), script(limit)), allow)))
	want := regexp.MustCompile(`^The model's account is at its limit \(429\): You've hit your .*limit · resets .+ \(.+\)\. The verbs still work: type .vm status.\.$`)
	if !res.Failed || !res.Model || !want.MatchString(res.Reason) {
		t.Errorf("got %+v, want %s", res, want)
	}
}

func TestAModelThatRefusesConnectionsIsToldWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	url, release, err := anthropictest.Refuse()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	r := newRig(t, func(c *Config) { c.BaseURL = url })
	turn := r.Start(t.Context(), prompt(newSession(), "[alice]: hello"), allow)
	until(t, turn, is[Started]) // how long that takes depends on the machine
	began := time.Now()
	notice := first[Notice](t, until(t, turn, is[Notice]))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the first word came after %s", took)
	}
	if want := "The model cannot be reached; trying again (1 of 4). The verbs still work: type `vm status`."; notice.Text != want || !notice.Model {
		t.Errorf("got %+v, want %q", notice, want)
	}
	rec := all(t, turn)
	res := first[Result](t, rec)
	if want := "The model cannot be reached (connection refused). The verbs still work: type `vm status`."; res.Reason != want || !res.Model {
		t.Errorf("got %+v, want %q", res, want)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the end came after %s", took)
	}
}

func TestAnAnswerThatIsCutComesOnceAndWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	text := strings.Repeat("whole ", 20) + "end"
	for _, fault := range []string{"cut", "no-stop", "sse-error"} {
		rec := all(t, r.Start(t.Context(), prompt(newSession(), script(step{"text": text, "fault": fault, "times": 1})), allow))
		if got := answer(t, rec); got != text {
			t.Errorf("%s: got %q", fault, got)
		}
		final := map[string]string{}
		for _, x := range each[Text](rec) {
			final[x.ID] = x.Text
		}
		if len(final) != 1 || final["text-1"] != text {
			t.Errorf("%s: a person would see %q", fault, final)
		}
	}
}

func TestLimitsOfTheAgentAreSentences(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Steps = 2 })
	steps := []step{{"bash": "true"}, {"bash": "true"}, {"bash": "true"}, {"text": "x"}}
	s := newSession()
	res := first[Result](t, all(t, r.Start(t.Context(), prompt(s, script(steps...)), allow)))
	if want := `The agent has used up its 2 steps (agent.limit.steps). Say "go on" and it continues.`; res.Reason != want || res.Model || !res.Failed {
		t.Errorf("got %+v, want %q", res, want)
	}
	r = newRig(t, func(c *Config) { c.BudgetUSD = 0.5 })
	res = first[Result](t, all(t, r.Start(t.Context(), prompt(s, script(step{"bash": "true", "in": 900000}, step{"text": "x"})), allow)))
	if want := `The agent has used up its budget of $0.50 (agent.limit.budget_usd). Say "go on" and it continues.`; res.Reason != want || res.Model {
		t.Errorf("got %+v, want %q", res, want)
	}
	if got := answer(t, all(t, r.Start(t.Context(), prompt(s, script(step{"text": "on"})), allow))); got != "on" {
		t.Errorf("the next message: got %q", got)
	}
}

func TestACLIThatCannotRunIsASentence(t *testing.T) {
	t.Parallel()
	absent := filepath.Join(t.TempDir(), "claude")
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"missing": {
			func(c *Config) { c.Command = absent },
			fmt.Sprintf("The claude CLI is not there (agent.command is %q): `npm install -g @anthropic-ai/claude-code@2.1.330`, or set agent.command to the path of that version.", absent),
		},
		"dies at once": {
			func(c *Config) { c.Command = impostor(t, "echo 'libfoo.so: not found' >&2; exit 3") },
			"The claude CLI ended while it started (exit 3): libfoo.so: not found. `bgbot doctor` tells more. The verbs still work: type `vm status`.",
		},
		"hangs": {
			func(c *Config) { c.Command = impostor(t, "sleep 620") },
			"The claude CLI was not ready within 300ms and was ended. The verbs still work: type `vm status`.",
		},
		"does not know the rule": {
			func(c *Config) {
				c.Command = impostor(t, `read x; echo '{"type":"control_response","response":{"subtype":"success","request_id":"settings","response":{"effective":{}}}}'; sleep 620`)
			},
			"The claude CLI is not run, because it did not take the rule to ask before each command. The verbs still work: type `vm status`.",
		},
		"has no key": {
			func(c *Config) { c.APIKey = func() (string, error) { return "", os.ErrNotExist } },
			"The agent cannot log in: agent.api_key_file cannot be read: file does not exist. The verbs still work: type `vm status`.",
		},
	} {
		r := newRig(t, c.change)
		if name == "hangs" {
			r.startLimit = 300 * time.Millisecond
		}
		rec := all(t, r.Start(t.Context(), prompt(newSession(), "[alice]: hello"), allow))
		sentence(t, rec.err, c.want)
		if live, _ := r.Live(); live != 0 {
			t.Errorf("%s: %d slots are taken", name, live)
		}
	}
}

func TestAnotherVersionOfTheCLIIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Version = "2.1.331" })
	const want = "The claude CLI is not run, because its version is 2.1.330 and not 2.1.331: install the pinned one or set agent.command to it."
	rec := all(t, r.Start(t.Context(), prompt(newSession(), script(step{"bash": "true"})), allow))
	sentence(t, rec.err, want)
	if n := len(each[Tool](rec)); n != 0 {
		t.Errorf("it ran %d tools", n)
	}
	err := r.Check(t.Context())
	sentence(t, err, r.cfg.Command+" is claude 2.1.330 and not 2.1.331: `npm install -g @anthropic-ai/claude-code@2.1.331`, or set agent.command to the path of that version.")
	if err := newRig(t, nil).Check(t.Context()); err != nil {
		t.Errorf("the pinned version: %v", err)
	}
}

func TestACLIThatDiesInTheMiddleOfATurn(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	turn := r.Start(t.Context(), prompt(s, script(step{"bash": "setsid sleep 621 & sleep 622"}, step{"text": "x"})), allow)
	eventually(t, "the command runs", func() bool { return running(t, "621") == 1 })
	root, ok := lookup(pidsOf(t, s)[0])
	if err := root.signal(syscall.SIGKILL); !ok || err != nil {
		t.Fatal(ok, err)
	}
	sentence(t, all(t, turn).err, "The claude CLI ended in the middle of the turn (signal: killed). The conversation is kept; send a message to go on. The verbs still work: type `vm status`.")
	if a, b := running(t, "621"), running(t, "622"); a+b != 0 {
		t.Errorf("%d of its commands run", a+b)
	}
	rec := all(t, r.Start(t.Context(), prompt(s, script(step{"text": "on"})), allow))
	if got := answer(t, rec); got != "on" || !first[Started](t, rec).Resumed {
		t.Errorf("got %q, %+v", got, first[Started](t, rec))
	}
}

func TestSilenceIsToldAgainAndAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.StallNotice = 400 * time.Millisecond })
	turn := r.Start(t.Context(), prompt(newSession(), script(step{"bash": "sleep 3.21 # wait\necho"}, step{"text": "x", "wait_ms": 1000})), allow)
	rec := all(t, turn)
	answer(t, rec)
	var tools, model int
	for _, n := range each[Notice](rec) {
		switch {
		case strings.HasSuffix(n.Text, "; running: `sleep 3.21 # wait …`.") && strings.HasPrefix(n.Text, "Nothing heard for ") && !n.Model:
			tools++
		case strings.HasPrefix(n.Text, "Nothing heard from the model for ") && n.Model:
			model++
		default:
			t.Errorf("got notice %+v", n)
		}
	}
	if tools < 2 || tools > 4 || model < 1 {
		t.Errorf("got %d notices about the command and %d about the model, want 2 to 4 and at least 1", tools, model)
	}
}
