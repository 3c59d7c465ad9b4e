package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bgbot/auth"
	"bgbot/bot"
	"bgbot/internal/anthropictest"
)

// TestStories plays the product as people see it. The characters are commands of the scripts.
//
// Before anybody speaks:
//
//	scenario NAME            which lab (default disk-full)
//	power|by|ttl|live|stall VALUE   agent.power, confirm.by, confirm.ttl, agent.live, the silence after which a turn says so
//	cli FILE                 what stands where the claude CLI should be
//	cli version V            the version that is wanted
//	model refuses            nothing listens where the model should be
//	host refuses|silent|hole|impostor    what is wrong with the Proxmox host
//	vm rebuilt               another host key is configured than the VM has
//
// At any time:
//
//	model PROMPT KIND TEXT   the next answer to a prompt that fits: text (TOOL in it is what the last tool
//	                         said, MODEL is who was asked), bash, read, status CODE [RETRY-AFTER], busy CODE (once), hang
//	model plays              it is the one of the drill
//	model told REGEXP        waits until the model was sent that, in what people and tools said
//	operator|colleague|stranger TEXT     types a line; `presses LABEL` presses the button that was shown last
//	operator sees REGEXP [within D]      waits for it on the terminal, after what was seen last; groups are $seen1 …;
//	                         D counts from the operator's last words and is for a
//	                         machine that is not busy
//	operator saw N REGEXP    has been shown it N times in all
//	operator never TEXT      has not been shown it at all
//	together TEXT NAME …     several people type the same line at once
//	host ran [N] TEXT        what reached the VM and the Proxmox host, N times
//	host never TEXT
//	host breaks|mends FAULT  qm misbehaves: start-fail, ha, qm-hang, lock
//	chat limits N D | down D | deletes | patient     how the chat service misbehaves; that no call broke a rate limit
//	store breaks|heals
//	cli dies                 kill -9
//	running N TEXT           waits for N processes of this machine whose command line begins with it; 0 does not wait
//	hidden TEXT              is in no terminal, log, file or request
//	asked N                  how often the model was asked
//	restart                  ends the service and starts it again
//	recovered                a fresh login says that the VM is back
//
// $MARK is a number of the story's own, for commands that can be told from those of all others.
func TestStories(t *testing.T) {
	t.Parallel() // else the others would wait for the last of these
	tellStories(t, func(testing.TB) venue { return newRoom() }, "testdata/stories")
}

// TestStoriesOnSlack tells the same stories, and some that only Slack knows, of people in a Slack workspace.
func TestStoriesOnSlack(t *testing.T) {
	t.Parallel() // else the others would wait for the last of these
	at := func(t testing.TB) venue { return newDesk(t) }
	tellStories(t, at, "testdata/stories")
}

func tellStories(t *testing.T, at func(testing.TB) venue, dir string) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			e.Values[worldKey{}] = &lazyWorld{t: e.T().(testing.TB), scenario: "disk-full", at: at}
			e.Setenv("MARK", fmt.Sprintf("%d.%d", os.Getpid()+1000, marks.Add(1)))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"scenario": func(ts *testscript.TestScript, _ bool, args []string) { lazy(ts).scenario = args[0] },
			"power":    func(ts *testscript.TestScript, _ bool, args []string) { the(ts).settings.power = bot.Power(args[0]) },
			"by":       func(ts *testscript.TestScript, _ bool, args []string) { the(ts).settings.confirm.By = auth.By(args[0]) },
			"ttl":      duration(func(w *world, d time.Duration) { w.settings.confirm.TTL = d }),
			"stall":    duration(func(w *world, d time.Duration) { w.settings.agent.StallNotice = d }),
			"live": func(ts *testscript.TestScript, _ bool, args []string) {
				the(ts).settings.agent.Live = number(ts, args[0])
			},
			"cli":       storyCLI,
			"model":     storyModel,
			"operator":  storyPerson("operator"),
			"colleague": storyPerson("colleague"),
			"stranger":  storyPerson("stranger"),
			"together":  storyTogether,
			"host":      storyHost,
			"vm":        storyVM,
			"chat":      storyChat,
			"store":     storyStore,
			"running":   storyRunning,
			"hidden":    storyHidden,
			"asked":     storyAsked,
			"restart":   func(ts *testscript.TestScript, _ bool, _ []string) { w := the(ts); w.close(); w.open() },
			"recovered": storyRecovered,
			"slack":     storySlack,
		},
	})
}

var marks atomic.Int64 // stories run at the same time

type worldKey struct{}

// lazyWorld is made when the story first needs it, so that a script can choose its scenario.
type lazyWorld struct {
	t        testing.TB
	scenario string
	at       func(testing.TB) venue
	once     sync.Once
	world    *world
}

func lazy(ts *testscript.TestScript) *lazyWorld { return ts.Value(worldKey{}).(*lazyWorld) }

func the(ts *testscript.TestScript) *world {
	l := lazy(ts)
	l.once.Do(func() { l.world = newWorld(l.t, l.t.TempDir(), l.scenario, l.at(l.t)) })
	return l.world
}

func duration(set func(*world, time.Duration)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		d, err := time.ParseDuration(args[0])
		ts.Check(err)
		set(the(ts), d)
	}
}

func number(ts *testscript.TestScript, s string) (n int) {
	_, err := fmt.Sscan(s, &n)
	ts.Check(err)
	return n
}

