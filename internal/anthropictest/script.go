package anthropictest

import (
	"net/http"
	"time"
)

// Request is one call of the CLI, decoded as far as scripts need it.
type Request struct {
	Model    string
	System   string // all system text, joined
	Tools    []string
	Stream   bool
	Header   http.Header
	Body     []byte
	Prompt   string // the newest user text; a text folded into a running turn does not count as a new prompt
	Step     int    // assistant messages since Prompt, so 0 asks for the first answer
	Folded   string // the newest text folded into the running turn, empty if none
	ToolText string // the text of the newest tool result, empty at step 0
	All      string // every user text and tool result of the conversation, joined
	At       time.Time
	Left     bool // the client hung up before the answer was through
}

// Answer is what the model says to one request. The zero Answer is an empty text.
type Answer struct {
	Think string
	Text  string
	Bash  []string  // one Bash tool call each, all in the same answer
	Tools []ToolUse // other tool calls

	Status     int               // an API error instead of an answer: 401, 429, 500, 529 …
	ErrorType  string            // its type; a fitting one if empty
	ErrorText  string            // its message
	RetryAfter string            // header retry-after, verbatim
	Headers    map[string]string // more of them
	Times      int               // with Status or another fault: only the first Times tries of this step; 0 is always
	Wait       time.Duration     // before the headers
	Pace       time.Duration     // between two deltas of text
	Fault      Fault
	StopReason string // end_turn or tool_use if empty
	InTokens   int    // usage; 100 if 0
	OutTokens  int    // usage; 10 if 0
}

// ToolUse is a tool call by name.
type ToolUse struct {
	Name  string
	Input map[string]any
}

// Fault is a way in which an answer goes wrong on the wire.
type Fault string

// The faults.
const (
	NoFault  Fault = ""
	Hang     Fault = "hang"      // no headers, until the client leaves
	Stall    Fault = "stall"     // one delta, then silence
	Drop     Fault = "drop"      // the connection closes before the headers
	Cut      Fault = "cut"       // the connection closes after one delta
	NoStop   Fault = "no-stop"   // the stream ends without message_stop
	SSEError Fault = "sse-error" // an error event in the stream
	HTML     Fault = "html"      // status 200 and a web page
	BadJSON  Fault = "bad-json"
)

// Model answers requests; it is called from many goroutines at once.
type Model func(Request) Answer
