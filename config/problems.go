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
	what := "The configuration"
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
	path    string
	lines   []string
	settled []string // keys that could not be read: no use to add that they are missing
}

// add says what is wrong with key, unless it could not even be read.
func (p *problems) add(key, format string, args ...any) {
	for _, s := range p.settled {
		if key == s || strings.HasPrefix(key, s+".") {
			return
		}
	}
	p.lines = append(p.lines, key+": "+fmt.Sprintf(format, args...))
}

// spare takes out the problems of keys that begin with one of prefixes.
func (p *problems) spare(prefixes []string) (lines []string) {
	p.lines = slices.DeleteFunc(p.lines, func(line string) bool {
		spared := slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(line, prefix) })
		if spared {
			lines = append(lines, line)
		}
		return spared
	})
	slices.Sort(lines)
	return lines
}

// unreadable says why key could not be read, and that nothing more need be said about it.
func (p *problems) unreadable(key, format string, args ...any) {
	p.add(key, format, args...)
	p.settled = append(p.settled, key)
}

// decoding takes apart what the decoder of viper returns: a tree of joined errors below a heading, each with the key as its
// Name.
func (p *problems) decoding(err error) {
	if err == nil {
		return
	}
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		for _, e := range joined.Unwrap() {
			p.decoding(e)
		}
		return
	}
	named, ok := errors.AsType[interface {
		error
		Name() string
		Unwrap() error
	}](err)
	if !ok {
		p.add("configuration", "%s", err)
		return
	}
	p.unreadable(named.Name(), "%s", named.Unwrap())
}

func (p *problems) err() error {
	if len(p.lines) == 0 {
		return nil
	}
	slices.Sort(p.lines)
	return &Invalid{Path: p.path, Problems: p.lines}
}