func storyCLI(ts *testscript.TestScript, _ bool, args []string) {
	w := the(ts)
	switch args[0] {
	case "version":
		w.settings.agent.Version = args[1]
		return
	case "dies":
		pids := pidsOf(func(line string) bool {
			return strings.Contains(line, "stream-json") && strings.Contains(line, w.settings.agent.Dir)
		})
		if len(pids) == 0 {
			ts.Fatalf("no claude runs")
		}
		for _, pid := range pids {
			ts.Check(syscall.Kill(pid, syscall.SIGKILL))
		}
		return
	}
	path := ts.MkAbs(args[0])
	if text, err := os.ReadFile(path); err == nil {
		ts.Check(os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "$MARK", ts.Getenv("MARK"))), 0o600))
		ts.Check(os.Chmod(path, 0o700))
	}
	w.settings.agent.Command = path
}

func storyModel(ts *testscript.TestScript, _ bool, args []string) {
	w := the(ts)
	switch {
	case len(args) == 1 && args[0] == "refuses":
		url, release, err := anthropictest.Refuse()
		ts.Check(err)
		ts.Defer(func() { must(w.t, release()) })
		w.settings.agent.BaseURL = url
	case len(args) == 1 && args[0] == "plays":
		w.settings.agent.BaseURL = w.lab.ModelURL()
	case len(args) == 2 && args[0] == "told":
		re, err := regexp.Compile(args[1])
		ts.Check(err)
		var all string
		if !soon(func() bool {
			all = ""
			for _, r := range w.model.Requests() {
				all += r.All + "\n"
			}
			return re.MatchString(all)
		}) {
			ts.Fatalf("the model was not told %q; it was told:\n%s", args[1], all)
		}
	case len(args) >= 2:
		a, err := answerOf(args[1], strings.Join(args[2:], " "))
		ts.Check(err)
		ts.Check(w.script.add(args[0], a))
	default:
		ts.Fatalf("usage: model PROMPT KIND [TEXT] | told REGEXP | refuses | plays")
	}
}

// soon polls what no event tells.
func soon(ok func() bool) bool {
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			return ok()
		}
	}
	return true
}

func storyPerson(name string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		w := the(ts)
		w.open()
		p := w.people[name]
		switch {
		case len(args) == 1:
			ts.Check(p.says(args[0]))
		case len(args) == 2 && args[0] == "presses":
			ts.Check(p.presses(args[1]))
		case len(args) == 2 && args[0] == "sees":
			remember(ts)(p.sees(w.venue.words(args[1]), patience))
		case len(args) == 4 && args[0] == "sees" && args[2] == "within":
			d, err := time.ParseDuration(args[3])
			ts.Check(err)
			remember(ts)(p.seesWithin(w.venue.words(args[1]), time.Duration(w.slow*float64(d))))
		case len(args) == 3 && args[0] == "saw":
			n, err := p.saw(w.venue.words(args[2]))
			ts.Check(err)
			if n != number(ts, args[1]) {
				ts.Fatalf("%s was shown %q %d times:\n%s", name, args[2], n, p.all())
			}
		case len(args) == 2 && args[0] == "never":
			if strings.Contains(p.all(), args[1]) {
				ts.Fatalf("%s was shown %q:\n%s", name, args[1], p.all())
			}
		default:
			ts.Fatalf("usage: %s TEXT | presses LABEL | sees REGEXP [within D] | saw N REGEXP | never TEXT", name)
		}
	}
}

func remember(ts *testscript.TestScript) func([]string, error) {
	return func(groups []string, err error) {
		ts.Check(err)
		for i, g := range groups {
			ts.Setenv(fmt.Sprintf("seen%d", i), g)
		}
	}
}

func storyTogether(ts *testscript.TestScript, _ bool, args []string) {
	w := the(ts)
	w.open()
	var all sync.WaitGroup
	for _, name := range args[1:] {
		all.Go(func() { must(w.t, w.people[name].says(args[0])) })
	}
	all.Wait()
}

func storyChat(ts *testscript.TestScript, _ bool, args []string) {
	w := the(ts)
	w.open()
	if len(args) == 1 && args[0] == "patient" {
		if n := w.venue.hasty(); n > 0 {
			ts.Fatalf("%d calls came while the chat had asked for silence", n)
		}
		return
	}
	ts.Check(w.venue.breaks(args[0], args[1:]...))
}

// storyStore puts a folder where the file was: whatever rights we have, that cannot be written.
func storyStore(ts *testscript.TestScript, _ bool, args []string) {
	w := the(ts)
	db := filepath.Join(w.dir, "bgbot.db")
	switch args[0] {
	case "breaks":
		ts.Check(os.Rename(db, db+".away"))
		ts.Check(os.Mkdir(db, 0o700))
	case "heals":
		ts.Check(os.Remove(db))
		ts.Check(os.Rename(db+".away", db))
	default:
		ts.Fatalf("usage: store breaks|heals")
	}
}

func storyRunning(ts *testscript.TestScript, _ bool, args []string) {
	n, text := number(ts, args[0]), args[1]
	if got := running(text); n == 0 && got != 0 || n > 0 && !soon(func() bool { return running(text) == n }) {
		ts.Fatalf("%d processes %q run, want %d", running(text), text, n)
	}
}

func storyHidden(ts *testscript.TestScript, _ bool, args []string) {
	if found := the(ts).places(args[0]); len(found) > 0 {
		ts.Fatalf("%q is in %s", args[0], strings.Join(found, ", "))
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
