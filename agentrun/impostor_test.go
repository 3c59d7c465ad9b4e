package agentrun

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// settled is how an impostor says that our settings hold.
const settledSettings = `read settings; echo '{"type":"control_response","response":{"subtype":"success","request_id":"settings","response":{"effective":{"permissions":{"ask":["Bash"]}}}}}'`

// A turn that nobody asked for, as after a command that ended late, must not be taken for ours, nor run anything.
func TestATurnThatNobodyAskedForIsNotOurs(t *testing.T) {
	t.Parallel()
	s := newSession()
	init := `{"type":"system","subtype":"init","session_id":"` + s + `","tools":["Read","Bash","Glob","Grep"],"model":"m","permissionMode":"default","claude_code_version":"2.1.330"}`
	r := newRig(t, func(c *Config) {
		c.Command = impostor(t, strings.Join([]string{
			settledSettings,
			`read prompt`,
			`uuid=$(printf '%s' "$prompt" | sed 's/.*"uuid":"\([^"]*\)".*/\1/')`,
			`echo '` + init + `'`,
			`echo '{"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"rm"},"tool_use_id":"t1"}}'`,
			`read answer; printf '%s' "$answer" > "$TMPDIR/denied"`,
			`echo '{"type":"assistant","message":{"content":[{"type":"text","text":"unasked"}]}}'`,
			`echo '{"type":"result","subtype":"success","result":"unasked"}'`,
			`echo "{\"type\":\"command_lifecycle\",\"command_uuid\":\"$uuid\",\"state\":\"started\"}"`,
			`echo '` + init + `'`,
			`echo '{"type":"assistant","message":{"content":[{"type":"text","text":"asked"}]}}'`,
			`echo '{"type":"result","subtype":"success","result":"asked","num_turns":1}'`,
			`read end`,
		}, "\n"))
	})
	rec := all(t, r.Start(t.Context(), prompt(s, "[alice]: hello"), allow))
	if got := answer(t, rec); got != "asked" {
		t.Errorf("got %q", got)
	}
	if texts := each[Text](rec); len(texts) != 1 || texts[0].Text != "asked" {
		t.Errorf("got %v", texts)
	}
	got, err := os.ReadFile(filepath.Join(r.cfg.place(s).tmp(), "denied"))
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(got), `"behavior":"deny"`)
}

func TestACLIThatIsNotWhatWasAskedForIsEnded(t *testing.T) {
	t.Parallel()
	s := newSession()
	for want, change := range map[string][2]string{
		`The claude CLI is not run, because its tools are ["Bash" "Write"] and not ["Bash" "Glob" "Grep" "Read"].`:                                            {`"Read","Bash","Glob","Grep"`, `"Bash","Write"`},
		`The claude CLI is not run, because its permission mode is "bypassPermissions" and not "default".`:                                                    {`default`, `bypassPermissions`},
		`The claude CLI is not run, because MCP servers are connected and none was asked for.`:                                                                {`"model":"m"`, `"mcp_servers":[{"name":"x"}]`},
		`The claude CLI is not run, because its session is ` + strings.Repeat("0", 8) + ` and not ` + s + `.`:                                                 {s, strings.Repeat("0", 8)},
		"The claude CLI ended in the middle of the turn (exit 1). The conversation is kept; send a message to go on. The verbs still work: type `vm status`.": {`{`, ``},
	} {
		init := `{"type":"system","subtype":"init","session_id":"` + s + `","tools":["Read","Bash","Glob","Grep"],"model":"m","permissionMode":"default","claude_code_version":"2.1.330"}`
		end := "sleep 626"
		if change[0] == "{" {
			end = "exit 1"
		}
		r := newRig(t, func(c *Config) {
			c.Command = impostor(t, strings.Join([]string{
				settledSettings, "read prompt", "echo '" + strings.ReplaceAll(init, change[0], change[1]) + "'", end,
			}, "\n"))
		})
		began := time.Now()
		sentence(t, all(t, r.Start(t.Context(), prompt(s, "[alice]: hello"), allow)).err, want)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%q took %s", want, took)
		}
	}
}

func TestACLIThatNeverBeginsAndOneThatObeysNoStop(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) {
		c.Command = impostor(t, "trap '' TERM INT HUP\n"+settledSettings+"\nwhile :; do sleep 627; done")
	})
	turn := r.Start(t.Context(), prompt(newSession(), "[alice]: hello"), allow)
	eventually(t, "the prompt is written", func() bool {
		turn.mu.Lock()
		defer turn.mu.Unlock()
		return turn.proc != nil
	})
	got := turn.Stop(t.Context())
	if len(got.Left) > 0 || got.Took > patience {
		t.Errorf("got %+v", got)
	}
	t.Logf("a deaf CLI is stopped after %s", got.Took)
	if n := running(t, "627"); n != 0 {
		t.Errorf("%d of its processes run", n)
	}

	r.startLimit = 500 * time.Millisecond
	rec := all(t, r.Start(t.Context(), prompt(newSession(), "[alice]: hello"), allow))
	sentence(t, rec.err, "The claude CLI did not begin with the message within 500ms and was ended.")
	if n := running(t, "627"); n != 0 {
		t.Errorf("%d of its processes run", n)
	}
}

// The idle process of the session has to go first, and takes its time. Who stops the turn that waits for it is told at once,
// and the session's next turn waits for it all the same.
func TestAStopDoesNotWaitForAProcessThatHasToGo(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(r *rig, s string) *Turn{
		"for another model": func(r *rig, s string) *Turn {
			p := prompt(s, "[alice]: and now?")
			p.Model = "opus"
			return r.Start(r.t.Context(), p, allow)
		},
		"for another session": func(r *rig, s string) *Turn {
			other := r.Start(r.t.Context(), prompt(newSession(), "[alice]: hello"), allow)
			until(r.t, other, is[Waiting])
			return r.Start(r.t.Context(), prompt(s, "[alice]: and now?"), allow)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSession()
			r := newRig(t, func(c *Config) {
				c.Live = 1
				c.Command = impostor(t, strings.Join([]string{
					"trap '' TERM INT HUP",
					settledSettings,
					`read prompt`,
					`uuid=$(printf '%s' "$prompt" | sed 's/.*"uuid":"\([^"]*\)".*/\1/')`,
					`echo "{\"type\":\"command_lifecycle\",\"command_uuid\":\"$uuid\",\"state\":\"started\"}"`,
					`echo '{"type":"result","subtype":"success","result":"done","num_turns":1}'`,
					`while :; do sleep 628; done`,
				}, "\n"))
			})
			answer(t, all(t, r.Start(t.Context(), prompt(s, "[alice]: hello"), allow)))
			turn := begin(r, s)
			eventually(t, "the process is told to go", func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				k := r.sessions[s].keeper
				return len(r.sessions[s].turn) == 1 && (k == nil || k.evicted)
			})
			began := time.Now()
			turn.Stop(t.Context())
			if took := time.Since(began); took > patience {
				t.Errorf("the stop took %s", took)
			}
			answer(t, all(t, r.Start(t.Context(), prompt(s, "[alice]: hello again"), allow)))
		})
	}
}
