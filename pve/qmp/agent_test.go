package qmp_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"bgbot/pve/qmp"
)

func openAgent(t testing.TB, socket string) *qmp.Agent {
	t.Helper()
	a, err := qmp.DialAgent(patient(t), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func TestTheGuestAnswers(t *testing.T) {
	t.Parallel()
	a := openAgent(t, guest(t, &fake{}))
	if err := a.Do(patient(t), "guest-ping", nil, nil); err != nil {
		t.Error(err)
	}
	err := a.Do(patient(t), "guest-dance", nil, nil)
	if _, ok := errors.AsType[*qmp.CommandError](err); !ok {
		t.Errorf("got %v", err)
	}
	if err := a.Do(patient(t), "guest-ping", nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// What earlier clients did not wait for stands between us and our answer.
func TestOldAnswersAreSkipped(t *testing.T) {
	t.Parallel()
	for name, stale := range map[string]string{
		"an answer":           `{"return": {}}` + "\n",
		"a part of one":       `{"return": {"buf-b64": "AAAA`,
		"another sync":        "\xff" + `{"return": 1}` + "\n",
		"a part of a sync":    "\xff" + `{"retu`,
		"a bare sentinel":     "\xff",
		"a complaint":         `{"error": {"class": "GenericError", "desc": "Invalid JSON syntax"}}` + "\n",
		"more than we'd keep": `{"return": {"buf-b64": "` + strings.Repeat("A", 2*qmp.MaxLine) + `"}}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := openAgent(t, guest(t, &fake{hello: stale})).Do(patient(t), "guest-ping", nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNoAgentInTheGuest(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]string{"nothing": "", "chatter without an answer": "login: \n\xff{\"return\": 5}\n\xff\n"} {
		socket := guest(t, &fake{script: map[string]string{"guest-sync-delimited": sent}})
		err := hush(t, func(ctx context.Context) error {
			_, err := qmp.DialAgent(ctx, socket)
			return err
		})
		if !errors.Is(err, qmp.ErrSilent) || err.Error() != socket+": no answer in time" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFileOfTheGuest(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 30_000)
	a := openAgent(t, guest(t, &fake{files: map[string]string{"/key": "ssh-ed25519 AAAA", "/empty": "", "/long": long}}))
	for path, want := range map[string]string{"/key": "ssh-ed25519 AAAA", "/empty": "", "/long": long} {
		for _, limit := range []int{len(want), len(want) + 1} {
			if got, err := a.ReadFile(patient(t), path, limit); err != nil || string(got) != want {
				t.Errorf("%s: %d bytes, %v", path, len(got), err)
			}
		}
	}
	for path, want := range map[string]string{
		"/key":  "/key: longer than 15 bytes",
		"/long": "/long: longer than 15 bytes",
		"/none": "/none: guest-file-open: failed to open file '/none' (mode: 'r'): No such file or directory (GenericError)",
	} {
		if _, err := a.ReadFile(patient(t), path, 15); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	var open int
	if err := a.Do(patient(t), "guest-get-open", nil, &open); err != nil || open != 0 {
		t.Errorf("%d files stayed open (%v)", open, err)
	}
}

// A guest is not to be trusted: it must cost neither our time nor our memory.
func TestAGuestThatLies(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ sent, want string }{
		"no end":    {`{"return": {"count": 0, "buf-b64": "", "eof": false}}`, "/x: the agent sends nothing and names no end"},
		"too much":  {`{"return": {"count": 1, "buf-b64": "` + strings.Repeat("AAAA", 20) + `", "eof": true}}`, "/x: longer than 10 bytes"},
		"no base64": {`{"return": {"count": 1, "buf-b64": "!", "eof": true}}`, "/x: guest-file-read: the answer is not what was expected: illegal base64 data at input byte 0"},
	} {
		a := openAgent(t, guest(t, &fake{files: map[string]string{"/x": "x"}, script: map[string]string{"guest-file-read": tt.sent + "\n"}}))
		if _, err := a.ReadFile(patient(t), "/x", 10); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
}
