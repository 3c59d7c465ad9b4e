package qmp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bgbot/pve/qmp"
)

// hush asks what will not be answered. On a busy machine the time may be over before the question is out; then it asks
// again, with more time.
func hush(t testing.TB, ask func(context.Context) error) error {
	for limit := 50 * time.Millisecond; ; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err := ask(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || limit > time.Minute {
			return err
		}
	}
}

// unserved dials a monitor that will not greet.
func unserved(t testing.TB, socket string) error {
	return hush(t, func(ctx context.Context) error {
		m, err := qmp.Dial(ctx, socket)
		if err == nil {
			m.Close()
		}
		return err
	})
}

// patient bounds what is expected to answer.
func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func open(t testing.TB, socket string) *qmp.Monitor {
	t.Helper()
	m, err := qmp.Dial(patient(t), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

type status struct{ Status string }

func TestAQuestionIsAnswered(t *testing.T) {
	t.Parallel()
	m := open(t, monitor(t, &fake{}))
	if got := m.Version(); got != "9.2.0 (pve-qemu-kvm_9.2.0-5)" {
		t.Errorf("version: %s", got)
	}
	var got status
	if err := m.Do(patient(t), "query-status", nil, &got); err != nil || got.Status != "running" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestARefusalDoesNotEndTheConversation(t *testing.T) {
	t.Parallel()
	m := open(t, monitor(t, &fake{}))
	err := m.Do(patient(t), "query-weather", nil, nil)
	refused, ok := errors.AsType[*qmp.CommandError](err)
	if !ok || refused.Class != "CommandNotFound" || err.Error() != "query-weather: The command query-weather has not been found (CommandNotFound)" {
		t.Errorf("got %v", err)
	}
	if err := m.Do(patient(t), "query-status", make(chan int), nil); err == nil {
		t.Error("arguments that JSON does not know were sent")
	}
	var wrong []int
	if err := m.Do(patient(t), "query-status", nil, &wrong); err == nil || !strings.HasPrefix(err.Error(), "query-status: the answer is not what was expected") {
		t.Errorf("got %v", err)
	}
	if err := m.Do(patient(t), "query-status", nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "s")
	left := filepath.Join(t.TempDir(), "s") // as a killed QEMU leaves it
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	for _, socket := range []string{none, left} {
		if _, err := qmp.Dial(patient(t), socket); !errors.Is(err, qmp.ErrAbsent) || err.Error() != socket+": nobody listens" {
			t.Errorf("monitor: %v", err)
		}
		if _, err := qmp.DialAgent(patient(t), socket); !errors.Is(err, qmp.ErrAbsent) {
			t.Errorf("agent: %v", err)
		}
	}
}

// Whoever comes second is not greeted, and is served once the first has left.
func TestAnotherClientHoldsTheMonitor(t *testing.T) {
	t.Parallel()
	socket := monitor(t, &fake{})
	first := open(t, socket)
	if err := unserved(t, socket); !errors.Is(err, qmp.ErrSilent) || err.Error() != socket+": no answer in time" {
		t.Errorf("second: %v", err)
	}
	first.Close()
	open(t, socket)
}

// A QEMU whose main loop hangs accepts nobody, and the line of those who wait is full when two have given up.
func TestTheLineOfWaitingClientsIsFull(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := unserved(t, socket); !errors.Is(err, qmp.ErrSilent) {
			t.Errorf("client %d: %v", i, err)
		}
	}
}

func TestOddAnswers(t *testing.T) {
	t.Parallel()
	const fine = `{"return": {"status": "running"}, "id": $id}` + "\r\n"
	for name, tt := range map[string]struct{ sent, want string }{
		"many events":      {strings.Repeat(event, 1000) + fine, ""},
		"an older answer":  {`{"return": {"status": "old"}, "id": 1}` + "\r\n" + fine, ""},
		"a foreign answer": {`{"return": {"status": "old"}, "id": "x"}` + "\n" + `{"return": {}}` + "\n" + fine, ""},
		"empty lines":      {"\r\n\r\n  \r\n" + fine, ""},
		"unread command":   {`{"error": {"class": "GenericError", "desc": "JSON parse error"}}` + "\n", "query-status: JSON parse error (GenericError)"},
		"no JSON":          {"(qemu) info status\r\n", `query-status: SOCKET: not a message of QEMU: "(qemu) info status"`},
		"no object":        {"null\n", `query-status: SOCKET: not a message of QEMU: "null"`},
		"no result":        {`{"id": $id}` + "\n", "query-status: the answer is not what was expected: unexpected end of JSON input"},
		"endless line":     {`{"x": "` + strings.Repeat("x", qmp.MaxLine) + `"}` + "\n" + fine, fmt.Sprintf("query-status: SOCKET: a line is longer than %d bytes", qmp.MaxLine)},
		"hangup":           {"hangup", "query-status: SOCKET: hung up"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := monitor(t, &fake{script: map[string]string{"query-status": tt.sent}})
			var got status
			err := open(t, socket).Do(patient(t), "query-status", nil, &got)
			if tt.want == "" {
				if err != nil || got.Status != "running" {
					t.Errorf("got %+v, %v", got, err)
				}
			} else if want := strings.ReplaceAll(tt.want, "SOCKET", socket); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestNotAMonitor(t *testing.T) {
	t.Parallel()
	for hello, want := range map[string]string{
		"QEMU 9.2.0 monitor\r\n": `not a message of QEMU: "QEMU 9.2.0 monitor"`,
		`{"return": {}}` + "\n":  "not a monitor: it does not greet",
		`{"QMP": 7}` + "\n":      `not a message of QEMU: "{\"QMP\": 7}"`,
	} {
		if _, err := qmp.Dial(patient(t), monitor(t, &fake{hello: hello})); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v", hello, err)
		}
	}
}

// After silence the conversation is over, even if the answer comes after all.
func TestSilenceEndsTheConversation(t *testing.T) {
	t.Parallel()
	socket := monitor(t, &fake{script: map[string]string{"query-block": "", "query-jobs": `{"return": {"half": `}})
	for _, command := range []string{"query-block", "query-jobs"} {
		m := open(t, socket)
		err := hush(t, func(ctx context.Context) error { return m.Do(ctx, command, nil, nil) })
		if !errors.Is(err, qmp.ErrSilent) || err.Error() != command+": "+socket+": no answer in time" {
			t.Errorf("got %v", err)
		}
		if err := m.Do(patient(t), "query-status", nil, nil); !errors.Is(err, qmp.ErrSilent) {
			t.Errorf("afterwards: %v", err)
		}
		m.Close()
	}
}

func TestACancelledQuestionTellsTheCause(t *testing.T) {
	t.Parallel()
	m := open(t, monitor(t, &fake{script: map[string]string{"query-block": ""}}))
	cause := errors.New("somebody said stop")
	ctx, cancel := context.WithCancelCause(patient(t))
	asked := make(chan error, 1)
	go func() { asked <- m.Do(ctx, "query-block", nil, nil) }()
	cancel(cause)
	if err := <-asked; !errors.Is(err, cause) || errors.Is(err, qmp.ErrSilent) {
		t.Errorf("got %v", err)
	}
}

// A context that ends right after its answer must not cut off the next question.
func TestAnEndedContextHurtsNobodyElse(t *testing.T) {
	t.Parallel()
	m := open(t, monitor(t, &fake{}))
	for range 200 {
		ctx, cancel := context.WithCancel(patient(t))
		if err := m.Do(ctx, "query-status", nil, nil); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := m.Do(ctx, "query-status", nil, nil); !errors.Is(err, context.Canceled) {
			t.Fatalf("asked after the end: %v", err)
		}
	}
	over, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	if _, err := qmp.Dial(over, "/nowhere"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, qmp.ErrSilent) {
		t.Errorf("dialled after the end: %v", err)
	}
}

func TestThePicture(t *testing.T) {
	t.Parallel()
	want := frame(720, 400)
	m := open(t, monitor(t, &fake{picture: want}))
	for range 3 {
		got, err := m.Screen(patient(t))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	var sets int
	if err := m.Do(patient(t), "query-fdsets", nil, &sets); err != nil || sets != 0 {
		t.Errorf("%d descriptors stayed behind (%v)", sets, err)
	}
}

func TestNoPicture(t *testing.T) {
	t.Parallel()
	refused := `{"error": {"class": "GenericError", "desc": "no such display"}, "id": $id}` + "\n"
	for name, tt := range map[string]struct {
		fake *fake
		want string
	}{
		"no display": {&fake{script: map[string]string{"screendump": refused}}, "screendump: no such display (GenericError)"},
		"no set":     {&fake{script: map[string]string{"add-fd": refused}}, "add-fd: no such display (GenericError)"},
		"nothing":    {&fake{}, "screendump: QEMU wrote nothing"},
		"too large":  {&fake{picture: make([]byte, qmp.MaxScreen+1)}, "screendump: a picture of 67108865 bytes; at most 67108864 are read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, monitor(t, tt.fake))
			if _, err := m.Screen(patient(t)); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			var sets int
			if err := m.Do(patient(t), "query-fdsets", nil, &sets); err != nil || sets != 0 {
				t.Errorf("%d descriptors stayed behind (%v)", sets, err)
			}
		})
	}
}

// Not parallel: it counts the open files of the process.
func TestNothingStaysOpen(t *testing.T) {
	socket := monitor(t, &fake{picture: frame(2, 2), script: map[string]string{"query-block": ""}})
	round := func() {
		m, err := qmp.Dial(patient(t), socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Screen(patient(t)); err != nil {
			t.Fatal(err)
		}
		if err := hush(t, func(ctx context.Context) error { return m.Do(ctx, "query-block", nil, nil) }); !errors.Is(err, qmp.ErrSilent) {
			t.Fatal(err)
		}
		m.Close()
		if _, err := qmp.Dial(patient(t), socket+"x"); !errors.Is(err, qmp.ErrAbsent) {
			t.Fatal(err)
		}
	}
	round()
	before := openFiles(t)
	for range 5 {
		round()
	}
	if after := openFiles(t); after > before+2 { // the fake may still hold its last client
		t.Errorf("%d files were open, now %d", before, after)
	}
}

func BenchmarkScreen(b *testing.B) {
	want := frame(1280, 800)
	m := open(b, monitor(b, &fake{picture: want}))
	b.SetBytes(int64(len(want)))
	for b.Loop() {
		if got, err := m.Screen(b.Context()); err != nil || len(got) != len(want) {
			b.Fatal(len(got), err)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	m := open(b, monitor(b, &fake{}))
	var got status
	for b.Loop() {
		if err := m.Do(b.Context(), "query-status", nil, &got); err != nil {
			b.Fatal(err)
		}
	}
}
