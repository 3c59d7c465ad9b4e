package agentrun

import "time"

// Event is one thing that happened in a turn.
//
//sumtype:decl
type Event interface{ event() }

// Waiting says that the turn stands in line for a free process; Place 1 is next.
type Waiting struct{ Place int }

// Started says that the CLI took the prompt: init was read and is what was asked for.
type Started struct {
	Session string
	Model   string
	Resumed bool
}

// Text is prose of the agent. Partial texts with one ID grow: each carries the whole block so far and replaces the one
// before. The last one of an ID is not Partial.
type Text struct {
	ID      string
	Text    string
	Partial bool
}

// Tool is a tool call that the agent has made and that has not yet ended.
type Tool struct {
	ID      string
	Name    string // Bash, Read, Grep, Glob
	Input   string // for a person: the command, the path or the pattern
	Purpose string // the agent's own description, may be empty
}

// ToolResult ends the tool call with its ID.
type ToolResult struct {
	ID     string
	Output string // what the model was given, at most; free of ANSI and NUL, valid UTF-8
	Failed bool
	Denied bool // by the gate, it did not run
	Took   time.Duration
}

// Folded says that a message sent while the turn was busy was taken up by the agent.
type Folded struct{ Message string }

// Notice is something a person waits longer for: the API is retried, the conversation is compacted, nothing was heard
// for a while. Text is a sentence.
type Notice struct {
	Text  string
	Model bool // it is the model that does not answer; the verbs still work
	Alarm bool // a private file was tampered with; nobody waits for it, but somebody must know
}

// Result ends a turn that ended by itself, well or not.
type Result struct {
	Text   string // the final answer; empty if Failed
	Failed bool
	Reason string // if Failed: one sentence that a person can act on
	Model  bool   // if Failed: the model or its API is the cause, and the verbs still work
	Steps  int
	Cost   float64 // US dollars, of this turn
	Took   time.Duration
}

func (Waiting) event()    {}
func (Started) event()    {}
func (Text) event()       {}
func (Tool) event()       {}
func (ToolResult) event() {}
func (Folded) event()     {}
func (Notice) event()     {}
func (Result) event()     {}
