package main

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"bgbot/internal/lab"
	"bgbot/internal/slacktest"
	"bgbot/internal/store"
)

// TestCommands plays bgbot as people type it into a shell, each time as a process of its own:
//
//	bgbot CODE ARGS …   runs it and wants that exit code; then stdout and stderr as usual
//	lab SCENARIO        a lab, and bgbot.yaml and key for it in this folder
//	host breaks FAULT   as in the stories
//	store used          another process has the store
//	slack               a Slack workspace with an operator and a guest, and the keys for it; slack scopes S … grants others
//
// Keys of the configuration are changed by their environment variables. $CLAUDE is the real CLI, $ME this user.
func TestCommands(t *testing.T) {
	t.Parallel() // else the others would wait for the last of these
	cli := cliForTest(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/commands",
		Setup: func(e *testscript.Env) error {
			e.Setenv("CLAUDE", cli)
			e.Setenv("ME", me.Username)
			e.Setenv(asBgbot, "1")
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			s, err := slacktest.Start(slacktest.Options{})
			if err != nil {
				return err
			}
			e.Defer(func() { must(t, s.Close()) })
			e.Values[slackKey{}] = s
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"bgbot": runBgbot,
			"lab": func(ts *testscript.TestScript, _ bool, args []string) {
				l, err := lab.Start(t.Context(), lab.Options{Scenario: args[0], Fast: true})
				ts.Check(err)
				ts.Defer(func() { must(t, l.Close()) })
				configured(t, ts.Getenv("WORK"), l, cli, l.ModelURL())
				key, _ := l.KeyFiles()
				ts.Setenv("LAB", filepath.Dir(filepath.Dir(key)))
			},
			"host": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(labFault(ts.Getenv("LAB"), args[1], args[0] == "breaks"))
			},
			"slack": func(ts *testscript.TestScript, _ bool, args []string) {
				if len(args) > 1 {
					ts.Value(slackKey{}).(*slacktest.Server).SetScopes(args[1:]...)
					return
				}
				ts.Check(configureSlack(ts))
			},
			"store": func(ts *testscript.TestScript, _ bool, _ []string) {
				s, err := store.Open(t.Context(), "sqlite://"+ts.MkAbs("state/bgbot.db"), logger(t.Output(), "error", "text", mask(nil)))
				ts.Check(err)
				ts.Defer(func() { must(t, s.Close()) })
			},
		},
	})
}

type slackKey struct{}

// configureSlack sets the keys of the server that came with the script.
func configureSlack(ts *testscript.TestScript) error {
	s := ts.Value(slackKey{}).(*slacktest.Server)
	s.AddUser(slacktest.User{ID: "U0OPERATOR", Name: "olga"})
	s.AddUser(slacktest.User{ID: "U0GUEST0", Name: "gus", Restricted: true})
	for key, value := range map[string]string{
		"APP_TOKEN": s.AppToken(), "BOT_TOKEN": s.BotToken(), "CHANNEL": s.Channel(), "API_URL": s.URL(),
	} {
		ts.Setenv("BGBOT_SLACK_"+key, value)
	}
	ts.Setenv("BGBOT_AUTH_SLACK", "U0OPERATOR,U0GUEST0")
	_, err := s.Join(s.Channel(), "U0OPERATOR")
	return err
}

func runBgbot(ts *testscript.TestScript, _ bool, args []string) {
	want := number(ts, args[0])
	err := ts.Exec(os.Args[0], args[1:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("bgbot %s: exit %d, want %d\n%s%s", strings.Join(args[1:], " "), code, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}
