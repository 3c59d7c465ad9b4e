package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Invalid is a configuration that cannot be used. Problems are sorted lines, each "key: what is wrong; how to mend it".
type Invalid struct {
	Path     string // "" if no file was read
	Problems []string
}

func (e *Invalid) Error() string { return e.heading() + " " + strings.Join(e.Problems, " | ") }

// UserMessage lists the problems, a line each.
func (e *Invalid) UserMessage() string {
	return e.heading() + "\n  " + strings.Join(e.Problems, "\n  ")
}

func (e *Invalid) heading() string {
	what := "The configuration (environment only)"
	if e.Path != "" {
		what = "The configuration " + e.Path
	}
	if len(e.Problems) == 1 {
		return what + " has a problem:"
	}
	return fmt.Sprintf("%s has %d problems:", what, len(e.Problems))
}

// problems collects what is wrong, so that one start shows all of it.
type problems struct {
	path  string
	lines []string
	keys  []string // that have a problem: a key is blamed once
}

func (p *problems) add(key, format string, args ...any) {
	if slices.Contains(p.keys, key) {
		return
	}
	p.keys = append(p.keys, key)
	p.lines = append(p.lines, key+": "+fmt.Sprintf(format, args...))
}

// addDecodeErrors takes apart what the decoder of viper returns: a tree of joined errors, each with the key as its Name.
func (p *problems) addDecodeErrors(err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // this walks the tree by hand
		for _, e := range joined.Unwrap() {
			p.addDecodeErrors(e)
		}
		return
	}
	if named, ok := errors.AsType[interface {
		error
		Name() string
		Unwrap() error
	}](err); ok {
		p.add(named.Name(), "%s", named.Unwrap())
		return
	}
	p.add("configuration", "%s", err)
}

func (p *problems) err() error {
	if len(p.lines) == 0 {
		return nil
	}
	slices.Sort(p.lines)
	return &Invalid{Path: p.path, Problems: p.lines}
}
