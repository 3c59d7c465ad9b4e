package pve

import "fmt"

// Unknown says that the link dropped after a change was sent: nobody here knows how it ended. A started change goes on
// at the host, so it is never sent again; Asked says what `status` answered afterwards.
type Unknown struct {
	Verb Verb
	Op   string // empty when the link dropped before the gate answered
	Step string // the last step heard of
	Err  error  // what happened to the link

	Now   *Result // the answer to `status` afterwards; nil when there was none
	Asked error   // why there is no answer
}

func (e *Unknown) Error() string { return fmt.Sprintf("the outcome of %s is unknown: %v", e.Verb, e.Err) }

func (e *Unknown) Unwrap() error { return e.Err }

// UserMessage is the error as a person reads it.
func (e *Unknown) UserMessage() string { return e.Error() }
