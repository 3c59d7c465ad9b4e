// Package auth decides who may do what: a person by ID, an act, a policy. It is pure; it knows no chat, no display
// names and no network. The zero Policy denies everybody.
package auth

import (
	"fmt"
	"strings"
)

// Person is somebody as a chat service knows them: by the ID that they cannot choose, never by a display name.
// It is comparable; two Persons are the same only if chat and ID are the same bytes.
type Person struct {
	Chat string // console, slack, mattermost
	ID   string
}

// String is the form "slack:U0123456789", which [ParsePerson] reads back.
func (p Person) String() string { return p.Chat + ":" + p.ID }

// known says that somebody is meant at all. A chat that cannot tell who speaks leaves the ID empty, and must not match
// an entry that is empty by mistake.
func (p Person) known() bool { return p.Chat != "" && p.ID != "" }

// ParsePerson reads what [Person.String] wrote. The chat ends at the first colon; the ID is the rest, untouched.
func ParsePerson(s string) (Person, error) {
	chat, id, _ := strings.Cut(s, ":")
	p := Person{Chat: chat, ID: id}
	if !p.known() {
		return Person{}, &Malformed{Input: s}
	}
	return p, nil
}

// Malformed is the error of [ParsePerson].
type Malformed struct{ Input string }

func (e *Malformed) Error() string {
	return fmt.Sprintf("%q is not a person; write chat:ID, such as slack:U0123456789", e.Input)
}

// UserMessage is the error as a person reads it.
func (e *Malformed) UserMessage() string { return e.Error() }

// Act is a kind of thing that a person may want to do.
type Act string

// The acts.
const (
	Talk    Act = "talk"    // begin or continue a turn of the agent
	Stop    Act = "stop"    // end a turn
	Look    Act = "look"    // status, forensics
	Change  Act = "change"  // start, reset, stop, cycle
	Confirm Act = "confirm" // press or type a confirmation
)

func (a Act) known() bool {
	switch a {
	case Talk, Stop, Look, Change, Confirm:
		return true
	default:
		return false
	}
}

// Policy says who may act. It does not change once made, so any number of goroutines may ask it at once. The zero
// value denies everybody.
type Policy struct{ allowed map[Person]struct{} }

// NewPolicy allows these people every act. A Person without a chat or an ID is nobody, also when listed.
func NewPolicy(people ...Person) Policy {
	allowed := make(map[Person]struct{}, len(people))
	for _, p := range people {
		if p.known() {
			allowed[p] = struct{}{}
		}
	}
	return Policy{allowed: allowed}
}

// Check returns nil if who may act, else a [*Denied].
func (p Policy) Check(who Person, act Act) error {
	switch {
	case !act.known():
		return &Denied{Who: who, Reason: fmt.Sprintf("You may not do that here: %q is nothing that anybody may do.", string(act))}
	case !who.known():
		return &Denied{Who: who, Reason: "You may not do that here: the chat did not say who you are."}
	}
	if _, ok := p.allowed[who]; !ok {
		return &Denied{Who: who, Reason: fmt.Sprintf("You may not do that here: %s is not on the allowlist (auth.%s).", who, who.Chat)}
	}
	return nil
}

// By says whose confirmation counts. It stands beside the [Policy], not in its place: whoever confirms must also be
// allowed to [Confirm]. The zero value accepts nobody.
type By string

// The ways to confirm.
const (
	Requester By = "requester" // only the person who asked
	Any       By = "any"       // everybody on the allowlist
	Other     By = "other"     // a second person
)

// ParseBy reads one of the words requester, any, other.
func ParseBy(s string) (By, error) {
	switch b := By(s); b {
	case Requester, Any, Other:
		return b, nil
	default:
		return "", &UnknownBy{Input: s}
	}
}

// UnknownBy is the error of [ParseBy].
type UnknownBy struct{ Input string }

func (e *UnknownBy) Error() string {
	return fmt.Sprintf("%q does not say who may confirm; use one of: requester any other", e.Input)
}

// UserMessage is the error as a person reads it.
func (e *UnknownBy) UserMessage() string { return e.Error() }

// Check returns nil if confirmer may confirm what requester asked for, else a [*Denied]. When the agent asked, the
// requester is the person whose turn it is. Two chats cannot prove that two of their users are two people, so with
// [Other] the allowlist should name each person in one chat only.
func (b By) Check(requester, confirmer Person) error {
	deny := func(format string, args ...any) error {
		return &Denied{Who: confirmer, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case !confirmer.known():
		return deny("You may not confirm this: the chat did not say who you are.")
	case !requester.known():
		return deny("Nobody may confirm this: it is not recorded who asked for it. Ask again.")
	}
	switch b {
	case Any:
		return nil
	case Requester:
		if confirmer != requester {
			return deny("Only %s, who asked, may confirm this.", requester)
		}
		return nil
	case Other:
		if confirmer == requester {
			return deny("A second person has to confirm this; you asked for it.")
		}
		return nil
	default:
		return deny("Nobody may confirm this: %q does not say who may (confirm.by).", string(b))
	}
}

// Denied is the answer no. Reason is a full sentence for the person who was refused.
type Denied struct {
	Who    Person
	Reason string
}

func (e *Denied) Error() string { return fmt.Sprintf("denied %s: %s", e.Who, e.Reason) }

// UserMessage is the error as the refused person reads it.
func (e *Denied) UserMessage() string { return e.Reason }
