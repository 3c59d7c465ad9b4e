package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bgbot/agentrun"
)

// The ticker stands in for claude where the bot's own speed is measured: it says one line each 250 ms, and each line
// carries the moment at which it was said. Everything else about claude is tested with the real one.
const (
	tickerName = "ticking-claude"
	tickEvery  = 250 * time.Millisecond
	tickCount  = 40
)

// init, because the ticker has to be the test binary and starts with a claude's arguments, which are not those of a test.
func init() {
	if filepath.Base(os.Args[0]) != tickerName {
		return
	}
	if slices.Contains(os.Args, "--version") {
		fmt.Println(agentrun.Pinned + " (Claude Code)")
	} else {
		(&ticker{out: json.NewEncoder(os.Stdout)}).run()
	}
	syscall.Exit(0)
}

// tickerCLI is a command for agent.command.
func tickerCLI(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), tickerName)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

type ticker struct {
	mu  sync.Mutex // guards out
	out *json.Encoder
}

type object = map[string]any

// said is what the bot writes to a claude, as far as the ticker cares.
type said struct {
	Type    string `json:"type"`
	UUID    string `json:"uuid"`
	ID      string `json:"request_id"`
	Request struct {
		Subtype string `json:"subtype"`
	} `json:"request"`
}

// run answers control requests at once, also in the middle of a turn. What people say while it is busy, it ignores but
// for one message, which is the next turn.
func (k *ticker) run() {
	prompts := make(chan string, 1)
	go func() {
		for uuid := range prompts {
			k.turn(uuid)
		}
	}()
	for in := bufio.NewReader(os.Stdin); ; {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var m said
		if json.Unmarshal(line, &m) != nil {
			continue
		}
		switch m.Type {
		case "control_request":
			k.say(object{"type": "control_response", "response": object{
				"subtype": "success", "request_id": m.ID,
				"response": object{"effective": object{"permissions": object{"ask": []string{"Bash"}}}},
			}})
		case "user":
			select {
			case prompts <- m.UUID:
			default:
			}
		}
	}
}

// turn says all ticks, the first one at once and with each tenth a command before it.
func (k *ticker) turn(uuid string) {
	k.say(object{"type": "command_lifecycle", "command_uuid": uuid, "state": "started"})
	k.say(object{
		"type": "system", "subtype": "init", "session_id": os.Args[len(os.Args)-1], "tools": []string{"Bash", "Read", "Grep", "Glob"},
		"model": "ticker", "permissionMode": "default", "claude_code_version": agentrun.Pinned,
	})
	pace := time.NewTicker(tickEvery)
	defer pace.Stop()
	for n := 1; n <= tickCount; n++ {
		if n > 1 {
			<-pace.C
		}
		if n%10 == 0 {
			id := fmt.Sprintf("step-%d", n)
			k.content("assistant", object{"type": "tool_use", "id": id, "name": "Bash", "input": object{"command": "echo " + id}})
			k.content("user", object{"type": "tool_result", "tool_use_id": id, "content": id})
		}
		k.content("assistant", object{"type": "text", "text": fmt.Sprintf("tick-%d-%d the disk is looked at", n, time.Now().UnixMilli())})
	}
	k.say(object{"type": "result", "subtype": "success", "result": "done", "num_turns": tickCount})
	k.say(object{"type": "command_lifecycle", "command_uuid": uuid, "state": "completed"})
}

func (k *ticker) content(who string, block object) {
	k.say(object{"type": who, "message": object{"role": who, "content": []object{block}}})
}

func (k *ticker) say(m object) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.out.Encode(m); err != nil && !strings.Contains(err.Error(), "broken pipe") {
		fmt.Fprintln(os.Stderr, tickerName+":", err)
	}
}
