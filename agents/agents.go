// Package agents holds the words that the agent is given: who it is, and the prompts behind one tap. They are files to be
// reviewed as prose; every sentence in them must be true of the bot as it is built and set up. It knows nothing of how
// the agent is run.
package agents

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode"
)

//go:embed breakglass.md
var breakglass string

// Params is what differs from one set-up to another.
type Params struct {
	VM       string   // its name, which is also the ssh alias
	Address  string   // where it answers, for the agent to name it
	VMID     int      // its number on the Proxmox host
	Runbooks []string // the files that are really there, by the path under which the agent can read them
	Power    string   // what it may do with the verbs: auto, confirm, readonly
}

// Agent is a part that the model plays.
type Agent struct {
	Name        string
	Description string
	Prompt      string // the system prompt
}

// Breakglass is the agent that repairs the VM. It refuses parameters with which the prompt would not be true.
func Breakglass(p Params) (Agent, error) {
	switch {
	case p.VM == "" || p.Address == "" || p.VMID <= 0:
		return Agent{}, fmt.Errorf("the agent cannot be told about a VM without name, address or number: %q, %q, %d", p.VM, p.Address, p.VMID)
	case !slices.Contains([]string{"auto", "confirm", "readonly"}, p.Power):
		return Agent{}, fmt.Errorf("the agent cannot be told what agent.power %q lets it do", p.Power)
	}
	p.Runbooks = quoted(p.Runbooks)
	t, err := template.New("breakglass.md").Option("missingkey=error").Parse(breakglass)
	if err != nil {
		return Agent{}, err
	}
	var text strings.Builder
	if err := t.Execute(&text, p); err != nil {
		return Agent{}, err
	}
	return Agent{
		Name:        "breakglass",
		Description: fmt.Sprintf("Diagnoses and repairs %s, by SSH and through its Proxmox host.", p.VM),
		Prompt:      text.String(),
	}, nil
}

// quoted escapes a name that could otherwise be read as more lines of the prompt.
func quoted(names []string) []string {
	var safe []string
	for _, n := range names {
		if strings.ContainsFunc(n, func(r rune) bool { return !unicode.IsPrint(r) }) {
			n = strconv.Quote(n)
		}
		safe = append(safe, n)
	}
	return safe
}
