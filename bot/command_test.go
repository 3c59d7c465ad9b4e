package bot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/agentrun"
	"bgbot/auth"
	"bgbot/pve"
)

func TestWhatPeopleType(t *testing.T) {
	prompts := []Prompt{{ID: "disk", Label: "Disk", Text: "Look at the disks."}}
	for _, c := range []struct {
		text, click string
		kind        kind
		verb        pve.Verb
		arg         string
		act         auth.Act
	}{
		{text: "", kind: nothing, act: auth.Talk},
		{text: " \n\t \x00", kind: nothing, act: auth.Talk},
		{text: "devvm is frozen", kind: talk, arg: "devvm is frozen", act: auth.Talk},
		{text: "Stop", kind: stop, act: auth.Stop},
		{text: "stop!", kind: stop, act: auth.Stop},
		{text: "stop it", kind: stop, act: auth.Stop},
		{text: "Please stop, now!", kind: stop, act: auth.Stop},
		{text: "Stop. STOP.", kind: stop, act: auth.Stop},
		{text: "stop it nginx", kind: talk, arg: "stop it nginx", act: auth.Talk},
		{text: "please now", kind: talk, arg: "please now", act: auth.Talk},
		{text: "stop the database", kind: talk, arg: "stop the database", act: auth.Talk},
		{text: "Help", kind: help, act: auth.Talk},
		{text: "vm", kind: help, act: auth.Talk},
		{text: "Vm status", kind: power, verb: pve.Status, act: auth.Look},
		{text: "/vm cycle", kind: power, verb: pve.Cycle, act: auth.Change},
		{text: "“vm stop”", kind: power, verb: pve.Stop, act: auth.Change},
		{text: "`vm forensics`", kind: power, verb: pve.Forensics, act: auth.Look},
		{text: "vm cycle now", kind: invalid, act: auth.Talk},
		{text: "vm cycle;id", kind: invalid, act: auth.Talk},
		{text: "vm cуcle", kind: invalid, act: auth.Talk}, // a Cyrillic у
		{text: "vmstatus", kind: invalid, act: auth.Talk},
		{text: "Vm-cycle!", kind: invalid, act: auth.Talk},
		{text: "vm_status", kind: invalid, act: auth.Talk},
		{text: "/vm.stop", kind: invalid, act: auth.Talk},
		{text: "vm–reset", kind: invalid, act: auth.Talk}, // a phone makes one dash of two
		{text: "vmstat", kind: talk, arg: "vmstat", act: auth.Talk},
		{text: "vmstatus says what?", kind: talk, arg: "vmstatus says what?", act: auth.Talk},
		{text: "/vm reboot please", kind: invalid, act: auth.Talk},
		{text: "vm is frozen, please look", kind: talk, arg: "vm is frozen, please look", act: auth.Talk},
		{text: "confirm 4f7q", kind: confirm, arg: "4F7Q", act: auth.Confirm},
		{text: "Cancel 4F7Q", kind: cancel, arg: "4F7Q", act: auth.Confirm},
		{text: "cycle", kind: invalid, act: auth.Talk},
		{text: "cancel that", kind: talk, arg: "cancel that", act: auth.Talk},
		{text: "confirm QQQQ", kind: confirm, arg: "QQQQ", act: auth.Confirm}, // misread, and yet nothing for the agent
		{text: "confirm F0WB", kind: confirm, arg: "F0WB", act: auth.Confirm},
		{text: "cancel that", kind: talk, arg: "cancel that", act: auth.Talk},
		{text: "confirm the order", kind: talk, arg: "confirm the order", act: auth.Talk},
		{text: "model opus", kind: model, arg: "opus", act: auth.Talk},
		{text: "model ../../x", kind: invalid, act: auth.Talk},
		{text: "/clear", kind: talk, arg: "/clear", act: auth.Talk},
		{text: "@/etc/passwd", kind: talk, arg: "@/etc/passwd", act: auth.Talk},
		{click: "stop:1a2b", kind: stop, arg: "1a2b", act: auth.Stop},
		{click: "confirm:nonce", kind: confirm, arg: "nonce", act: auth.Confirm},
		{click: "cancel:nonce", kind: cancel, arg: "nonce", act: auth.Confirm},
		{click: "vm:cycle", kind: power, verb: pve.Cycle, act: auth.Change},
		{click: "vm:cycle;id", kind: invalid, act: auth.Talk},
		{click: "prompt:disk", kind: talk, arg: "Look at the disks.", act: auth.Talk},
		{click: "prompt:other", kind: invalid, act: auth.Talk},
		{click: "whatever", kind: invalid, act: auth.Talk},
	} {
		got := parse(Message{Text: c.text, Click: c.click}, prompts)
		if got.kind != c.kind || got.verb != c.verb || got.arg != c.arg || got.act() != c.act {
			t.Errorf("%q%q: got kind %d verb %q arg %q act %q, want %d %q %q %q",
				c.text, c.click, got.kind, got.verb, got.arg, got.act(), c.kind, c.verb, c.arg, c.act)
		}
		if got.kind == invalid && message(got.err) == "" {
			t.Errorf("%q%q is refused without a sentence", c.text, c.click)
		}
	}
}

