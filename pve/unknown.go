package pve

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Unknown says that the link dropped, or the gate died, after a change was sent: nobody here knows how it ended. A
// started change goes on at the host, so it is never sent again; Now says what `status` answered afterwards.
type Unknown struct {
	Host string
	Verb Verb
	Op   string // empty when nothing was heard of the gate
	Step string // the last step heard of
	Err  error  // what happened

	Now   *Result // the answer to `status` afterwards; nil when there was none
	Asked error   // why there is no answer
}

func (e *Unknown) Error() string {
	return fmt.Sprintf("outcome of %s (op %q, step %q) is unknown: %v", e.Verb, e.Op, e.Step, e.Err)
}

func (e *Unknown) Unwrap() error { return e.Err }

// UserMessage is the error as a person reads it: what is known, what `status` said since, and what to do.
func (e *Unknown) UserMessage() string {
	where := "before the gate answered, so it may or may not have begun"
	if e.Op != "" {
		where = fmt.Sprintf("after step `%s` of op %s", e.Step, e.Op)
	}
	text := fmt.Sprintf("Outcome of %s unknown: %s %s.", e.Verb, e.what(), where)
	switch {
	case e.Now != nil:
		text += "\nstatus now says: " + e.Now.Text
	case e.Asked != nil:
		text += "\nstatus could not be asked: " + sentence(e.Asked)
	}
	return text + "\nIt was not sent again, and what has begun goes on at the host. Ask status before you change anything."
}

func (e *Unknown) what() string {
	switch {
	case errors.Is(e.Err, context.Canceled):
		return "nobody waited any longer"
	case errors.Is(e.Err, errClosed):
		return "this side shut down"
	}
	if gate, ok := errors.AsType[*NoGate](e.Err); ok {
		return "the gate died (" + gate.how() + ")"
	}
	if strings.HasPrefix(e.Err.Error(), "no result") {
		return "the gate gave " + e.Err.Error()
	}
	return "the link dropped"
}

// NoGate says that the host ended the command in a way in which the gate never ends.
type NoGate struct {
	Host   string
	Status int    // 126, 127, 255; with a signal, 128 and its number
	Signal string // such as KILL
	Words  string // what was printed, if anything
}

func (e *NoGate) Error() string { return fmt.Sprintf("%s: no gate: %s: %s", e.Host, e.how(), e.Words) }

// UserMessage is the error as a person reads it.
func (e *NoGate) UserMessage() string {
	text := ""
	switch {
	case e.Signal != "":
		text = fmt.Sprintf("The gate on %s was killed (SIG%s) before it gave a result. Ask status before you change anything.", e.Host, e.Signal)
	case e.Status == 127:
		text = "No pve-gate at the path of the key's forced command on " + e.Host + ". Install it there, or correct command= in authorized_keys."
	case e.Status == 126:
		text = "pve-gate on " + e.Host + " cannot be executed. Check its mode (0755) and that it was built for this machine."
	default:
		text = "The forced command on " + e.Host + " ended with 255, which the gate never does. Check that command= in authorized_keys runs pve-gate itself."
	}
	if e.Words != "" {
		text += "\nIt said: " + e.Words
	}
	return text
}

func (e *NoGate) how() string {
	if e.Signal != "" {
		return "SIG" + e.Signal
	}
	return fmt.Sprintf("exit %d", e.Status)
}

// sentence is the error as a person reads it, if it has such words.
func sentence(err error) string {
	var spoken interface{ UserMessage() string }
	if errors.As(err, &spoken) {
		return spoken.UserMessage()
	}
	return err.Error() + "."
}
