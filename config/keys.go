package config

import (
	"reflect"
	"slices"
	"strings"
)

// field is one key: a leaf of [Config].
type field struct {
	path  string // agent.turn_timeout
	def   string
	value reflect.Value
}

// fieldsOf lists every key of cfg. The struct is the only list of keys that there is.
func fieldsOf(cfg *Config) []field {
	return appendFields(nil, "", "", reflect.ValueOf(cfg).Elem())
}

func appendFields(to []field, prefix, override string, section reflect.Value) []field {
	overridden, override, _ := strings.Cut(override, "=")
	for i := range section.NumField() {
		t := section.Type().Field(i)
		if !t.IsExported() {
			continue
		}
		name, def := t.Tag.Get("mapstructure"), t.Tag.Get("default")
		if isSection(t.Type) {
			to = appendFields(to, prefix+name+".", def, section.Field(i))
			continue
		}
		if name == overridden {
			def = override
		}
		to = append(to, field{path: prefix + name, def: def, value: section.Field(i)})
	}
	return to
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[Secret]()
}

// envName is the variable of a key: BGBOT_AGENT_TURN_TIMEOUT.
func envName(path string) string {
	return "BGBOT_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// nearest is the one of known that is least different from s. No key is long, so the end of a long s says nothing.
func nearest(s string, known []string) string {
	s = s[:min(len(s), 64)]
	return slices.MinFunc(known, func(a, b string) int { return distance(s, a) - distance(s, b) })
}

// distance counts the letters to insert, delete or replace to come from a to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
