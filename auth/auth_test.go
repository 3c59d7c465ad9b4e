package auth

import (
	"errors"
	"testing"
)

var (
	alice = Person{"slack", "U0ALICE001"}
	bob   = Person{"slack", "U0BOB00001"}
)

// said is the sentence that a refused person reads; "" is no refusal.
func said(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	denied, ok := errors.AsType[*Denied](err)
	if !ok {
		t.Fatalf("want *Denied, got %T: %v", err, err)
	}
	return denied.UserMessage()
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	policy := NewPolicy(alice, Person{"console", "alice"}, Person{"slack", ""}, Person{"", "U0ALICE001"})
	const stranger = "You may not do that here: slack:U0BOB00001 is not on the allowlist (auth.slack)."
	const nobody = "You may not do that here: the chat did not say who you are."
	for _, c := range []struct {
		story  string
		policy Policy
		who    Person
		act    Act
		want   string
	}{
		{"listed", policy, alice, Talk, ""},
		{"listed, change", policy, alice, Change, ""},
		{"listed, confirm", policy, alice, Confirm, ""},
		{"stranger", policy, bob, Talk, stranger},
		{"stranger looks", policy, bob, Look, stranger},
		{"stranger stops", policy, bob, Stop, stranger},
		{"zero policy", Policy{}, alice, Talk, "You may not do that here: slack:U0ALICE001 is not on the allowlist (auth.slack)."},
		{"policy of nobody", NewPolicy(), alice, Look, "You may not do that here: slack:U0ALICE001 is not on the allowlist (auth.slack)."},
		{"the ID of another chat", policy, Person{"mattermost", "U0ALICE001"}, Talk, "You may not do that here: mattermost:U0ALICE001 is not on the allowlist (auth.mattermost)."},
		{"other case", policy, Person{"slack", "u0alice001"}, Talk, "You may not do that here: slack:u0alice001 is not on the allowlist (auth.slack)."},
		{"blank behind", policy, Person{"slack", "U0ALICE001 "}, Talk, "You may not do that here: slack:U0ALICE001  is not on the allowlist (auth.slack)."},
		{"look-alike letter", policy, Person{"slack", "U0АLICE001"}, Talk, "You may not do that here: slack:U0АLICE001 is not on the allowlist (auth.slack)."},
		{"empty ID, though listed", policy, Person{"slack", ""}, Look, nobody},
		{"empty chat, though listed", policy, Person{"", "U0ALICE001"}, Look, nobody},
		{"nobody", policy, Person{}, Look, nobody},
		{"unknown act", policy, alice, "destroy", `You may not do that here: "destroy" is nothing that anybody may do.`},
		{"no act", policy, alice, "", `You may not do that here: "" is nothing that anybody may do.`},
	} {
		if got := said(t, c.policy.Check(c.who, c.act)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.story, got, c.want)
		}
	}
}

func TestWhoMayConfirm(t *testing.T) {
	t.Parallel()
	const unsaid = "You may not confirm this: the chat did not say who you are."
	const unasked = "Nobody may confirm this: it is not recorded who asked for it. Ask again."
	for _, c := range []struct {
		by                   By
		requester, confirmer Person
		want                 string
	}{
		{Requester, alice, alice, ""},
		{Requester, alice, bob, "Only slack:U0ALICE001, who asked, may confirm this."},
		{Requester, alice, Person{"console", "U0ALICE001"}, "Only slack:U0ALICE001, who asked, may confirm this."},
		{Any, alice, bob, ""},
		{Any, alice, alice, ""},
		{Other, alice, bob, ""},
		{Other, alice, alice, "A second person has to confirm this; you asked for it."},
		{Any, alice, Person{}, unsaid},
		{Requester, Person{}, Person{}, unsaid},
		{Other, Person{}, bob, unasked},
		{Any, Person{}, bob, unasked},
		{"", alice, alice, `Nobody may confirm this: "" does not say who may (confirm.by).`},
		{"Any", alice, bob, `Nobody may confirm this: "Any" does not say who may (confirm.by).`},
	} {
		if got := said(t, c.by.Check(c.requester, c.confirmer)); got != c.want {
			t.Errorf("by %q, %s asked, %s confirms: got %q, want %q", c.by, c.requester, c.confirmer, got, c.want)
		}
	}
}

func TestParseBy(t *testing.T) {
	t.Parallel()
	for _, b := range []By{Requester, Any, Other} {
		if got, err := ParseBy(string(b)); err != nil || got != b {
			t.Errorf("%s: got %q, %v", b, got, err)
		}
	}
	for _, s := range []string{"", "OTHER", "other ", "everybody"} {
		got, err := ParseBy(s)
		unknown, ok := errors.AsType[*UnknownBy](err)
		if !ok || got != "" {
			t.Fatalf("%q: got %q, %v", s, got, err)
		}
		if want := `"` + s + `" does not say who may confirm; use one of: requester any other`; unknown.UserMessage() != want {
			t.Errorf("got %q, want %q", unknown.UserMessage(), want)
		}
	}
}

func TestParsePerson(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Person{
		"slack:U0ALICE001":  alice,
		"console:a:b":       {"console", "a:b"},
		"console: alice":    {"console", " alice"}, // bytes are bytes; the policy will not know them
		"mattermost:x\x00y": {"mattermost", "x\x00y"},
	} {
		got, err := ParsePerson(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("%q: got %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ":", "slack", "slack:", ":U0ALICE001"} {
		_, err := ParsePerson(s)
		malformed, ok := errors.AsType[*Malformed](err)
		if !ok {
			t.Fatalf("%q: got %v", s, err)
		}
		if want := `"` + s + `" is not a person; write chat:ID, such as slack:U0123456789`; malformed.UserMessage() != want {
			t.Errorf("got %q, want %q", malformed.UserMessage(), want)
		}
	}
}
