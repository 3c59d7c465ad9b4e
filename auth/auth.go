// Package auth decides who may do what: a person by ID, an act, a policy. It is pure; it knows no chat, no display
// names and no network. The zero Policy denies everybody.
package auth
