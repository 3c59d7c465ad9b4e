package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func TestASecretShowsNowhere(t *testing.T) {
	t.Parallel()
	const plain = "xoxb-hunter2"
	s := NewSecret(plain)
	hiddenInside := struct{ token Secret }{s}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("connected", "token", s, "config", Config{Slack: Slack{BotToken: s}})
	}
	asJSON, err := json.Marshal(Config{Slack: Slack{BotToken: s}})
	if err != nil {
		t.Fatal(err)
	}
	asText, err := s.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{log.String(), string(asJSON), string(asText), s.String(), s.GoString(), fmt.Errorf("login with %s", s).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%T"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, Config{Slack: Slack{BotToken: s}}), fmt.Sprintf(verb, hiddenInside))
	}
	for _, text := range shown {
		if strings.Contains(text, plain) || strings.Contains(text, fmt.Sprintf("%x", plain)) {
			t.Errorf("the secret shows in %s", text)
		}
	}
	if got := fmt.Sprint(s); got != "[secret]" {
		t.Errorf("got %q", got)
	}
	if got := fmt.Sprint(Secret{}); got != "" {
		t.Errorf("no secret prints %q", got)
	}
	if s.Reveal() != plain {
		t.Error("Reveal lost it")
	}
}

func TestASecretShowsInNoProblem(t *testing.T) {
	t.Parallel()
	const plain = "hunter2-hunter2"
	l := newLab(t)
	for _, f := range fieldsOf(new(Config)) {
		if _, ok := reflect.TypeAssert[Secret](f.value); !ok {
			continue
		}
		_, err := Load("", l.environ(map[string]string{
			f.path: plain, "vm.vmid": "0", "slack.channel": "C0123456789", "mattermost.url": "ftp://x",
		}))
		invalid, ok := errors.AsType[*Invalid](err)
		if !ok {
			t.Fatalf("%s: want *Invalid, got %v", f.path, err)
		}
		if strings.Contains(invalid.UserMessage()+invalid.Error(), plain) {
			t.Errorf("%s shows in %s", f.path, invalid.UserMessage())
		}
	}
}
