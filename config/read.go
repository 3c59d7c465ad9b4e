package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// readFile returns what the file gives: path of the key to string, []string or map[string]string. Scalars stay the
// text that was written, so that a file and the environment are read by one and the same [convert]. The walk over the
// nodes, and not viper's own reader, is what knows line numbers and keeps the case of agent.env's names. It returns nil
// if there is nothing to read.
func readFile(path string, p *problems) map[string]any {
	given := make(map[string]any)
	if path == "" {
		return given
	}
	data, err := os.ReadFile(path)
	if err != nil {
		p.add("file", "%s", unreadable(path, err))
		return nil
	}
	var doc, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) { // an empty file is a file of defaults
			return given
		}
		p.add("file", "not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		p.add("file", "holds more than one YAML document; keep one")
	}
	w := walker{given: given, p: p}
	for _, f := range fieldsOf(new(Config)) {
		for i := range f.path {
			if f.path[i] == '.' {
				w.known = append(w.known, f.path[:i])
			}
		}
		w.known = append(w.known, f.path)
	}
	w.section("", reflect.TypeFor[Config](), doc.Content[0])
	return given
}

// walker goes over the nodes of a file beside the type that they should fill.
type walker struct {
	given map[string]any
	known []string // keys and sections, to guess what a typo meant
	p     *problems
}

func (w *walker) section(prefix string, t reflect.Type, n *yaml.Node) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		w.p.unreadable(strings.TrimSuffix(prefix, "."), "expected a section of keys, found a value (line %d)", n.Line)
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		if line, ok := seen[key.Value]; ok {
			w.p.unreadable(path, "given twice (lines %d and %d); keep one", line, key.Line)
			continue
		}
		seen[key.Value] = key.Line
		ft, ok := fieldType(t, key.Value)
		switch {
		case !ok:
			w.p.add(path, "unknown key (line %d); did you mean %s?", key.Line, nearest(path, w.known))
		case isSection(ft):
			w.section(path+".", ft, value)
		default:
			w.leaf(path, ft, value)
		}
	}
}

func (w *walker) leaf(path string, t reflect.Type, n *yaml.Node) {
	if isNull(n) {
		return
	}
	wrong := func(want string) { w.p.unreadable(path, "expected %s (line %d)", want, n.Line) }
	switch t.Kind() {
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			wrong("a list, such as [a, b]")
			return
		}
		list := make([]string, 0, len(n.Content))
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				wrong("a list of plain values")
				return
			}
			list = append(list, item.Value)
		}
		w.given[path] = list
	case reflect.Map:
		var m map[string]string
		if n.Kind != yaml.MappingNode || n.Decode(&m) != nil {
			wrong("names with plain values, such as {a: b}")
			return
		}
		w.given[path] = m
	default:
		if n.Kind != yaml.ScalarNode {
			wrong("one plain value")
			return
		}
		w.given[path] = n.Value
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func fieldType(section reflect.Type, key string) (reflect.Type, bool) {
	for f := range section.Fields() {
		if f.IsExported() && f.Tag.Get("mapstructure") == key {
			return f.Type, true
		}
	}
	return nil, false
}

// Kubernetes puts the address of every Service into the environment of each pod of its namespace, so a Service called
// bgbot-http brings BGBOT_HTTP_SERVICE_HOST and BGBOT_HTTP_PORT_9102_TCP_ADDR (its documentation, "Discovering
// services"). No key of ours looks like that.
var ofKubernetes = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)$`)

// readEnviron returns what the variables give. A name that begins like one of our sections but is no key is a typo;
// others that begin with BGBOT_ are not ours to judge.
func readEnviron(environ []string, p *problems) map[string]any {
	paths, sections := make(map[string]string), make(map[string]bool)
	var names []string
	for _, f := range fieldsOf(new(Config)) {
		name := envName(f.path)
		names, paths[name] = append(names, name), f.path
		if section, _, nested := strings.Cut(f.path, "."); nested {
			sections[strings.ToUpper(section)] = true
		}
	}
	given := make(map[string]any)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		rest, ours := strings.CutPrefix(name, "BGBOT_")
		if !ours || value == "" {
			continue
		}
		if path, ok := paths[name]; ok {
			given[path] = value
			continue
		}
		if section, _, nested := strings.Cut(rest, "_"); nested && sections[section] && !ofKubernetes.MatchString(name) {
			p.add(name, "unknown variable; did you mean %s?", nearest(name, names))
		}
	}
	return given
}

// InEnviron says whether a variable sets a key, or was meant to.
func InEnviron(environ []string) bool {
	p := &problems{}
	return len(readEnviron(environ, p)) > 0 || len(p.lines) > 0
}

// decode fills cfg: defaults, then the file, then the environment.
func decode(cfg *Config, file, environ map[string]any, p *problems) {
	v := viper.New()
	for _, f := range fieldsOf(cfg) {
		v.SetDefault(f.path, f.def)
		if given, ok := file[f.path]; ok {
			v.Set(f.path, given)
		}
		if given, ok := environ[f.path]; ok {
			v.Set(f.path, given)
		}
	}
	p.decoding(v.UnmarshalExact(cfg, viper.DecodeHook(convert)))
}

// convert makes a value of type to from the text that somebody wrote. Its errors follow the name of the key.
func convert(_, to reflect.Type, data any) (any, error) {
	text, ok := data.(string)
	if !ok {
		return data, nil
	}
	text = strings.TrimSpace(text)
	switch to {
	case reflect.TypeFor[Secret]():
		return NewSecret(text), nil
	case reflect.TypeFor[time.Duration]():
		return parse(text, time.ParseDuration, "a duration; write 30s, 5m or 2h")
	case reflect.TypeFor[int]():
		return parse(text, strconv.Atoi, "a whole number")
	case reflect.TypeFor[float64]():
		return parse(text, parseFloat, "a number")
	case reflect.TypeFor[bool]():
		return parse(text, parseSwitch, "a switch; write on or off")
	case reflect.TypeFor[[]string]():
		return splitList(text), nil
	case reflect.TypeFor[map[string]string]():
		return splitPairs(text)
	default:
		return text, nil
	}
}

// parse runs parser and, if it fails, says what it wanted: the parsers' own errors name Go functions.
func parse[T any](text string, parser func(string) (T, error), want string) (any, error) {
	value, err := parser(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not %s", text, want)
	}
	return value, nil
}

// parseFloat takes finite numbers only: no limit is reached by NaN.
func parseFloat(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
		err = strconv.ErrRange
	}
	return f, err
}

func parseSwitch(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "on", "true", "yes":
		return true, nil
	case "off", "false", "no":
		return false, nil
	default:
		return false, strconv.ErrSyntax
	}
}

func splitList(text string) []string {
	if text == "" {
		return nil
	}
	list := strings.Split(text, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

func splitPairs(text string) (any, error) {
	pairs := make(map[string]string)
	for _, pair := range splitList(text) {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not name=value", pair)
		}
		pairs[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return pairs, nil
}
