package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bgbot/auth"
	"bgbot/bot"
	"bgbot/internal/anthropictest"
)

// TestStories plays the product as people see it. The characters are commands of the scripts:
//
//	scenario NAME            which lab (default disk-full); before anybody speaks
//	power|by|ttl VALUE       agent.power, confirm.by, confirm.ttl; before anybody speaks
//	model PROMPT KIND TEXT   the next answer to a prompt that fits: text, bash, status, hang, refuse
//	operator|colleague|stranger TEXT     types a line
//	operator sees REGEXP     waits for it on the terminal, after what was seen last; a group is kept as $1
//	operator never REGEXP    has not been shown it at all
//	host ran|never TEXT      what reached the VM and the Proxmox host
//	asked N                  how often the model was asked
//	restart                  ends the service and starts it again
//	recovered                a fresh login says that the VM is back
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/stories",
		Setup: func(e *testscript.Env) error {
			e.Values[worldKey{}] = &lazyWorld{t: e.T().(testing.TB), dir: e.WorkDir, scenario: "disk-full"}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"scenario":  func(ts *testscript.TestScript, _ bool, args []string) { lazy(ts).scenario = args[0] },
			"power":     func(ts *testscript.TestScript, _ bool, args []string) { the(ts).settings.power = bot.Power(args[0]) },
			"by":        func(ts *testscript.TestScript, _ bool, args []string) { the(ts).settings.confirm.By = auth.By(args[0]) },
			"ttl":       storyTTL,
			"live":      func(ts *testscript.TestScript, _ bool, args []string) { the(ts).settings.agent.Live = len(args[0]) },
			"model":     storyModel,
			"operator":  storyPerson("operator"),
			"colleague": storyPerson("colleague"),
			"stranger":  storyPerson("stranger"),
			"host":      storyHost,
			"asked":     storyAsked,
			"restart":   func(ts *testscript.TestScript, _ bool, _ []string) { w := the(ts); w.close(); w.open() },
			"recovered": storyRecovered,
		},
	})
}

type worldKey struct{}

// lazyWorld is made when the story first needs it, so that a script can choose its scenario.
type lazyWorld struct {
	t        testing.TB
	dir      string
	scenario string
	once     sync.Once
	world    *world
}

func lazy(ts *testscript.TestScript) *lazyWorld { return ts.Value(worldKey{}).(*lazyWorld) }

func the(ts *testscript.TestScript) *world {
	l := lazy(ts)
	l.once.Do(func() { l.world = newWorld(l.t, l.dir, l.scenario) })
	return l.world
}

func storyTTL(ts *testscript.TestScript, _ bool, args []string) {
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	the(ts).settings.confirm.TTL = d
}

func storyModel(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: model PROMPT text|bash|status|hang|refuse [TEXT]")
	}
	text := strings.Join(args[2:], " ")
	var a anthropictest.Answer
	switch args[1] {
	case "text":
		a.Text = text
	case "bash":
		a.Bash = []string{text}
	case "status":
		_, err := fmt.Sscan(text, &a.Status)
		ts.Check(err)
	case "hang":
		a.Fault = anthropictest.Hang
	case "drop":
		a.Fault = anthropictest.Drop
	default:
		ts.Fatalf("model: unknown kind %q", args[1])
	}
	ts.Check(the(ts).script.add(args[0], a))
}

func storyPerson(name string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		w := the(ts)
		w.open()
		p := w.people[name]
		switch {
		case len(args) == 2 && args[0] == "sees":
			groups, err := p.sees(args[1], 30*time.Second)
			ts.Check(err)
			for i, g := range groups {
				ts.Setenv(fmt.Sprintf("seen%d", i), g)
			}
		case len(args) == 2 && args[0] == "never":
			if strings.Contains(p.all(), args[1]) {
				ts.Fatalf("%s was shown %q:\n%s", name, args[1], p.all())
			}
		case len(args) == 1:
			ts.Check(p.says(args[0]))
		default:
			ts.Fatalf("usage: %s TEXT | sees REGEXP | never TEXT", name)
		}
	}
}

func storyHost(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: host ran|never TEXT")
	}
	var all []string
	for _, c := range the(ts).lab.Commands() {
		all = append(all, c.Where+": "+c.Text)
	}
	got := strings.Contains(strings.Join(all, "\n"), args[1])
	if got != (args[0] == "ran") {
		ts.Fatalf("host %s %q; what reached the machines:\n%s", args[0], args[1], strings.Join(all, "\n"))
	}
}

func storyAsked(ts *testscript.TestScript, _ bool, args []string) {
	if got := fmt.Sprint(the(ts).script.calls()); got != args[0] {
		ts.Fatalf("the model was asked %s times, want %s", got, args[0])
	}
}

func storyRecovered(ts *testscript.TestScript, neg bool, _ []string) {
	w := the(ts)
	err := w.lab.Recovered(w.t.Context())
	switch {
	case neg && err == nil:
		ts.Fatalf("the VM is back, and should not be")
	case !neg:
		ts.Check(err)
	}
}