func TestAMistypedVerbIsAnswered(t *testing.T) {
	got := message(parse(Message{Text: "vm restart"}, nil).err)
	want := "restart is not a verb; nothing was done.\nThe verbs: `vm status`, `vm forensics`, `vm start`, `vm reset`, `vm stop`, `vm cycle`."
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// FuzzParse: no text ever becomes a change unless its words are exactly the verb's.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"vm cycle", "/vm stop", "vm cycle;id", "confirm ABCD", "model x", "vm\ncycle", "vm cycle\x00"} {
		f.Add(s, "")
	}
	f.Add("", "vm:cycle")
	f.Fuzz(func(t *testing.T, text, click string) {
		c := parse(Message{Text: text, Click: click}, nil)
		if c.kind == power && !slices.Contains(pve.Verbs(), c.verb) {
			t.Errorf("%q %q became the verb %q", text, click, c.verb)
		}
		if c.kind != power && c.verb != "" {
			t.Errorf("%q %q carries a verb without being one", text, click)
		}
	})
}

func TestPowerVerbsInCommands(t *testing.T) {
	for command, want := range map[string][]pve.Verb{
		"ssh devvm uptime":                               nil,
		"ssh pve status":                                 {pve.Status},
		"ssh pve cycle":                                  {pve.Cycle},
		"timeout 300 ssh pve cycle":                      {pve.Cycle},
		"/tmp/x/bin/ssh -T pve 'cycle'":                  {pve.Cycle},
		"ssh pve status && ssh pve reset; ssh pve start": {pve.Reset, pve.Start, pve.Status},
		`bash -c "ssh pve cycle"`:                        {pve.Cycle},
		"(ssh pve stop) &":                               {pve.Stop},
		"for i in 1 2; do ssh pve status; done":          {pve.Status},
		"echo $(ssh pve cycle)":                          {pve.Cycle},
		`s\sh p"v"e cy'cl'e`:                             {pve.Cycle},
		"ssh devvm 'sudo systemctl stop nginx'":          nil,
		"echo stop":                                      nil,
		"ssh pve cycle '":                                {pve.Cycle}, // not even Bash
		"":                                               nil,
	} {
		if got := powerVerbs(command); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", command, got, want)
		}
	}
}

// The parser recurses, and no program survives the overflow of a stack.
func TestACommandTooLongToRunIsNotRead(t *testing.T) {
	deep := strings.Repeat("(", 200_000)
	if got := powerVerbs(deep); got != nil {
		t.Errorf("got %q", got)
	}
	v := newView("t", time.Now())
	v.add(agentrun.Tool{ID: "1", Name: "Bash", Input: deep}, time.Now())
	v.verdict("1", pve.Status, "running")
	if v.items[0].hint != "" {
		t.Errorf("the hint of a denied command is %q", v.items[0].hint)
	}
}

func FuzzPowerVerbs(f *testing.F) {
	f.Add("ssh pve cycle")
	f.Add("bash -c 'bash -c \"ssh pve cycle\"'")
	f.Fuzz(func(t *testing.T, command string) {
		for _, v := range powerVerbs(command) {
			if _, err := pve.ParseVerb(string(v)); err != nil {
				t.Error(err)
			}
		}
	})
}
